"""score.json, score.md and score.png: every run, the tables with what we vouch for, the plot."""

import gc
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from teacher.bench.results import BASE, FOUR_TIMES, LARGE, LONG, SMALL, Results, Sweep, middle
from teacher.bench.variants import EXACT, OURS, READ, REFERENCE, ROWS, UNCOLLECTED
from teacher.bench.workload import Shape

VOCABULARIES = (SMALL, LARGE)


@dataclass(frozen=True)
class Promise:
    """A figure that we vouch for: at least `limit`, or at most."""

    name: str
    seen: float | None
    limit: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.seen is None:
            return "not measured"
        kept = self.seen <= self.limit if self.at_most else self.seen >= self.limit
        return "kept" if kept else "**missed**"


def promises(results: Results) -> list[Promise]:
    """What is promised, and what was seen of it."""
    memory = "memory above the models, vocabulary 151,936, times less: "
    return [
        *(_speed(results, vocabulary, least) for vocabulary, least in ((SMALL, 10.0), (LARGE, 8.0))),
        *(_uncollected_speed(results, vocabulary) for vocabulary in VOCABULARIES),
        Promise(f"{memory}64 explanations", results.memory_ratio(LARGE, BASE), 30.0),
        Promise(f"{memory}explanations of 4,096 tokens", results.memory_ratio(LARGE, LONG), 60.0),
        *(_exact_cost(results, vocabulary) for vocabulary in VOCABULARIES),
        *(_linearity(results, vocabulary) for vocabulary in VOCABULARIES),
    ]


def _speed(results: Results, vocabulary: int, least: float) -> Promise:
    seen = middle(results.speedups(vocabulary, BASE))
    return Promise(f"times fewer CPU seconds, vocabulary {vocabulary:,}", seen, least)


def _uncollected_speed(results: Results, vocabulary: int) -> Promise:
    seen = middle(results.uncollected_speedups(vocabulary, BASE))
    return Promise(f"the same, the reference's garbage collection off, vocabulary {vocabulary:,}", seen, 4.0)


def _exact_cost(results: Results, vocabulary: int) -> Promise:
    seen = middle(results.cpu_ratios(vocabulary, (BASE, EXACT), (BASE, OURS)))
    return Promise(f"exact KL over sampled KL, vocabulary {vocabulary:,}", seen, 2.2, at_most=True)


def _linearity(results: Results, vocabulary: int) -> Promise:
    seen = middle(results.cpu_ratios(vocabulary, (FOUR_TIMES, OURS), (BASE, OURS)))
    return Promise(f"256 explanations over 64, vocabulary {vocabulary:,}", seen, 4.2, at_most=True)


def described_machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "libraries": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "threads": str(torch.get_num_threads()),
        "objects that a garbage collection looks at": f"{len(gc.get_objects()):,}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def write_report(results: Results, out: Path) -> None:
    """Writes the three files, and prints the middle one."""
    text = "\n".join(_lines(results)) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "score.json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    (out / "score.md").write_text(text, encoding="utf-8")
    _plot(results, out / "score.png")
    print(text)


def _lines(results: Results) -> Iterator[str]:
    yield "# The scorer against the reference algorithm"
    yield ""
    yield f"`rlt bench score`, rounds in turn: {_rounds(results)}; one process, float32, bodies of 4 layers x 256."
    yield ", ".join(f"{name}: {value}" for name, value in results.machine.items()) + "."
    yield f"Largest difference between two rewards of one explanation: {results.worst_difference:.1e}."
    yield ""
    yield from _promise_table(results)
    for vocabulary in VOCABULARIES:
        yield from _base_table(results, vocabulary)
    yield from _sweep_table(results, "explanations", "By number of explanations, 50 to 400 tokens each")
    yield from _sweep_table(results, "length", "By tokens of one explanation alone")
    yield from _memory_table(results)


def _rounds(results: Results) -> int:
    return 1 + max(run.round for run in results.runs)


def _promise_table(results: Results) -> Iterator[str]:
    yield "| promise | limit | seen | |"
    yield "|---|---|---|---|"
    for promise in promises(results):
        sign = "≤" if promise.at_most else "≥"
        yield f"| {promise.name} | {sign} {promise.limit:g} | {_number(promise.seen)} | {promise.verdict} |"
    yield ""


def _base_table(results: Results, vocabulary: int) -> Iterator[str]:
    yield f"## 8 problems x 8 explanations of 50 to 400 tokens, vocabulary {vocabulary:,}"
    yield ""
    yield "| | rounds | CPU s | wall s | times fewer CPU s | least, most | with the reference's collection off |"
    yield "|---|---|---|---|---|---|---|"
    for variant in (REFERENCE, UNCOLLECTED, ROWS, READ, OURS, EXACT):
        costs = list(results.costs(vocabulary, BASE, variant).values())
        if not costs:
            continue
        ratios = results.speedups(vocabulary, BASE, variant)
        cpu, wall = (middle([getattr(cost, name) for cost in costs]) for name in ("cpu_seconds", "wall_seconds"))
        yield (
            f"| {variant} | {len(costs)} | {_number(cpu)} | {_number(wall)} | **{_number(middle(ratios))}** "
            f"| {_number(min(ratios))}, {_number(max(ratios))} "
            f"| {_number(middle(results.uncollected_speedups(vocabulary, BASE, variant)))} |"
        )
    yield ""


