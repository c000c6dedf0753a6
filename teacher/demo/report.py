"""The demo's report for people: report.html, one file that asks nothing of the network, and the closing table.

Every figure in the text is computed from the results, and so is whether it is what was hoped for. The words that do not
depend on them are in report.template.html.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, stdev

from jinja2 import Environment, PackageLoader, StrictUndefined

from student.problem_files import whole_file
from teacher.demo import pictures
from teacher.demo.chain import STUDENTS, TEACHERS
from teacher.demo.labels import ABLATION_LABELS, LABELS, STYLE_LABELS, UNTAUGHT
from teacher.demo.results import DemoReport, SeedResult
from teacher.demo.world import EXPLAINERS, STYLES, Chain, Style

TEMPLATE = "report.template.html"


@dataclass(frozen=True)
class Check:
    """Something that was hoped for, and what was measured."""

    hope: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Line:
    """One line of a table of accuracies."""

    label: str
    accuracy: str
    detail: str
    chosen: bool = False
    """Set off from the others."""


def write_report(report: DemoReport, path: Path) -> Path:
    """Writes the page, whole or not at all; returns its absolute path."""
    with whole_file(path) as file:
        file.write(render(report))
    return path.resolve()


def render(report: DemoReport) -> str:
    """The page as HTML; all is escaped but the pictures, which hold numbers and fixed words."""
    environment = Environment(
        loader=PackageLoader("teacher", "demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "nats": nats}
    return environment.get_template(TEMPLATE).render(
        report=report,
        first=report.seeds[0],
        temperature=f"{report.recipe['evaluate']['sampling']['temperature']:g}",
        means=Means(report.seeds),
        checks=list(checks(report)),
        lines=list(lines(report.seeds)),
        ablations=list(ablation_lines(report)),
        drawn=drawn(report),
        styles=STYLES,
        sample=sample(),
        leak_tempts=leak_tempts(report.seeds[0]),
        style_labels=STYLE_LABELS,
        cpu_seconds=sum(seed.cpu_seconds for seed in report.seeds),
    )


@dataclass(frozen=True)
class Means:
    """The means over the seeds that the text speaks of."""

    seeds: Sequence[SeedResult]

    def accuracy(self, student: str) -> float:
        """On the family of RL."""
        return fmean(seed.accuracy[student] for seed in self.seeds)

    def transfer(self, teacher: str) -> float:
        """On the family that RL never saw."""
        return fmean(seed.transfer[teacher] for seed in self.seeds)

    @property
    def untaught(self) -> float:
        """Of the base itself."""
        return fmean(seed.untaught for seed in self.seeds)


def leak_tempts(seed: SeedResult) -> bool:
    """Whether leaks are worth most under rSS alone, and less than complete explanations under the reward."""
    worth = seed.reward_by_style
    if "leak" not in worth or "complete" not in worth:
        return False
    return (
        worth["leak"].rss == max(each.rss for each in worth.values())
        and worth["leak"].reward < worth["complete"].reward
    )


@dataclass(frozen=True)
class Sample:
    """One problem explained in every style."""

    question: str
    solution: str
    texts: dict[Style, str]


def sample() -> Sample:
    """The problem that stands in world.py's docstring."""
    chain = Chain(3, (1, 5, 8, 2, 1))
    texts = {style: explain(chain, Random(0)) for style, explain in EXPLAINERS.items()}
    return Sample(chain.question, str(chain.values[-1]), texts)


def drawn(report: DemoReport) -> dict[str, str]:
    """The pictures as SVG, by name."""
    found = {
        "reward": pictures.reward_picture(report.seeds),
        "styles": pictures.styles_picture(report.seeds),
        "accuracy": pictures.accuracy_picture(report.seeds),
    }
    return found | ({"ranks": pictures.ranks_picture(report.reward_ranks)} if report.reward_ranks else {})


