"""What a job's units work on: problems or lines in Parquet files of some thousand, one row group a unit.

A unit reads its own row group and nothing else, and a file is written group by group, so memory stays flat whatever
the input's length. The size of a unit is fixed as the job is made: workers with other settings cut it the same.
"""

import asyncio
import math
from collections.abc import Iterator
from itertools import count, islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from server.state.storage import Storage

FILE_ITEMS = 4096
"""Items in a file, about: as many whole units as go into it."""

Item = dict[str, Any]


class UnitInputs:
    """The items of one job under `folder`, `unit_items` of them a unit."""

    def __init__(self, storage: Storage, folder: str, schema: pa.Schema, unit_items: int) -> None:
        self._storage = storage
        self._folder = folder
        self._schema = schema
        self._unit_items = unit_items
        self._file_units = max(1, FILE_ITEMS // unit_items)

    async def write(self, items: Iterator[Item]) -> int:
        """How many items there were; the iterator runs in threads, and what it raises comes out here."""
        units = _Units(items, self._unit_items)
        for number in count():
            if await asyncio.to_thread(units.exhausted):
                return units.items
            await self._storage.write_whole(self._path(number), lambda file: self._fill(file, units))
            units.raise_fault()
        raise AssertionError("count() ends never")

    async def read(self, number: int) -> list[Item]:
        """The items of a unit."""
        file_number, group = divmod(number, self._file_units)
        file = await self._storage.seekable(self._path(file_number))
        return await asyncio.to_thread(_read_group, file, group)

    def units(self, items: int) -> int:
        """How many units so many items are."""
        return math.ceil(items / self._unit_items)

    def unit_items(self, number: int, items: int) -> int:
        """Items in a unit of a job that has `items`."""
        return max(0, min(self._unit_items, items - number * self._unit_items))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06}.parquet"

    def _fill(self, file: BinaryIO, units: "_Units") -> None:
        with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for unit in islice(units, self._file_units):
                writer.write_table(pa.Table.from_pylist(unit, self._schema), row_group_size=self._unit_items)


class _Units:
    """Cuts an iterator of items into lists; ends where it raises and keeps what was raised.

    A file is filled inside the storage, which would take a fault of the input for one of its own.
    """

    def __init__(self, items: Iterator[Item], size: int) -> None:
        self.items = 0
        self._source = items
        self._size = size
        self._ahead: list[Item] | None = None
        self._fault: Exception | None = None

    def __iter__(self) -> Iterator[list[Item]]:
        return self

    def __next__(self) -> list[Item]:
        unit = self._peek()
        if not unit:
            raise StopIteration
        self._ahead = None
        self.items += len(unit)
        return unit

    def exhausted(self) -> bool:
        """Whether nothing is left; raises what the input raised."""
        ended = not self._peek()
        self.raise_fault()
        return ended

    def raise_fault(self) -> None:
        """Raises what the input raised, if it did."""
        if self._fault is not None:
            raise self._fault

    def _peek(self) -> list[Item]:
        if self._ahead is None:
            try:
                self._ahead = list(islice(self._source, self._size))
            except Exception as fault:  # noqa: BLE001  handed on by raise_fault, outside the storage
                self._fault = fault
                self._ahead = []
        return self._ahead


def _read_group(file: BinaryIO, group: int) -> list[Item]:
    with file, pq.ParquetFile(file) as parquet:
        items: list[Item] = parquet.read_row_group(group).to_pylist()
    return items
