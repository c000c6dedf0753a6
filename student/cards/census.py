"""What the rows of a dataset are, in numbers: counts, licences, models, verdicts, measures. No text of a row is read.

Tables of rows go in, of any number; what is held does not grow with them. Where rows name more than MOST different
licences or models, those that come later are counted together.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from student.cards.sketch import Sketch
from student.measures.results import Measure

MOST = 1000
"""Different names that are told apart."""
FURTHER = "further names"
"""Under which those beyond are counted."""
SCORES: tuple[Measure, ...] = ("reward", "rss", "rkl")
"""Measures that are parts of a score."""
MEASURE_COLUMNS: dict[Measure, str] = {
    name: f"{'score' if name in SCORES else 'measures'}.{name}" for name in get_args(Measure)
}
"""Where each lies in a row."""
COLUMNS = (
    *("error", "dropped", "verdicts.list.element.filter", "verdicts.list.element.kept"),
    *("license", "teacher", "teacher_digest", "tags", "temperature", "student", "student_digest", "provenance"),
    *MEASURE_COLUMNS.values(),
)
"""What is read of a Parquet file."""
ROWS_AT_A_TIME = 8192


class Origin(NamedTuple):
    """How rows were written; None is what nobody recorded."""

    teacher: str | None
    teacher_digest: str | None
    tags: str | None
    temperature: float | None
    engine: str | None
    software: str | None
    precision: str | None
    prompt_digest: str | None
    top_p: float | None
    max_tokens: int | None


class Reader(NamedTuple):
    """Who scored and measured rows."""

    student: str | None
    student_digest: str | None


class Asked(NamedTuple):
    """What became of the rows that a filter was asked about."""

    rows: int
    against: int


class Census:
    """Of the rows that were added."""

    def __init__(self) -> None:
        self.rows = 0
        self.failed = 0
        self.dropped: Counter[str] = Counter()
        """By the filter that dropped them."""
        self.licences: Counter[str | None] = Counter()
        """Under None are rows that name none."""
        self.origins: Counter[Origin | None] = Counter()
        """Under None are those beyond MOST."""
        self.readers: Counter[Reader | None] = Counter()
        """So too."""
        self.kept_measures = {measure: Sketch() for measure in get_args(Measure)}
        self.dropped_measures = {measure: Sketch() for measure in get_args(Measure)}
        self._asked: Counter[str] = Counter()
        self._against: Counter[str] = Counter()

    @property
    def kept(self) -> int:
        """Rows to train on."""
        return self.rows - self.failed - self.dropped.total()

    @property
    def filters(self) -> dict[str, Asked]:
        """Each filter in the order in which they were first seen."""
        return {name: Asked(asked, self._against[name]) for name, asked in self._asked.items()}

    def add(self, table: pa.Table) -> None:
        """More rows, with COLUMNS or more."""
        failed = pc.is_valid(table["error"]).to_numpy()
        dropped = pc.is_valid(table["dropped"]).to_numpy() & ~failed
        self.rows += len(table)
        self.failed += int(failed.sum())
        reasons = pc.list_element(pc.split_pattern(table["dropped"].filter(pa.array(dropped)), ":", max_splits=1), 0)
        _count(self.dropped, reasons)
        _count(self.licences, table["license"])
        self._add_verdicts(table["verdicts"])
        _count_rows(self.origins, Origin, _columns(table, Origin))
        _count_rows(self.readers, Reader, _columns(table, Reader))
        for measure in get_args(Measure):
            values = values_of(table, measure)
            self.kept_measures[measure].add(values[~failed & ~dropped])
            self.dropped_measures[measure].add(values[dropped])

    def _add_verdicts(self, verdicts: pa.ChunkedArray) -> None:
        each = pc.list_flatten(verdicts)
        names = pc.struct_field(each, "filter")
        _count(self._asked, names)
        _count(self._against, names.filter(pc.invert(pc.struct_field(each, "kept"))))


def census_of(path: Path) -> Census:
    """The census of a Parquet file of rows."""
    census = Census()
    # With the buffer, which is the default, all that was read of the file stays in memory.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=list(COLUMNS)):
            census.add(pa.Table.from_batches([batch]))
    return census


def _columns(table: pa.Table, kind: type[Origin] | type[Reader]) -> Mapping[str, pa.ChunkedArray]:
    """The columns of those names, whether of the row or of its provenance."""
    own = set(table.column_names)
    return {name: table[name] if name in own else pc.struct_field(table["provenance"], name) for name in kind._fields}


def values_of(table: pa.Table, measure: Measure) -> NDArray[np.float64]:
    """A measure of each row, NaN where it has none."""
    holder, field = MEASURE_COLUMNS[measure].split(".")
    values = pc.struct_field(table[holder], field).cast(pa.float64())
    return np.asarray(pc.fill_null(values, float("nan")).to_numpy())


def _count(counts: Counter[Any], values: pa.ChunkedArray) -> None:
    for found in pc.value_counts(values).to_pylist():
        _put(counts, found["values"], found["counts"], FURTHER)


def _count_rows(counts: Counter[Any], kind: Callable[..., Any], columns: Mapping[str, pa.ChunkedArray]) -> None:
    names = list(columns)
    groups = pa.table(dict(columns)).group_by(names, use_threads=False).aggregate([([], "count_all")])
    for found in groups.to_pylist():
        _put(counts, kind(*(found[name] for name in names)), found["count_all"], None)


def _put(counts: Counter[Any], key: Any, count: int, beyond: Any) -> None:
    counts[key if key in counts or len(counts) < MOST else beyond] += count