def checks(report: DemoReport) -> Iterator[Check]:
    """What was hoped for before the demo was run (toy-world.md, issue A), against what it found."""
    accuracies = [seed.accuracy for seed in report.seeds]
    over_base = [ratio(accuracy["rlt_teacher"], accuracy["base_teacher"]) for accuracy in accuracies]
    of_gold = [ratio(accuracy["rlt_teacher"], accuracy["gold"]) for accuracy in accuracies]
    means = Means(report.seeds)
    transfer = ratio(means.transfer("rlt_teacher"), means.transfer("base_teacher"))
    every = "" if len(report.seeds) == 1 else ", in every seed"
    yield Check(
        f"Students of the trained teacher solve at least 5 times as much as those of the base teacher{every}",
        f"{_listed([f'{value:.1f}' for value in over_base])} times",
        min(over_base) >= 5,
    )
    yield Check(
        f"They reach at least 80 % of what complete explanations reach{every}",
        _listed([percent(value) for value in of_gold]),
        min(of_gold) >= 0.8,
    )
    yield Check(
        "On the family that RL never saw, at least 3 times the base teacher's students, mean of the seeds",
        f"{transfer:.1f} times",
        transfer >= 3,
    )
    if "rss_only" in report.ablations:
        leaks = [found.leak_share or 0.0 for found in report.ablations["rss_only"].by_seed.values()]
        yield Check(
            f"Rewarded by rSS alone, the teacher gives the solution away: share of leaks above 90 %{every}",
            _listed([percent(share) for share in leaks]),
            min(leaks) > 0.9,
        )


def ratio(one: float, other: float) -> float:
    """one / other, infinite where a student solved something and the other nothing."""
    return one / other if other else float("inf") if one else 0.0


def lines(seeds: Sequence[SeedResult]) -> Iterator[Line]:
    """The table of students: accuracy, and its interval or its spread over the seeds."""
    yield _line(UNTAUGHT, [seed.untaught for seed in seeds], seeds[0].intervals["base"])
    for name in STUDENTS:
        values = [seed.accuracy[name] for seed in seeds]
        yield _line(LABELS[name], values, seeds[0].intervals[name], chosen=name == "rlt_teacher")
    for name in TEACHERS:
        values = [seed.transfer[name] for seed in seeds]
        interval = seeds[0].intervals[f"subtracts_{name}"]
        yield _line(f"{LABELS[name]}, other family", values, interval, chosen=name == "rlt_teacher")


def _line(label: str, values: Sequence[float], interval: tuple[float, float], *, chosen: bool = False) -> Line:
    if len(values) == 1:
        return Line(label, percent(values[0]), between(*interval), chosen)
    detail = f"± {percent(stdev(values))}, {between(min(values), max(values))}"
    return Line(label, percent(fmean(values)), detail, chosen)


def ablation_lines(report: DemoReport) -> Iterator[Line]:
    """The table of ablations: accuracy, and how much of what was learned from were leaks."""
    for name, found in report.ablations.items():
        leaks = "no explanations" if found.leak_share is None else percent(found.leak_share)
        values = [figures.accuracy for figures in found.by_seed.values()]
        spread = f" ± {percent(stdev(values))}" if len(values) > 1 else ""
        yield Line(ABLATION_LABELS.get(name, name), percent(found.accuracy) + spread, leaks)


def closing_table(report: DemoReport) -> str:
    """The accuracies as text for a terminal, and what they cost."""
    rows = [*lines(report.seeds), *ablation_lines(report)]
    width = max(len(row.label) for row in rows)
    temperature = report.recipe["evaluate"]["sampling"]["temperature"]
    count = "1 seed, 95 % interval" if len(report.seeds) == 1 else f"{len(report.seeds)} seeds, mean ± deviation, range"
    title = (
        f"{'the student learned from':<{width}}  accuracy at T = {temperature:g} on {report.held_out} problems; {count}"
    )
    table = [f"{row.label:<{width}}  {row.accuracy:>7}   {row.detail}".rstrip() for row in rows]
    cpu = sum(seed.cpu_seconds for seed in report.seeds)
    return "\n".join([title, *table, f"{cpu:.0f} CPU seconds in all"])


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values)


def percent(share: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.8535)
    '85.4 %'
    """
    return f"{share * 100:.1f} %"


def between(low: float, high: float) -> str:
    """Two fractions as percentages.

    >>> between(0.156, 0.189)
    '15.6 to 18.9 %'
    """
    return f"{low * 100:.1f} to {percent(high)}"


def nats(value: float) -> str:
    """A log-probability or reward, with a true minus sign.

    >>> nats(-0.4609)
    '−0.46'
    """
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
