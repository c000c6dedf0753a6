"""Explanations from files as Arrow tables of at most a batch, so that their number does not matter.

Our own rows (JSONL, Parquet, a dataset folder of `rlt select`) are read column by column; anything else that
read_explanations takes, such as problems with a trace, is read by it. Left out: the columns that no format uses, and
the check of each row by Explanation.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from student.errors import ProblemError
from student.explanations import SCHEMA, read_explanations
from student.measures.results import MEASURES_SCHEMA
from student.rows import LINE_LIMIT, first_line, open_rows
from student.tags import Tags

BATCH_ROWS = 1024
"""Rows of Parquet that are held at once; at 0.3 MB a trace, the longest known, a column stays under Arrow's 2 GB."""
BLOCK_BYTES = 2 * LINE_LIMIT
"""Bytes of JSONL that are held at once; no line is longer."""
NEEDED = ("problem_id", "sample", "question", "solution", "explanation", "closed")
"""Columns without which a row is no lesson."""
_MEASURED = ("gain", "step_credit", "leak", "repetition", "tokens", "verified", "steps")
_TOLD = ("finished", "teacher", "teacher_digest", "seed", "temperature", "tags", "student", "license")
COLUMNS = pa.schema(
    [
        *(SCHEMA.field(name) for name in (*NEEDED, "answer", "error", "dropped", *_TOLD)),
        ("score", pa.struct([(name, pa.float64()) for name in ("reward", "rss", "rkl")])),
        ("measures", pa.struct([MEASURES_SCHEMA.field(name) for name in _MEASURED])),
    ]
)
"""What the formats of trainers read. Sampled tokens, verdicts and manifests are not: no trainer looks at them."""


def batches(source: str, tags: Tags, columns: pa.Schema = COLUMNS) -> Iterator[pa.Table]:
    """The rows of a source in their order, as tables of `columns`; raises ProblemError where it cannot be read."""
    path = rows_file(Path(source))
    try:
        if path.suffix == ".parquet" and _are_ours(path):
            yield from _parquet(path, columns)
        elif path.suffix == ".jsonl" and _are_ours(path):
            yield from _jsonl(path, columns)
        else:
            rows = [row.model_dump() for row in read_explanations(source, tags)]
            yield from _tables(pa.Table.from_pylist(rows, SCHEMA).to_batches(BATCH_ROWS), columns)
    except pa.ArrowException as error:
        raise ProblemError(f"{source}: not readable as explanations ({first_line(error)}); mend it") from error


def rows_file(path: Path) -> Path:
    """The file of rows: `path` itself, or rows.parquet in the dataset folder `path`."""
    inside = path / "rows.parquet"
    return inside if inside.is_file() else path


def check_rows(rows: pa.Table, source: str, before: int) -> None:
    """Raises ProblemError for the first row that lacks what a lesson needs; `before` rows came before these."""
    for name in NEEDED:
        lacks = pc.is_null(rows[name])
        if name in ("question", "solution"):
            lacks = pc.or_kleene(lacks, pc.equal(rows[name], ""))
        at = pc.index(lacks, True).as_py()
        if at >= 0:
            number = before + at + 1
            raise ProblemError(f"{source}: row {number} has no {name}; mend it, or remove it")


def _are_ours(path: Path) -> bool:
    first = next(open_rows(str(path)).rows, (0, ""))[1]
    return isinstance(first, dict) and {"problem_id", "explanation"} <= first.keys()


def _parquet(path: Path, columns: pa.Schema) -> Iterator[pa.Table]:
    # With the buffer, which is the default, all that was read of the file stays in memory: 152 MB of 156.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        present = [name for name in columns.names if name in file.schema_arrow.names]
        yield from _tables(file.iter_batches(BATCH_ROWS, columns=present), columns)


def _jsonl(path: Path, columns: pa.Schema) -> Iterator[pa.Table]:
    parse = pj.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore")
    with pj.open_json(path, pj.ReadOptions(block_size=BLOCK_BYTES), parse) as reader:
        yield from _tables(reader, columns)


def _tables(found: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.Table]:
    for batch in found:
        yield as_columns(pa.Table.from_batches([batch]), columns)


def as_columns(table: pa.Table, columns: pa.Schema = COLUMNS) -> pa.Table:
    """Rows of any of our schemas, as `columns`."""
    return pa.table([_column(table, field) for field in columns], schema=columns)


def _column(table: pa.Table, field: pa.Field) -> pa.Array:
    """The column as `field` says; nulls where the source has none."""
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    return _aligned(table[field.name].combine_chunks(), field.type)


def _aligned(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as `kind`; of structs the fields that it has, null where they have none."""
    if not (pa.types.is_struct(kind) and pa.types.is_struct(array.type)):
        return array.cast(kind)
    present = {field.name for field in array.type}
    fields = [
        _aligned(pc.struct_field(array, field.name), field.type)
        if field.name in present
        else pa.nulls(len(array), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(fields, fields=list(kind), mask=array.is_null())


class WholeProblems:
    """The same rows, no table ending within a problem; a problem is what is adjacent and has one problem_id."""

    def __init__(self) -> None:
        self._held: pa.Table | None = None

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The problems that ended before the last row."""
        joint = table if self._held is None else pa.concat_tables([self._held, table])
        last = joint.num_rows - _last_run(joint)
        self._held = joint.slice(last)
        if last:
            yield joint.slice(0, last)

    def rest(self) -> Iterator[pa.Table]:
        """The last problem; it is held no longer."""
        if self._held is not None and self._held.num_rows:
            yield self._held
        self._held = None


def _last_run(table: pa.Table) -> int:
    """How many rows at the end are of one problem."""
    if not table.num_rows:
        return 0
    ids = table["problem_id"].combine_chunks()
    lengths = pc.run_end_encode(ids).run_ends
    return int(table.num_rows - (lengths[-2].as_py() if len(lengths) > 1 else 0))
