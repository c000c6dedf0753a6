"""How the measures of a dataset are distributed: over the rows asked for, and over those that keep to the bounds.

Tables of rows go in, with the columns of bounds.py or more; what is held is two sketches a measure, whatever their
number. The sketches are those of the card (student/cards/sketch.py): what they say of quantiles holds here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from server.datasets.bounds import Wanted
from server.datasets.shards import chosen
from server.wire import Answer
from student.cards.census import values_of
from student.cards.pictures import edges_of
from student.cards.sketch import Sketch
from student.curation.report import QUANTILES, Distribution
from student.measures.results import Measure


class Distributed(Answer):
    """One measure."""

    edges: tuple[float, ...]
    """Of both histograms; what lies outside is in the outermost bins."""
    all: Distribution
    """Of the rows asked for, whatever the bounds."""
    matching: Distribution | None
    """Of those that keep to the bounds; null where none of them has it."""


class Distributions(Answer):
    """The measures of some rows of a dataset. Quantiles are exact to 0.1 % of their value; all else is exact."""

    object: Literal["distributions"] = "distributions"
    rows: int
    """Those asked for by `include`."""
    matching: int
    """Those of them that keep to every bound."""
    missed: dict[str, int]
    """Of each bound that was given, how many rows miss it."""
    measures: dict[Measure, Distributed]
    """Those that a row has."""


async def distributions(wanted: Wanted, tables: AsyncIterator[pa.Table]) -> Distributions:
    """Of all the rows in the tables."""
    found = _Tally(wanted)
    async for table in tables:
        await asyncio.to_thread(found.add, table)
    return await asyncio.to_thread(found.told)


class _Tally:
    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._rows = 0
        self._matching = 0
        self._missed = Counter({bound.name: 0 for bound in wanted.bounds()})
        self._all = {measure: Sketch() for measure in get_args(Measure)}
        self._within = {measure: Sketch() for measure in get_args(Measure)}

    def add(self, table: pa.Table) -> None:
        """More rows."""
        table = chosen(table, self._wanted.include)
        within = self._wanted.within(table)
        self._rows += len(table)
        self._matching += int(within.sum())
        for bound in self._wanted.bounds():
            self._missed[bound.name] += int((~bound.mask(table)).sum())
        for measure in get_args(Measure):
            values = values_of(table, measure)
            self._all[measure].add(values)
            self._within[measure].add(values[within])

    def told(self) -> Distributions:
        """All that was found."""
        measures = {
            name: _distributed(name, all_, self._within[name]) for name, all_ in self._all.items() if all_.count
        }
        return Distributions(rows=self._rows, matching=self._matching, missed=self._missed, measures=measures)


def _distributed(measure: Measure, all_rows: Sketch, within: Sketch) -> Distributed:
    edges = edges_of(measure, all_rows)
    matching = _distribution(within, edges) if within.count else None
    return Distributed(edges=tuple(edges.tolist()), all=_distribution(all_rows, edges), matching=matching)


def _distribution(sketch: Sketch, edges: NDArray[np.float64]) -> Distribution:
    inner = {f"{share:g}": sketch.quantile(share) for share in QUANTILES}
    quantiles = inner | {"0": sketch.least, "1": sketch.most}
    histogram = tuple(sketch.histogram(edges).tolist())
    return Distribution(rows=sketch.count, mean=sketch.mean, quantiles=quantiles, histogram=histogram)
