"""A measure over the rows kept and over those dropped, as a small PNG.

PNG, since the hub sends an SVG of a repository as plain text, which browsers show no picture of.
"""

from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from student.cards.sketch import Sketch
from student.measures.results import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURED: dict[Measure, str] = {
    "reward": "reward (nats)",
    "rss": "rSS: the solution understood (nats)",
    "rkl": "rKL: steps implausible without it (nats)",
    "gain": "gain (nats a solution token)",
    "step_credit": "lowest step credit (nats a solution token)",
    "leak": "leak (0 to 1)",
    "repetition": "repetition (share)",
    "tokens": "length (student tokens)",
}
"""What has a picture, and the name of its axis."""
BINS = 30
EDGE = 0.005
"""Share of the rows at each end that the outermost bins take in, so that one outlier is no axis."""
KEPT, DROPPED, INK = "#2a6f97", "#d9a441", "#333333"
_LOCK = Lock()
"""Matplotlib's caches are not for several threads."""


def picture(measure: Measure, kept: Sketch, dropped: Sketch) -> bytes:
    """The PNG of one measure, which a row must have."""
    from matplotlib.figure import Figure  # takes half a second, and most who load this file draw nothing

    edges = edges_of(measure, kept + dropped)
    with _LOCK:
        figure = Figure(figsize=(4.6, 2.3), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, edges, kept.histogram(edges), dropped.histogram(edges))
        axes.set_xlabel(PICTURED[measure], fontsize=9, color=INK)
        written = BytesIO()
        figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def edges_of(measure: Measure, rows: Sketch) -> NDArray[np.float64]:
    """Of the bins: between the outermost values but for EDGE at each side; of tokens each bin holds as many lengths."""
    low, high = rows.quantile(EDGE), rows.quantile(1 - EDGE)
    if measure == "tokens":
        low, high = round(low) - 0.5, round(high) + 0.5
        width = max(1, np.ceil((high - low) / BINS))
        return np.arange(low, high + width, width)
    if measure in ("leak", "repetition"):
        return np.linspace(0, 1, BINS + 1)
    room = 0 if high > low else 0.5
    return np.linspace(low - room, high + room, BINS + 1)


def _draw(axes: "Axes", edges: NDArray[np.float64], kept: NDArray[np.int64], dropped: NDArray[np.int64]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.stairs(kept, edges, fill=True, color=KEPT, label=f"kept ({kept.sum():,})")
    axes.stairs(kept + dropped, edges, baseline=kept, fill=True, color=DROPPED, label=f"dropped ({dropped.sum():,})")
    axes.set_ylim(0, None)
    axes.set_ylabel("rows", fontsize=9, color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
