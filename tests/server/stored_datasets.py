"""Datasets as a service leaves them, of rows that a test makes up: a job, its units and their shards."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from server.datasets.datasets import dataset_spec
from server.datasets.shards import write_rows
from server.service import Parts
from server.state.tables import Job, Unit
from server.wire import DatasetRequest
from student.explanations import Explanation

QUESTION, SOLUTION = "1 + 1?", "2"


def row(problem: int, sample: int = 0, **values: Any) -> Explanation:
    """A row that closes."""
    usual = {"question": QUESTION, "solution": SOLUTION, "explanation": "so", "closed": True, "finished": True}
    return Explanation.model_validate({"problem_id": f"p{problem}", "sample": sample, **usual, **values})


async def store_dataset(
    parts: Parts,
    units: Sequence[Sequence[Explanation]],
    status: str = "completed",
    name: str = "ds_stored",
    title: str = "t",
) -> str:
    """Stores the rows, a shard a unit, and gives the dataset's id, which is `name`; `title` is for people."""
    request = DatasetRequest(source="a/b", score=True, name=title)
    spec = dataset_spec(request, "t", "rlt", 32, False).model_dump(mode="json")
    job = await parts.jobs.create("dataset", spec, name)
    rows = [each for unit in units for each in unit]
    async with parts.database.session() as session:
        stored = await session.get_one(Job, job.id)
        stored.status, stored.units, stored.items = status, len(units), len({each.problem_id for each in rows})
        stored.result, stored.started_at, stored.finished_at = {}, stored.created_at, stored.created_at
    for number, unit in enumerate(units):
        path = f"jobs/{job.id}/shards/{number}-1.parquet"
        await parts.storage.write_whole(path, partial(write_rows, rows=unit))
        async with parts.database.session() as session:
            session.add(_unit(job.id, number, path, unit))
    return job.id


def _unit(job: str, number: int, path: str, rows: Sequence[Explanation]) -> Unit:
    failed = sum(each.error is not None for each in rows)
    dropped = sum(each.dropped is not None for each in rows)
    counts = {"rows": len(rows), "failed": failed, "dropped": dropped, "tokens": 0, "errors": {}}
    return Unit(job_id=job, number=number, round=1, status="done", fence=1, owner="test", shard=path, **counts)
