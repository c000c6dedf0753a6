"""What a selection did, in numbers: how many rows were given, kept and dropped, by which filter, and what they measure.

A row counts for the filter that dropped it, the first that failed; `failed_by` counts every filter that it fails.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from student.curation.filters import value_of
from student.explanations import Explanation
from student.measures.results import Measure

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Distribution(BaseModel):
    """A measure over some rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Those that have it."""
    mean: float
    quantiles: dict[str, float]
    """By the share of rows at or below, `0` (the least) to `1` (the most)."""


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
    measures: dict[Measure, dict[str, Distribution]]
    """Of each measure that a row has: of the rows `kept` and of those `dropped`."""


def report_of(rows: Sequence[Explanation]) -> SelectionReport:
    """The report of selected rows."""
    kept = [row for row in rows if row.kept]
    dropped = [row for row in rows if row.dropped is not None]
    return SelectionReport(
        given=len(rows),
        kept=len(kept),
        failed=sum(row.error is not None for row in rows),
        dropped=_counted(next(verdict.filter for verdict in row.verdicts if not verdict.kept) for row in dropped),
        failed_by=_counted(verdict.filter for row in rows for verdict in row.verdicts if not verdict.kept),
        problems=len({row.problem_id for row in rows}),
        problems_kept=len({row.problem_id for row in kept}),
        measures=_distributions({"kept": kept, "dropped": dropped}),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _distributions(groups: dict[str, list[Explanation]]) -> dict[Measure, dict[str, Distribution]]:
    measures: tuple[Measure, ...] = get_args(Measure)
    found = {
        measure: {name: each for name, rows in groups.items() if (each := _distribution(rows, measure)) is not None}
        for measure in measures
    }
    return {measure: each for measure, each in found.items() if each}


def _distribution(rows: Sequence[Explanation], measure: Measure) -> Distribution | None:
    values = [value for row in rows if (value := value_of(row, measure)) is not None]
    if not values:
        return None
    quantiles = np.quantile(values, QUANTILES)
    named = {f"{share:g}": float(value) for share, value in zip(QUANTILES, quantiles, strict=True)}
    return Distribution(rows=len(values), mean=float(np.mean(values)), quantiles=named)
