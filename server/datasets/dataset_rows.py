"""The rows of a dataset in the order of its problems, from its shards: table by table, or page by page.

Only one unit is held at a time. A unit that failed as a whole has no shard; its rows are told all the same, each with
the reason. While a retry runs the rows of the round before are read until their unit is done anew.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from server.datasets.bounds import COLUMNS, Bounds, RowsQuery, Wanted
from server.datasets.datasets import DatasetKind
from server.datasets.shards import Include, chosen, read_table, rows_of
from server.errors import Invalid, NotFound, ServerError
from server.jobs.jobs import Jobs
from server.state.storage import Storage
from server.state.tables import Job, Unit
from server.wire import Answer
from student.explanations import SCHEMA, Explanation
from student.manifests import Manifest, manifest_of

ALL = Bounds()
SHARD_TRIES = 3
"""How often a shard is looked up that is gone: a retry may replace it between the table and the storage."""


@dataclass(frozen=True)
class RowPage:
    """Some rows, and the place of each in the dataset, which is the cursor of a page that follows it."""

    rows: list[Explanation]
    places: list[str]
    has_more: bool


class RowInPlace(Answer):
    """One row of a dataset, and what stands beside it."""

    object: Literal["row"] = "row"
    row: Explanation
    previous: str | None
    """The id of the row before it, of those asked for; null where there is none."""
    next: str | None
    """The id of the one behind it, so too."""
    candidates: list[Manifest]
    """Where each row of the same problem is from and what was found of it, this one's own among them, without texts."""


class DatasetRows:
    """Reads the rows of one dataset."""

    def __init__(self, job: Job, jobs: Jobs, storage: Storage, kind: DatasetKind) -> None:
        self._job = job
        self._jobs = jobs
        self._storage = storage
        self._kind = kind

    async def tables(self, include: Include, bounds: Bounds = ALL) -> AsyncIterator[pa.Table]:
        """The rows asked for, a table a unit; units that are not done are left out."""
        async for unit in self._units(0):
            table = await self._table(unit)
            yield await asyncio.to_thread(_wanted, table, include, bounds)

    async def columns(self, columns: Sequence[str]) -> AsyncIterator[pa.Table]:
        """Some columns of all rows, or more than those, a table a unit."""
        async for unit in self._units(0):
            yield await self._table(unit, columns)

    async def page(self, asked: RowsQuery) -> RowPage:
        """The next `limit` rows behind the place `after`; raises Invalid where that is none."""
        first, skipped = (0, 0) if asked.after is None else _place(asked.after)
        found: list[tuple[str, Explanation]] = []
        async for unit in self._units(first, failed=asked.include == "failed"):
            if not len(asked.places(await self._table(unit, COLUMNS))):
                continue  # found out in a tenth of the time that the texts take
            start, most = skipped if unit.number == first else 0, asked.limit + 1 - len(found)
            rows = await asyncio.to_thread(_placed, await self._table(unit), asked, start, most)
            found.extend((f"{unit.number}.{place}", row) for place, row in rows)
            if len(found) > asked.limit:
                break
        shown = found[: asked.limit]
        return RowPage([row for _, row in shown], [place for place, _ in shown], len(found) > asked.limit)

    async def in_place(self, row_id: str, wanted: Wanted) -> RowInPlace:
        """The row with this id, whether it is a wanted one or not, between those that are; raises NotFound.

        The shards are looked through for it, and on to the wanted row behind it.
        """
        previous: str | None = None
        found: RowInPlace | None = None
        async for unit, place, each, is_wanted in self._ids(wanted):
            if each == row_id:
                found = await asyncio.to_thread(_row_in, await self._table(unit), place, previous)
            elif is_wanted and found is not None:
                return found.model_copy(update={"next": each})
            elif is_wanted:
                previous = each
        if found is None:
            raise self._no_such(row_id)
        return found

    async def _ids(self, wanted: Wanted) -> AsyncIterator[tuple[Unit, int, str, bool]]:
        """Of every row its unit, its place there, its id, and whether it is wanted."""
        async for unit in self._units(0):
            table = await self._table(unit, COLUMNS)
            places = set(wanted.places(table).tolist())
            for place, each in enumerate(table["id"].to_pylist()):
                yield unit, place, each, place in places

    async def find(self, row_id: str) -> Explanation:
        """The row with this id, for which the shards are looked through; raises NotFound."""
        async for unit in self._units(0):
            if pc.index((await self._table(unit, ("id",)))["id"], row_id).as_py() >= 0:
                table = await self._table(unit)
                return rows_of(table.filter(pc.equal(table["id"], row_id)))[0]
        raise self._no_such(row_id)

    def _no_such(self, row_id: str) -> NotFound:
        return NotFound(
            f"{self._job.id} has no row {row_id[:80]!r} (problem_id-sample); it may not be made yet, see its /rows"
        )

    async def _units(self, first: int, failed: bool = False) -> AsyncIterator[Unit]:
        """Units that have rows, or failed ones, from number `first` on."""
        after = first - 1
        while units := await self._jobs.units(self._job.id, after, failed=failed):
            after = units[-1].number
            for unit in units:
                if unit.shard is not None or unit.status == "failed":
                    yield unit

    async def _table(self, unit: Unit, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a unit; a unit that failed has all columns, whichever are asked for."""
        for _ in range(SHARD_TRIES):
            if unit.shard is None:
                rows = await self._kind.failed_unit(self._job, unit.number, unit.error or "no reason is known")
                return pa.Table.from_pylist([row.model_dump() for row in rows], SCHEMA)
            try:
                data = await self._storage.read(unit.shard)
            except FileNotFoundError:
                [unit] = await self._jobs.units(self._job.id, unit.number - 1, limit=1) or [unit]
                continue
            return await asyncio.to_thread(read_table, BytesIO(data), columns)
        raise ServerError(
            f"{self._job.id}: the rows of unit {unit.number} are gone from the storage; retry the dataset"
        )


def _wanted(table: pa.Table, include: Include, bounds: Bounds) -> pa.Table:
    rows = chosen(table, include)
    return rows.filter(pa.array(bounds.within(rows)))


def _placed(table: pa.Table, wanted: Wanted, start: int, most: int) -> list[tuple[int, Explanation]]:
    """The first wanted rows of a shard from place `start` on, each with its place."""
    places = wanted.places(table)
    places = places[places >= start][:most]
    return list(zip(places.tolist(), rows_of(table.take(pa.array(places))), strict=True))


def _row_in(table: pa.Table, at: int, previous: str | None) -> RowInPlace:
    """The row at a place of its shard; a problem's rows all lie in one."""
    [row] = rows_of(table.slice(at, 1))
    same = table.filter(pc.equal(table["problem_id"], row.problem_id))
    return RowInPlace(row=row, previous=previous, next=None, candidates=list(map(manifest_of, rows_of(same))))


def _place(cursor: str) -> tuple[int, int]:
    """The unit of a place, and how many of its rows lie before the next one.

    >>> _place("3.17")
    (3, 18)
    """
    unit, _, row = cursor.partition(".")
    if not (unit.isdecimal() and row.isdecimal() and len(cursor) < 20 and cursor.isascii()):
        raise Invalid(f"after: {cursor[:40]!r} is no last_id of a page of rows; leave it out to begin", param="after")
    return int(unit), int(row) + 1
