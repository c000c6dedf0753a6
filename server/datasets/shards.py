"""Rows of a dataset in Parquet (zstd), one shard a unit: how they are written, read, chosen and kept apart.

A row is an Explanation of ours, so whatever reads those reads a dataset; what a filter turned away stays, with the
reason, and can be looked at. A shard has some hundred rows and is held whole; a dataset never is.
"""

from collections.abc import Sequence
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from student.explanations import SCHEMA, Explanation

Include = Literal["ok", "failed", "dropped", "all"]
"""Which rows: those to train on, those that could not be made, those that a filter turned away, or all of them."""

UNIT_ROWS = 512
"""Rows in a unit at most, unless one problem has more."""
UNIT_TOKENS = 2**21
"""Tokens that a unit's rows may have at most, unless one problem has more: 80 MB while they are Python's numbers."""


def write_rows(file: BinaryIO, rows: Sequence[Explanation]) -> None:
    """Writes one shard."""
    write_table(file, [row.model_dump() for row in rows], SCHEMA)


def write_table(file: BinaryIO, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes rows of any schema as one Parquet file."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, compression="zstd")


def read_table(file: BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
    """One shard, whole, or only some of its columns (`a.b` is the field b of a)."""
    with pq.ParquetFile(file) as parquet:
        return parquet.read(None if columns is None else list(columns))


def included(table: pa.Table, include: Include) -> pa.ChunkedArray:
    """Whether each row of a shard is one of those."""
    failed, dropped = pc.is_valid(table["error"]), pc.is_valid(table["dropped"])
    masks = {
        "ok": pc.invert(pc.or_(failed, dropped)),
        "failed": failed,
        "dropped": pc.and_not(dropped, failed),
        "all": pc.or_(failed, pc.invert(failed)),
    }
    return masks[include]


def chosen(table: pa.Table, include: Include) -> pa.Table:
    """The rows of a shard that are asked for, in their order."""
    return table if include == "all" else table.filter(included(table, include))


def rows_of(table: pa.Table) -> list[Explanation]:
    """The rows of a shard, or of a part of one."""
    return [Explanation.model_validate(row) for row in table.to_pylist()]
