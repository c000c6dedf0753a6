"""The card of a dataset, and its folder as `rlt select` leaves one: a zip of rows, manifests, card and pictures.

Both are made from the shards while they are asked for, table by table, by the code of the command. The rows are read
twice for the folder, since two of its files grow with them and a zip takes one after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pyarrow as pa
import pyarrow.compute as pc

from server.datasets.archives import Source, StreamedZip
from server.datasets.datasets import DatasetSpec
from server.datasets.shards import Include, rows_of
from server.state.tables import Job
from student.cards.card import About, card_files, card_with_pictures
from student.cards.census import Census
from student.cards.recipe import public
from student.explanations import SCHEMA
from student.exports.encoders import Parquet
from student.manifests import MANIFEST, manifest_of
from student.rows import DATASET_ROWS

Tables = Callable[[Include], AsyncIterator[pa.Table]]
"""The rows asked for, from the first, a table a unit of problems; may be called again."""


def source_of(job: Job) -> Source:
    """What a download says of the dataset."""
    request = DatasetSpec.of(job).request
    asked = request.model_dump(mode="json", exclude_none=True, exclude={"metadata", "problems"})
    return Source(job.id, job.finished_at or job.created_at, request.name or job.id, public(asked))


class DatasetCensus:
    """A census and the number of problems, from tables that hold problems whole."""

    def __init__(self) -> None:
        self.census = Census()
        self._problems = 0
        self._problems_kept = 0

    def add(self, table: pa.Table) -> None:
        """The rows of more problems."""
        self.census.add(table)
        kept = pc.and_(pc.is_null(table["error"]), pc.is_null(table["dropped"]))
        self._problems += pc.count_distinct(table["problem_id"]).as_py()
        self._problems_kept += pc.count_distinct(table["problem_id"].filter(kept)).as_py()

    def about(self, source: Source) -> About:
        """What the card says besides."""
        return About(source.title, self._problems, self._problems_kept, {source.name: source.recipe})


async def card(source: Source, tables: Tables) -> str:
    """README.md with its pictures in it."""
    found = DatasetCensus()
    async for table in tables("all"):
        await asyncio.to_thread(found.add, table)
    return await asyncio.to_thread(card_with_pictures, found.census, found.about(source))


async def folder_zip(source: Source, tables: Tables) -> AsyncIterator[bytes]:
    """The zip, as it is made; every row is in it, kept or not."""
    archive, rows, found = StreamedZip(source.name, source), Parquet(SCHEMA), DatasetCensus()

    def written(table: pa.Table) -> bytes:
        found.add(table)
        return archive.write(DATASET_ROWS, rows.add(table))

    def told(table: pa.Table) -> bytes:
        return archive.write(MANIFEST, manifest_lines(table))

    async for table in tables("all"):
        yield await asyncio.to_thread(written, table)
    yield await asyncio.to_thread(lambda: archive.write(DATASET_ROWS, rows.end()))
    yield archive.write(MANIFEST, b"")
    async for table in tables("all"):
        yield await asyncio.to_thread(told, table)
    files = await asyncio.to_thread(card_files, found.census, found.about(source))
    for name, data in files.items():
        yield archive.write(name, data)
    yield archive.end()


def manifest_lines(table: pa.Table) -> bytes:
    """The manifests of rows, one a line."""
    return "".join(manifest_of(row).model_dump_json() + "\n" for row in rows_of(table)).encode()
