"""Which figures of a training run stand together in a chart, and what marks its steps; numbers as they came.

Left out: how a chart is drawn, which is static/training.js's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from student.run_reading.figures import Figures, Series
from student.run_reading.runs import Run, RunEvent

HELD_OUT = "held-out reward"
"""The series that comes from another file; no log entry has this name."""


@dataclass(frozen=True)
class Kind:
    """A chart of every run that has measured some of it."""

    title: str
    unit: str
    names: tuple[str, ...]
    """Series; one that ends in "/" stands for all that begin so."""


CHARTS = (
    Kind("Reward", "nats, or share of right answers", ("reward", HELD_OUT)),
    Kind("rSS: is the solution understood?", "nats", ("rss/total", "rss/mean", "rss/min")),
    Kind("rKL: is each step plausible?", "nats", ("rkl/total", "rkl/mean", "rkl/max")),
    Kind(
        "Leaks, and ends that are missing",
        "share of explanations",
        ("explanation/leaks", "explanation/unclosed", "completions/clipped_ratio", "solution/missing"),
    ),
    Kind("Length", "tokens", ("explanation/tokens", "completions/mean_length", "completions/max_length")),
    Kind("Styles", "share of explanations", ("style/",)),
    Kind("Seconds a phase", "seconds a step", ("seconds/",)),
    Kind("Problems mixed, solved, without a spread", "a step", ("problems/", "group/without_spread")),
    Kind("Loss", "", ("loss",)),
    Kind("Distance to the reference, entropy", "nats", ("kl", "entropy")),
    Kind("Gradient", "norm", ("grad_norm",)),
)


@dataclass(frozen=True)
class Line:
    """A series in a chart."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """What is drawn together."""

    title: str
    unit: str
    lines: list[Line]


MarkKind = Literal["bad", "warn", "good", "plain"]


@dataclass(frozen=True)
class Mark:
    """A step at which something befell the run."""

    step: float
    kind: MarkKind
    text: str


def drawn(run: Run) -> dict[str, Any]:
    """Steps, charts and marks of a run, for the script that draws them."""
    steps, series = _with_held_out(run)
    return {
        "steps": steps,
        "charts": [asdict(chart) for chart in _charts(series)],
        "marks": [asdict(mark) for mark in (*_best(run), *filter(None, map(_mark, run.events)))],
    }


def grouped(figures: Figures) -> list[tuple[str, list[Series]]]:
    """Every series under the title of its chart, in the order of the charts; those of none at the end."""
    named = {series.name: series for series in figures.series}
    groups = []
    for kind in CHARTS:
        found = [named.pop(name) for name in list(_of(kind, list(named)))]
        groups += [(kind.title, found)] if found else []
    return [*groups, ("Others", list(named.values()))] if named else groups


def _charts(series: dict[str, list[float | None]]) -> Iterator[Chart]:
    """Without what was never anything but 0, which the table tells as well."""
    for kind in CHARTS:
        lines = [Line(name, series[name]) for name in _of(kind, list(series)) if any(series[name])]
        if lines:
            yield Chart(kind.title, kind.unit, lines)


def _of(kind: Kind, names: Sequence[str]) -> Iterator[str]:
    for wanted in kind.names:
        yield from (name for name in names if name == wanted or (wanted.endswith("/") and name.startswith(wanted)))


def _with_held_out(run: Run) -> tuple[list[float], dict[str, list[float | None]]]:
    """All series by all steps: those of log entries, and those of checkpoints at which held-out problems were read."""
    held_out = {each.step: each.reward for each in run.held_out}
    steps = sorted({*run.figures.steps, *held_out})
    series = {}
    for each in run.figures.series:
        known = dict(zip(run.figures.steps, each.values, strict=True))
        series[each.name] = [_short(known.get(step)) for step in steps]
    if held_out:
        series[HELD_OUT] = [_short(held_out.get(step)) for step in steps]
    return steps, series


def _short(value: float | None) -> float | None:
    """Six digits: more are not seen."""
    return None if value is None else float(f"{value:.6g}")


def _best(run: Run) -> list[Mark]:
    best = [each for each in run.held_out if each.best][-1:]
    return [Mark(each.step, "good", "best checkpoint") for each in best]


def _mark(event: RunEvent) -> Mark | None:
    """Of an event, but for the first start."""
    if event.event == "started":
        return Mark(event.step, "plain", "went on from here") if event.step else None
    kind: MarkKind = "warn" if event.event == "stopped" else "bad"
    name = {"paused": "watchdog", "stalled": "watchdog: no progress"}.get(event.event, event.event)
    return Mark(event.step, kind, name)