def _sweep_table(results: Results, sweep: Sweep, title: str) -> Iterator[str]:
    shapes = _shapes(results, sweep)
    if shapes in ([], [BASE]):
        return
    yield f"## {title}"
    yield ""
    names = ("ours, CPU s", "times fewer", "collection off")
    cells = [f"{name}, {vocabulary:,}" for vocabulary in VOCABULARIES for name in names]
    yield f"| {'explanations' if sweep == 'explanations' else 'tokens'} | {' | '.join(cells)} |"
    yield "|---" * (len(cells) + 1) + "|"
    for shape in shapes:
        values = [_number(value) for vocabulary in VOCABULARIES for value in _sweep_values(results, vocabulary, shape)]
        yield f"| {_place(sweep, shape):,} | {' | '.join(values)} |"
    yield ""


def _shapes(results: Results, sweep: Sweep) -> list[Shape]:
    """The sizes of a sweep in order; the base shape is one of those by explanations."""
    found = {run.shape for run in results.runs if run.sweep == sweep}
    with_base = found | ({BASE} if sweep == "explanations" else set())
    return sorted(with_base, key=lambda shape: _place(sweep, shape))


def _place(sweep: Sweep, shape: Shape) -> int:
    return shape.longest if sweep == "length" else shape.explanations


def _sweep_values(results: Results, vocabulary: int, shape: Shape) -> list[float | None]:
    ours = [cost.cpu_seconds for cost in results.costs(vocabulary, shape, OURS).values()]
    speedups, uncollected = results.speedups(vocabulary, shape), results.uncollected_speedups(vocabulary, shape)
    return [middle(ours), middle(speedups), middle(uncollected)]


def _memory_table(results: Results) -> Iterator[str]:
    yield "## Peak memory above the loaded models, MB, each in a process of its own"
    yield ""
    yield "| vocabulary | explanations | longest | variant | MB | times less |"
    yield "|---|---|---|---|---|---|"
    for each in results.memory:
        megabytes = None if each.bytes is None else each.bytes / 1e6
        ratio = results.memory_ratio(each.vocabulary, each.shape, each.variant)
        yield (
            f"| {each.vocabulary:,} | {each.shape.explanations} | {each.shape.longest:,} | {each.variant} "
            f"| {_number(megabytes)} | {_number(ratio)} |"
        )


def _number(value: float | None) -> str:
    """Three digits, or a dash.

    >>> _number(13.27), _number(1064.2), _number(0.0513), _number(None)
    ('13.3', '1,064', '0.051', '-')
    """
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def _plot(results: Results, path: Path) -> None:
    from matplotlib import pyplot

    figure, (many, long, memory) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    sweeps: list[tuple[Any, Sweep, str]] = [
        (many, "explanations", "explanations"),
        (long, "length", "tokens of one explanation"),
    ]
    for axis, sweep, label in sweeps:
        for vocabulary, colour in zip(VOCABULARIES, ("#4878a8", "#c44e52"), strict=True):
            _draw_sweep(axis, results, sweep, vocabulary, colour)
        axis.set(xscale="log", xlabel=label, ylim=(0, None))
        axis.axhline(1, color="grey", linewidth=0.8)
    many.set_ylabel("times fewer CPU seconds")
    many.legend(fontsize=7)
    _draw_memory(memory, results)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_sweep(axis: Any, results: Results, sweep: Sweep, vocabulary: int, colour: str) -> None:
    """Ratios by size: solid with the reference's collections, dashed without; dots are rounds."""
    shapes = [shape for shape in _shapes(results, sweep) if results.speedups(vocabulary, shape)]
    places = [_place(sweep, shape) for shape in shapes]
    collected = [results.speedups(vocabulary, shape) for shape in shapes]
    uncollected = [middle(results.uncollected_speedups(vocabulary, shape)) for shape in shapes]
    axis.plot(places, [middle(ratios) for ratios in collected], "-", color=colour, label=f"vocabulary {vocabulary:,}")
    axis.plot(places, uncollected, "--", color=colour, label="collection off")
    for place, ratios in zip(places, collected, strict=True):
        axis.plot([place] * len(ratios), ratios, "o", color=colour, markersize=3)


def _draw_memory(axis: Any, results: Results) -> None:
    """Peaks above the models as bars, on a logarithmic scale."""
    known = [each for each in results.memory if each.bytes]
    names = [f"{each.variant}\n{each.vocabulary:,}, {each.shape.longest:,} tokens" for each in known]
    colours = ["grey" if each.variant == REFERENCE else "#55a868" for each in known]
    axis.barh(range(len(known)), [(each.bytes or 0) / 1e6 for each in known], color=colours)
    axis.set(xscale="log", xlabel="MB above the models")
    axis.set_yticks(range(len(known)), names, fontsize=6)
    axis.invert_yaxis()
