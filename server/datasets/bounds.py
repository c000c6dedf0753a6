"""Which rows of a dataset somebody wants to see: by what became of them, and by bounds on their measures.

The bounds are those of `rlt select` (student/curation/filters.py), asked of whole tables at a time and of rows that are
made already: nothing is judged or written. A row without a measure misses every bound on it; `verified` is 0 or 1.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from server.datasets.shards import Include, included
from server.wire import Body
from student.cards.census import MEASURE_COLUMNS, values_of
from student.measures.results import Measure

COLUMNS = ("id", "error", "dropped", *MEASURE_COLUMNS.values())
"""What is read of a shard to know which of its rows are wanted."""
AtLeast = Annotated[FiniteFloat | None, Field(description="The least of this measure; rows without it are left out.")]
AtMost = Annotated[FiniteFloat | None, Field(description="The most of this measure; rows without it are left out.")]
Side = Literal["min", "max"]


class Bound(NamedTuple):
    """One of them."""

    name: str
    """Its field."""
    side: Side
    measure: Measure
    value: float

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """Whether each row keeps to it."""
        values = values_of(table, self.measure)
        kept = values >= self.value if self.side == "min" else values <= self.value
        return np.asarray(kept)


class Bounds(Body):
    """Bounds on the measures of a row, both ends of each; those that are None ask for nothing."""

    min_reward: AtLeast = None
    max_reward: AtMost = None
    min_rss: AtLeast = None
    max_rss: AtMost = None
    min_rkl: AtLeast = None
    max_rkl: AtMost = None
    min_gain: AtLeast = None
    max_gain: AtMost = None
    min_step_credit: AtLeast = None
    max_step_credit: AtMost = None
    min_leak: AtLeast = None
    max_leak: AtMost = None
    min_repetition: AtLeast = None
    max_repetition: AtMost = None
    min_tokens: AtLeast = None
    max_tokens: AtMost = None
    min_context_share: AtLeast = None
    max_context_share: AtMost = None
    min_verified: AtLeast = None
    max_verified: AtMost = None

    def bounds(self) -> Iterator[Bound]:
        """Those that are given."""
        for measure in get_args(Measure):
            for side in get_args(Side):
                name = f"{side}_{measure}"
                if (value := getattr(self, name)) is not None:
                    yield Bound(name, side, measure, value)

    def within(self, table: pa.Table) -> NDArray[np.bool_]:
        """Whether each row keeps to all of them."""
        kept = np.ones(len(table), np.bool_)
        for bound in self.bounds():
            kept &= bound.mask(table)
        return kept


class Wanted(Bounds):
    """Which rows are asked for."""

    include: Include = "ok"
    """Rows to train on, failed, dropped, or all."""

    def places(self, table: pa.Table) -> NDArray[np.int64]:
        """Where the wanted rows stand in a shard with COLUMNS or more, in order."""
        return np.flatnonzero(included(table, self.include).to_numpy(zero_copy_only=False) & self.within(table))


class RowsQuery(Wanted):
    """A page of rows."""

    after: str | None = None
    """last_id of the page before."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    """Rows a page."""
