"""The rows of a dataset in the order of its problems, from its shards: table by table, or page by page.

Only one unit is held at a time. A unit that failed as a whole has no shard; its rows are told all the same, each with
the reason. While a retry runs the rows of the round before are read until their unit is done anew.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc

from server.datasets.datasets import DatasetKind
from server.datasets.shards import Include, chosen, read_table, rows_of
from server.errors import Invalid, NotFound, ServerError
from server.jobs.jobs import Jobs
from server.state.storage import Storage
from server.state.tables import Job, Unit
from student.explanations import SCHEMA, Explanation

SHARD_TRIES = 3
"""How often a shard is looked up that is gone: a retry may replace it between the table and the storage."""


@dataclass(frozen=True)
class RowPage:
    """Some rows, each with its place in the dataset, which is the cursor of a page that follows it."""

    rows: Sequence[tuple[str, Explanation]]
    has_more: bool


class DatasetRows:
    """Reads the rows of one dataset."""

    def __init__(self, job: Job, jobs: Jobs, storage: Storage, kind: DatasetKind) -> None:
        self._job = job
        self._jobs = jobs
        self._storage = storage
        self._kind = kind

    async def tables(self, include: Include) -> AsyncIterator[pa.Table]:
        """The rows asked for, a table a unit; units that are not done are left out."""
        async for unit in self._units(0):
            table = await self._table(unit)
            yield await asyncio.to_thread(chosen, table, include)

    async def page(self, after: str | None, limit: int, include: Include) -> RowPage:
        """The next `limit` rows behind the place `after`; raises Invalid where that is none."""
        first, skipped = (0, 0) if after is None else _place(after)
        found: list[tuple[str, Explanation]] = []
        async for unit in self._units(first):
            table = await self._table(unit)
            rows = await asyncio.to_thread(rows_of, table)
            behind = enumerate(rows[skipped:] if unit.number == first else rows, skipped if unit.number == first else 0)
            found.extend((f"{unit.number}.{place}", row) for place, row in behind if _included(row, include))
            if len(found) > limit:
                break
        return RowPage(found[:limit], len(found) > limit)

    async def find(self, row_id: str) -> Explanation:
        """The row with this id, for which the shards are looked through; raises NotFound."""
        async for unit in self._units(0):
            table = await self._table(unit)
            if found := rows_of(table.filter(pc.equal(table["id"], row_id))):
                return found[0]
        raise NotFound(
            f"{self._job.id} has no row {row_id[:80]!r} (problem_id-sample); it may not be made yet, see its /rows"
        )

    async def _units(self, first: int) -> AsyncIterator[Unit]:
        """Units that have rows, from number `first` on."""
        after = first - 1
        while units := await self._jobs.units(self._job.id, after):
            after = units[-1].number
            for unit in units:
                if unit.shard is not None or unit.status == "failed":
                    yield unit

    async def _table(self, unit: Unit) -> pa.Table:
        for _ in range(SHARD_TRIES):
            if unit.shard is None:
                rows = await self._kind.failed_unit(self._job, unit.number, unit.error or "no reason is known")
                return pa.Table.from_pylist([row.model_dump() for row in rows], SCHEMA)
            try:
                data = await self._storage.read(unit.shard)
            except FileNotFoundError:
                [unit] = await self._jobs.units(self._job.id, unit.number - 1, limit=1) or [unit]
                continue
            return await asyncio.to_thread(read_table, BytesIO(data))
        raise ServerError(
            f"{self._job.id}: the rows of unit {unit.number} are gone from the storage; retry the dataset"
        )


def _included(row: Explanation, include: Include) -> bool:
    return include in ("all", "failed" if row.error is not None else "dropped" if row.dropped is not None else "ok")


def _place(cursor: str) -> tuple[int, int]:
    """The unit of a place, and how many of its rows lie before the next one.

    >>> _place("3.17")
    (3, 18)
    """
    unit, _, row = cursor.partition(".")
    if not (unit.isdecimal() and row.isdecimal() and len(cursor) < 20 and cursor.isascii()):
        raise Invalid(f"after: {cursor[:40]!r} is no last_id of a page of rows; leave it out to begin", param="after")
    return int(unit), int(row) + 1
