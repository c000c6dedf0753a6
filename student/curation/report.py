"""What a selection did, in numbers: how many rows were given, kept and dropped, by which filter, and what they measure.

A row counts for the filter that dropped it, the first that failed; `failed_by` counts every filter that it fails.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from student.explanations import Explanation
from student.measures.results import Measure

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS = 20
EDGE = 0.005
"""Share of the values at each end that the first and the last bin take in, so that one outlier is no axis."""


class Distribution(BaseModel):
    """A measure over some rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Those that have it."""
    mean: float
    quantiles: dict[str, float]
    """By the share of rows at or below, `0` (the least) to `1` (the most)."""
    histogram: tuple[int, ...]
    """Rows between each two of the edges."""


class Spread(BaseModel):
    """A measure over the rows kept and over those dropped, None where none of them has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    """Of both histograms; what lies outside is in the outermost bins."""
    kept: Distribution | None
    dropped: Distribution | None


class SelectionReport(BaseModel):
    """What a selection kept, and why not the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    given: int
    kept: int
    failed: int
    """Rows with an `error`: there was nothing to select."""
    dropped: dict[str, int]
    """Rows by the filter that dropped them, the first that failed."""
    failed_by: dict[str, int]
    """Rows by every filter that they fail."""
    problems: int
    problems_kept: int
    """Problems that have a kept row."""
    measures: dict[Measure, Spread]
    """Of each measure that a row has."""


class Tally:
    """Counts of what turned rows away."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.failed_by: Counter[str] = Counter()

    def count(self, row: Explanation) -> None:
        """One more row."""
        missed = [verdict.filter for verdict in row.verdicts if not verdict.kept]
        self.dropped.update(missed[:1])
        self.failed_by.update(missed)


def spread_of(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> Spread | None:
    """A measure of rows, NaN where a row has none, by whether they are kept; None where no row has it."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [EDGE, 1 - EDGE])
    edges = np.histogram_bin_edges(known, BINS, (low, high))
    return Spread(
        edges=tuple(edges.tolist()),
        kept=_distribution(values[kept], edges),
        dropped=_distribution(values[~kept], edges),
    )


def _distribution(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Distribution | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    quantiles = np.quantile(known, QUANTILES)
    counts, _ = np.histogram(known.clip(edges[0], edges[-1]), edges)
    named = {f"{share:g}": float(value) for share, value in zip(QUANTILES, quantiles, strict=True)}
    return Distribution(rows=len(known), mean=float(known.mean()), quantiles=named, histogram=tuple(counts.tolist()))


def told(report: SelectionReport) -> str:
    """A report in one line."""
    dropped = [f"{count:,} dropped by {name}" for name, count in report.dropped.items()]
    failed = [f"{report.failed:,} had failed"] if report.failed else []
    kept = f"{report.kept:,} kept, of {report.problems_kept:,} of {report.problems:,} problems"
    return ", ".join([f"{report.given:,} rows", kept, *dropped, *failed])
