"""Datasets and batches worked on without a runtime: real database and storage, and an engine that a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.batches.batches import BatchKind
from server.configs import EngineSettings
from server.datasets.bounds import RowsQuery
from server.datasets.dataset_rows import DatasetRows
from server.datasets.datasets import DatasetKind, dataset_spec, store_problems
from server.engine.protocol import Generation
from server.jobs.jobs import JobKind, Jobs, UnitOutcome
from server.state.database import Database
from server.state.files import Files
from server.state.storage import Storage
from server.state.tables import Job, Unit
from server.teaching.teachers import Teachers
from server.wire import DatasetRequest
from student.explanations import Explanation
from student.models import load_tokenizer
from tests.server.scripted_engine import ScriptedEngine


@dataclass
class Bench:
    """The parts, and what the engine says to whom."""

    database: Database
    storage: Storage
    files: Files
    jobs: Jobs
    teachers: Teachers
    engine: ScriptedEngine
    datasets: DatasetKind
    batches: BatchKind

    async def dataset(self, unit_problems: int = 2, local: bool = False, **asked: Any) -> Job:
        """A dataset job that is prepared."""
        request = DatasetRequest.model_validate(asked)
        spec = dataset_spec(request, self.teachers.default, "rlt", unit_problems, local)
        job = await self.jobs.create("dataset", spec.model_dump(mode="json"), "ds_1")
        if request.problems is not None:
            await store_problems(self.storage, job.id, request.problems)
        return await self.prepared(job, self.datasets)

    async def prepared(self, job: Job, kind: JobKind) -> Job:
        """The job as the runtime would leave it once its input was read."""
        prepared = await kind.prepare(job)
        async with self.database.session() as session:
            stored = await session.get_one(Job, job.id)
            stored.status, stored.result = "running", prepared.result
            stored.units, stored.items = prepared.units, prepared.items
        return await self.jobs.get(job.id)

    async def run(self, job: Job, kind: JobKind, numbers: Sequence[int] | None = None) -> list[UnitOutcome]:
        """Makes units of the job, by default all, in a round of its own."""
        outcomes = []
        for number in range(job.units or 0) if numbers is None else numbers:
            async with self.database.reading() as session:
                previous = await session.get(Unit, (job.id, number))
            fence = previous.fence + 1 if previous else 1
            path = f"jobs/{job.id}/shards/{number}-{fence}.parquet"
            outcome = await kind.run_unit(job, number, previous, path)
            outcomes.append(outcome)
            counts = {name: getattr(outcome, name) for name in ("rows", "failed", "dropped", "tokens", "errors")}
            await self.unit(job, number, status="done", fence=fence, shard=path, **counts)
        return outcomes

    async def unit(self, job: Job, number: int, **values: Any) -> None:
        """Writes what the runtime would write of a unit."""
        whole = {"round": 1, "status": "failed", "fence": 1, "owner": "test", "errors": {}} | values
        async with self.database.session() as session:
            await session.merge(Unit(job_id=job.id, number=number, **whole))

    async def rows(self, job: Job, include: Any = "all") -> list[Explanation]:
        """The rows of a dataset."""
        page = await DatasetRows(job, self.jobs, self.storage, self.datasets).page(
            RowsQuery(include=include, limit=1000)
        )
        return page.rows


@asynccontextmanager
async def opened(folder: Path, model: Path, text: Callable[[Generation], str]) -> AsyncIterator[Bench]:
    """The bench in an empty folder."""
    database, storage = await Database.open(None, folder), await Storage.open(None, folder)
    engine = ScriptedEngine(load_tokenizer(str(model)), text, context_tokens=1024)
    teachers = await Teachers.open(EngineSettings(teacher=str(model), model_name="t"), engine)
    files, jobs = Files(database, storage), Jobs(database)
    datasets = DatasetKind(storage, files, jobs, teachers, None)
    batches = BatchKind(storage, files, jobs, teachers, None)
    try:
        yield Bench(database, storage, files, jobs, teachers, engine, datasets, batches)
    finally:
        await teachers.close()
        await storage.close()
        await database.close()


def on_bench(
    folder: Path, model: Path, text: Callable[[Generation], str], scenario: Callable[[Bench], Awaitable[None]]
) -> None:
    """Runs a scenario on a bench."""

    async def run() -> None:
        async with opened(folder, model, text) as bench:
            await scenario(bench)

    asyncio.run(run())
