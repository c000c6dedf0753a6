"""Which explanations of a dataset are kept: the very code of `rlt select`, on shards.

    a unit's rows ─ filters, test sets, best_of ─> shard      while the dataset is made
    all shards    ─ the same, and copies ─> shards, report    at its end, if anything was asked for

Copies go before the ranking, so where they are looked for the ranking waits for them. A shard is written again under
its name where a verdict changed; done twice it comes out the same. Nothing is thrown away: a row that is not kept says
why in `dropped`. Memory: one shard, and 150 bytes a row.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from io import BytesIO
from typing import BinaryIO

from server.datasets.shards import read_table, rows_of, write_rows
from server.jobs.jobs import Jobs, job_folder
from server.state.storage import Storage
from server.wire import DatasetRequest
from student.curation.contamination import HeldOut, Question
from student.curation.ranking import ranked
from student.curation.report import SelectionReport
from student.curation.selection import Rules, Selection
from student.curation.settings import Ranking
from student.explanations import Explanation


def rules_of(request: DatasetRequest, held_out: HeldOut | None = None) -> Rules:
    """What `rlt select` would be asked."""
    keep = None if request.best_of is None else request.n
    ranking = Ranking(keep=keep, by=request.rank_by)
    return Rules(request.filters, request.duplicates, ranking, held_out, request.contamination.explanations)


def selected(rows: Sequence[Explanation], rules: Rules) -> list[Explanation]:
    """The rows of one problem in their order, judged as far as that needs no other problem."""
    alone = [rules.alone(row) for row in rows]
    return ranked(alone, rules.ranking) if rules.duplicates.compare == "nothing" else alone


async def select_shards(jobs: Jobs, storage: Storage, job_id: str, rules: Rules) -> SelectionReport:
    """Judges all rows of a dataset that nobody writes any more, shard by shard, twice."""
    with Selection(rules) as selection:
        async for _, rows in _shards(jobs, storage, job_id):
            await asyncio.to_thread(_add, selection, rows)
        await asyncio.to_thread(selection.settle)
        place = 0
        async for path, rows in _shards(jobs, storage, job_id):
            judged = await asyncio.to_thread(_judged, selection, place, rows)
            place += len(rows)
            if judged != rows:
                await storage.write_whole(path, partial(write_rows, rows=judged))
        return await asyncio.to_thread(selection.report)


def _add(selection: Selection, rows: Sequence[Explanation]) -> None:
    for row in rows:
        selection.add(row)


def _judged(selection: Selection, first: int, rows: Sequence[Explanation]) -> list[Explanation]:
    return [selection.judged(place, row) for place, row in enumerate(rows, first)]


async def _shards(jobs: Jobs, storage: Storage, job_id: str) -> AsyncIterator[tuple[str, list[Explanation]]]:
    after = -1
    while units := await jobs.units(job_id, after):
        after = units[-1].number
        for shard in [unit.shard for unit in units if unit.shard is not None]:
            data = await storage.read(shard)
            yield shard, await asyncio.to_thread(_rows, data)


def _rows(data: bytes) -> list[Explanation]:
    return rows_of(read_table(BytesIO(data)))


def held_out_path(job_id: str) -> str:
    """Where in storage the test questions of a dataset are, as they were when it was made."""
    return f"{job_folder(job_id)}/held_out.jsonl"


async def store_held_out(storage: Storage, job_id: str, questions: Sequence[Question]) -> None:
    """Writes the test questions that `read_held_out` reads."""

    def write(file: BinaryIO) -> None:
        for question in questions:
            file.write(json.dumps([question.place, question.text]).encode() + b"\n")

    await storage.write_whole(held_out_path(job_id), write)


async def read_held_out(storage: Storage, job_id: str, words: int) -> HeldOut:
    """The test questions of a dataset, to be recognised in its rows."""
    data = await storage.read(held_out_path(job_id))

    def read() -> HeldOut:
        return HeldOut((Question(*json.loads(line)) for line in data.splitlines()), words)

    return await asyncio.to_thread(read)
