"""The report's pictures, as SVG for the inside of a page: its fonts, and colours that follow its light or dark theme.

Each line or bar is the mean over the seeds. Matplotlib is given placeholder colours, which become the page's variables
(`var(--ink)` and so on); text stays text. Small in points, so that they can be read on a telephone.
"""

import re
from collections.abc import Callable, Sequence
from io import StringIO
from statistics import fmean, stdev

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from teacher.demo.chain import STUDENTS, TEACHERS, TRANSFER
from teacher.demo.labels import LABELS, UNTAUGHT
from teacher.demo.results import RankPoint, SeedResult
from teacher.demo.world import STYLES, Style

_VARIABLES = (
    *("--ink", "--quiet", "--line", "--reward", "--rss", "--rkl", "--bar", "--rlt", "--gold"),
    *(f"--style-{style}" for style in STYLES),
)
COLOURS = {name: f"#0b00{number:02x}" for number, name in enumerate(_VARIABLES)}
"""Each of the page's colour variables, and the placeholder that stands for it while matplotlib draws."""
SIZE = (4.8, 2.9)
"""Inches, of 72 points each."""
_RC = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.edgecolor": COLOURS["--line"],
    "axes.labelcolor": COLOURS["--quiet"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": COLOURS["--line"],
    "text.color": COLOURS["--ink"],
    "xtick.color": COLOURS["--quiet"],
    "ytick.color": COLOURS["--quiet"],
}


def style_colour(style: Style) -> str:
    """The placeholder for a style's colour."""
    return COLOURS[f"--style-{style}"]


def reward_picture(seeds: Sequence[SeedResult]) -> str:
    """Reward, rSS and rKL over the steps of RL."""

    def draw(axes: Axes) -> None:
        for name in ("reward", "rss", "rkl"):
            by_seed = [[getattr(step, name) for step in seed.steps] for seed in seeds]
            mean = [fmean(values) for values in zip(*by_seed, strict=True)]
            steps = [step.step for step in seeds[0].steps]
            for values in by_seed if len(seeds) > 1 else []:
                axes.plot(steps, values, color=COLOURS[f"--{name}"], linewidth=0.5, alpha=0.35)
            axes.plot(steps, mean, color=COLOURS[f"--{name}"], linewidth=1.6)
        axes.set_xlabel("step of RL")
        axes.set_ylabel("nats")
        axes.grid(axis="y", linewidth=0.5)

    return _picture(draw, "Reward and its two terms over the steps of RL", "reward")


def styles_picture(seeds: Sequence[SeedResult]) -> str:
    """The share of each explanation style over the steps of RL, stacked."""

    def draw(axes: Axes) -> None:
        steps = [step.step for step in seeds[0].steps]
        by_step = list(zip(*(seed.steps for seed in seeds), strict=True))
        shares = [[fmean(step.styles[style] for step in same) for same in by_step] for style in STYLES]
        axes.stackplot(steps, *shares, colors=[style_colour(style) for style in STYLES], linewidth=0)
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
        axes.set_xlabel("step of RL")

    return _picture(draw, "Share of each explanation style over the steps of RL", "styles")


def accuracy_picture(seeds: Sequence[SeedResult]) -> str:
    """The students' accuracies: bars with the seeds as dots and one standard deviation; one seed has its interval."""
    bars = [(UNTAUGHT, "base", [seed.untaught for seed in seeds], "--bar")]
    for name in STUDENTS:
        colour = {"rlt_teacher": "--rlt", "gold": "--gold"}.get(name, "--bar")
        bars.append((LABELS[name], name, [seed.accuracy[name] for seed in seeds], colour))
    for name in TEACHERS:
        colour = "--rlt" if name == "rlt_teacher" else "--bar"
        label = f"{LABELS[name]}, other family"
        bars.append((label, TRANSFER + name, [seed.transfer[name] for seed in seeds], colour))

    def draw(axes: Axes) -> None:
        for place, (label, name, values, colour) in enumerate(bars):
            _bar(axes, place + (place > len(STUDENTS)) * 0.4, label, values, colour, seeds[0].intervals[name])
        axes.set_xlim(0, 1.12)
        axes.set_ylim(len(bars) - 0.1, -0.8)
        axes.set_yticks([])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
        axes.spines["left"].set_visible(False)

    return _picture(draw, "Accuracy of each student on held-out problems", "accuracy", height=4.2)


def _bar(
    axes: Axes, place: float, label: str, values: Sequence[float], colour: str, interval: tuple[float, float]
) -> None:
    mean = fmean(values)
    axes.barh(place, mean, height=0.36, color=COLOURS[colour])
    axes.text(0, place - 0.26, label, va="bottom", fontsize=9)
    several = len(values) > 1
    low, high = (mean - stdev(values), mean + stdev(values)) if several else interval
    axes.plot([low, high], [place, place], color=COLOURS["--ink"], linewidth=1.2, solid_capstyle="butt")
    if several:
        axes.plot(values, [place] * len(values), "o", color=COLOURS["--ink"], markersize=2.5, alpha=0.6)
    axes.text(max(mean, high, *values) + 0.015, place, f"{mean * 100:.1f} %", va="center", fontsize=9)


def ranks_picture(points: Sequence[RankPoint]) -> str:
    """Accuracy against the rank of the reward, one line a seed."""

    def draw(axes: Axes) -> None:
        for seed in sorted({point.seed for point in points}):
            mine = sorted((point.rank, point.accuracy) for point in points if point.seed == seed)
            axes.plot(*zip(*mine, strict=True), "o-", color=COLOURS["--rlt"], linewidth=1, markersize=4, alpha=0.7)
        axes.set_xticks(range(1, 5), ["lowest", "", "", "highest"])
        axes.set_xlabel("quarter of the base's explanations, by reward")
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
        axes.grid(axis="y", linewidth=0.5)

    return _picture(draw, "Accuracy of the student against the rank of the reward", "ranks")


def _picture(draw: Callable[[Axes], None], description: str, name: str, height: float = SIZE[1]) -> str:
    written = StringIO()
    with mpl.rc_context({**_RC, "svg.hashsalt": name, "svg.id": f"picture-{name}"}):
        figure = Figure(figsize=(SIZE[0], height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(written.getvalue(), description)


def _themed(svg: str, description: str) -> str:
    """The `svg` element alone, without its size and its font, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{description}"', svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for name, placeholder in COLOURS.items():
        svg = svg.replace(placeholder, f"var({name})")
    return svg
