"""Jobs survive what happens to processes: every row once and none lost, with real workers, signals and databases.

The test itself is the service (it makes jobs and works on none); the workers are processes of counting_kind.py.
"""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from dbos import DBOSClient

from server.configs import JobSettings
from server.jobs.jobs import Jobs, Progress, job_folder
from server.jobs.runtime import Runtime
from server.jobs.units import LANES, MAX_CLAIMS, PREPARE, Claim, Step, Units
from server.state.database import Database
from server.state.ids import new_id
from server.state.storage import Storage
from server.state.tables import TERMINAL, Job

HEARTBEAT_SECONDS, TAKEOVER_SECONDS = 0.5, 2.0
NEVER = 600.0
"""Seconds until a takeover, where a test must show that none was needed."""
PATIENCE_SECONDS = 60.0


@dataclass
class Place:
    """Where a test's service and its workers meet."""

    folder: Path
    url: str
    processes: list[subprocess.Popen[bytes]]

    def worker(
        self, name: str, units: int = 2, takeover_seconds: float = TAKEOVER_SECONDS
    ) -> "subprocess.Popen[bytes]":
        """A process that works on `units` at a time; its last lines are in NAME.log."""
        program = Path(__file__).parents[1] / "counting_kind.py"
        settings = [f"heartbeat_seconds={HEARTBEAT_SECONDS}", f"takeover_seconds={takeover_seconds}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, program, self.folder, name, str(units), *settings],
                env=os.environ | {"RLT_DATABASE_URL": self.url},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process


@contextmanager
def workers_ended(place: Place) -> Iterator[Place]:
    """The workers that a test leaves there are ended."""
    try:
        yield place
    finally:
        for process in place.processes:
            process.kill()
            process.wait()


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Iterator[Place]:
    """An empty place, once on SQLite and once on PostgreSQL."""
    with workers_ended(Place(tmp_path, database_url, [])) as made:
        yield made


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Iterator[Place]:
    """As `place`, for what does not depend on the database."""
    with workers_ended(Place(tmp_path, f"sqlite:///{tmp_path / 'rlt.sqlite'}", [])) as made:
        yield made


class Service:
    """The side of callers: makes jobs and looks at them."""

    def __init__(self, place: Place, database: Database, storage: Storage, runtime: Runtime) -> None:
        self.place, self.database, self.storage, self.runtime = place, database, storage, runtime
        self.jobs = Jobs(database)

    async def submit(self, units: int = 10, items: int = 30, seconds: float = 0.01, **spec: Any) -> Job:
        job = await self.create(units, items, seconds, **spec)
        await self.runtime.submit(job.id)
        return job

    async def create(self, units: int = 10, items: int = 30, seconds: float = 0.01, **spec: Any) -> Job:
        return await self.jobs.create(
            "dataset", {"units": units, "items": items, "seconds": seconds, **spec}, new_id("ds_")
        )

    async def progress(self, job: Job) -> Progress:
        return await self.jobs.progress(await self.jobs.get(job.id))

    async def until(self, what: Callable[[], Awaitable[object]]) -> None:
        """Returns as soon as `what` is true; a test that waits for a minute has failed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await what():
                await asyncio.sleep(0.05)

    async def runs(self, job: Job) -> bool:
        return (await self.jobs.get(job.id)).status == "running"

    async def until_units(self, job: Job, units: int) -> None:
        async def enough() -> bool:
            return (await self.progress(job)).units >= units

        await self.until(enough)

    async def ended(self, job: Job) -> Job:
        async def over() -> bool:
            return (await self.jobs.get(job.id)).status in TERMINAL

        await self.until(over)
        return await self.jobs.get(job.id)

    async def freeze(self, worker: "subprocess.Popen[bytes]", job: Job) -> None:
        """Stops a worker that works on a unit, but does not hold SQLite's write lock: all others would wait for it."""
        while True:
            worker.send_signal(signal.SIGSTOP)
            at_work = [unit for unit in await self.jobs.units(job.id) if unit.status == "running"]
            free = await asyncio.to_thread(self._can_be_written)
            if at_work and free:
                return
            worker.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.1)

    def _can_be_written(self) -> bool:
        files = [self.place.folder / name for name in ("rlt.sqlite", "dbos.sqlite")]
        for file in files if self.place.url.startswith("sqlite") else []:
            connection = sqlite3.connect(file, timeout=2, isolation_level=None)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
            finally:
                connection.close()
        return True

    async def rows(self, job: Job) -> list[dict[str, Any]]:
        """All rows of the job's shards, in the order of the units."""
        units = await self.jobs.units(job.id, limit=10_000)
        tables = [pq.read_table(await self.storage.seekable(unit.shard)) for unit in units if unit.shard]
        return [row for table in tables for row in table.to_pylist()]

    async def until_no_strays(self, job: Job) -> None:
        """Returns as soon as storage holds no shard that belongs to no unit; who lost a claim removes its own."""

        async def clean() -> bool:
            return not await self.stray_shards(job)

        await self.until(clean)

    async def stray_shards(self, job: Job) -> set[str]:
        """Shards in storage that belong to no unit."""
        owned = {unit.shard for unit in await self.jobs.units(job.id, limit=10_000)}
        return set(await self.storage.list(f"{job_folder(job.id)}/shards")) - owned


@asynccontextmanager
async def service(place: Place, takeover_seconds: float = TAKEOVER_SECONDS) -> AsyncIterator[Service]:
    database, storage = await Database.open(place.url, place.folder), await Storage.open(None, place.folder)
    settings = JobSettings(
        name="service", units=0, heartbeat_seconds=HEARTBEAT_SECONDS, takeover_seconds=takeover_seconds
    )
    runtime = Runtime(database, {}, settings, storage=storage)
    await runtime.start()
    try:
        yield Service(place, database, storage, runtime)
    finally:
        await runtime.stop()
        await storage.close()
        await database.close()


def each_row_once(rows: list[dict[str, Any]], units: int = 10, items: int = 30) -> bool:
    return [(row["unit"], row["item"]) for row in rows] == [
        (unit, item) for unit in range(units) for item in range(items)
    ]


def test_two_workers_share_a_job(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            sqlite_place.worker("a"), sqlite_place.worker("b")
            job = await here.ended(await here.submit(units=12))
            assert (job.status, job.items, job.result) == ("completed", 360, {"intake": "read", "cancelled": False})
            rows = await here.rows(job)
            assert each_row_once(rows, units=12)
            assert {row["worker"] for row in rows} == {"a", "b"}
            progress = await here.progress(job)
            assert (progress.units, progress.rows, progress.failed, progress.tokens) == (12, 360, 0, 3600)
            assert await here.storage.read(f"{job_folder(job.id)}/finished-1") == b"completed"

    asyncio.run(run())


@pytest.mark.slow
def test_a_worker_killed_three_times_and_started_again_loses_nothing(place: Place) -> None:
    async def run() -> None:
        async with service(place, NEVER) as here:
            worker = place.worker("a", takeover_seconds=NEVER)
            job = await here.submit(units=20)
            for units in (1, 3, 6):
                await here.until_units(job, units)
                await here.freeze(worker, job)  # with a unit in its hands: there is something to lose
                worker.kill()
                worker.wait()
                worker = place.worker("a", takeover_seconds=NEVER)
            job = await here.ended(job)
            assert job.status == "completed"
            assert each_row_once(await here.rows(job), units=20)
            assert sum(unit.claims - 1 for unit in await here.jobs.units(job.id)) >= 3

    asyncio.run(run())


def test_what_a_worker_held_that_is_gone_for_good_is_taken_over(place: Place) -> None:
    async def run() -> None:
        async with service(place) as here:
            gone = place.worker("gone")
            job = await here.submit()
            await here.until_units(job, 1)
            gone.kill()
            gone.wait()
            place.worker("other")
            job = await here.ended(job)
            rows = await here.rows(job)
            assert job.status == "completed"
            assert each_row_once(rows)
            assert {row["worker"] for row in rows} == {"gone", "other"}
            assert [worker.id for worker in await here.jobs.workers()] == ["other", "service"]

    asyncio.run(run())


def test_a_stopped_worker_that_wakes_late_writes_nothing_twice(place: Place) -> None:
    async def run() -> None:
        async with service(place) as here:
            late = place.worker("late")
            job = await here.submit()
            await here.until_units(job, 1)
            await here.freeze(late, job)
            place.worker("other")
            job = await here.ended(job)
            late.send_signal(signal.SIGCONT)

            async def awake() -> bool:
                return "late" in {worker.id for worker in await here.jobs.workers()}

            await here.until(awake)
            later = await here.submit(units=16)  # for which it takes longer than to end what it held
            later = await here.ended(later)
            for of, units in ((job, 10), (later, 16)):
                assert of.status == "completed"
                assert each_row_once(await here.rows(of), units)
                await here.until_no_strays(of)
            taken = [unit for unit in await here.jobs.units(job.id) if unit.claims > 1]
            assert taken
            assert {unit.owner for unit in taken} == {"other"}
            assert "late" in {row["worker"] for row in await here.rows(later)}
            assert await here.storage.list(f"{job_folder(job.id)}/shards") == sorted(
                unit.shard or "" for unit in await here.jobs.units(job.id)
            )

    asyncio.run(run())


def test_sigterm_hands_the_work_to_others_at_once(place: Place) -> None:
    async def run() -> None:
        async with service(place, NEVER) as here:
            ending = place.worker("ending", takeover_seconds=NEVER)
            job = await here.submit()
            await here.until_units(job, 1)
            place.worker("other", takeover_seconds=NEVER)
            ending.terminate()
            assert await asyncio.to_thread(ending.wait, 30) == 0
            job = await here.ended(job)
            assert each_row_once(await here.rows(job))
            assert all(unit.claims == 1 for unit in await here.jobs.units(job.id))  # what was given back is no crash

    asyncio.run(run())


class LateAnswers(Units):
    """Claims are in the database a while before it is known here."""

    async def claim(self, step: Step, owner: str) -> Claim | None:
        claim = await super().claim(step, owner)
        await asyncio.sleep(0.3)
        return claim


def test_a_claim_that_is_broken_off_before_its_answer_came_is_given_back_too(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place, NEVER) as here:
            job, here.runtime._units = await here.create(), LateAnswers(here.database)
            step = Step(job.id, job.round, PREPARE)
            work = asyncio.create_task(here.runtime._work(step))
            await asyncio.sleep(0.15)
            work.cancel()
            await work
            after = await Units(here.database).claim(step, "other")
            assert after is not None
            assert (after.unit.fence, after.unit.claims) == (2, 1)

    asyncio.run(run())


def test_connections_that_break_cost_nothing_but_time(tmp_path: Path, postgres_database_url: str) -> None:
    broken = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"

    async def run(place: Place) -> None:
        async with service(place) as here:
            place.worker("a")
            job = await here.submit()
            for units in (1, 4, 7):
                await here.until_units(job, units)
                async with await psycopg.AsyncConnection.connect(postgres_database_url, autocommit=True) as server:
                    await server.execute(broken, [server.info.backend_pid])
            job = await here.ended(job)
            assert each_row_once(await here.rows(job))
            assert await here.stray_shards(job) == set()
            assert (await here.progress(job)).failed == 0

    with workers_ended(Place(tmp_path, postgres_database_url, [])) as place:
        asyncio.run(run(place))


def test_a_cancelled_job_ends_within_its_units_and_keeps_what_was_written(place: Place) -> None:
    async def run() -> None:
        async with service(place, NEVER) as here:
            place.worker("a", takeover_seconds=NEVER)
            job = await here.submit(units=50, items=5, seconds=0.1)
            await here.until_units(job, 2)  # before the other job, whose units may keep the worker's both hands
            endless = await here.submit(units=2, items=1, seconds=3600)
            await here.until(lambda: here.runs(endless))
            for each in (job, endless):
                assert (await here.jobs.request_cancel(each.id)).status == "cancelling"
                await here.runtime.submit(each.id)
            job, endless = await here.ended(job), await here.ended(endless)
            assert (job.status, endless.status, job.result["cancelled"]) == ("cancelled", "cancelled", True)
            kept = await here.rows(job)
            assert 10 <= len(kept) < 250
            after = await here.ended(await here.submit(units=2))  # the worker is free again: an hour's units were left
            assert each_row_once(await here.rows(after), 2)
            assert await here.rows(job) == kept
            assert await here.rows(endless) == []

    asyncio.run(run())


def test_a_unit_that_always_fails_is_failed_with_its_reason_and_its_siblings_go_on(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            sqlite_place.worker("a")
            job = await here.ended(await here.submit(units=4, items=3, raises=[2]))
            units = await here.jobs.units(job.id)
            assert job.status == "completed"
            assert [unit.status for unit in units] == ["done", "done", "failed", "done"]
            assert (units[2].failures, units[2].error) == (3, "RuntimeError: unit 2 never works")
            progress = await here.progress(job)
            assert (progress.units, progress.rows, progress.failed) == (4, 12, 3)
            assert progress.errors == {"unit_failed": 3}

    asyncio.run(run())


def test_a_unit_that_kills_its_workers_is_failed_in_the_end(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place, NEVER) as here:
            job = await here.create(units=3, items=2, kills=[1])
            dying = sqlite_place.worker("a", takeover_seconds=NEVER)
            await here.runtime.submit(job.id)
            assert await asyncio.to_thread(dying.wait, 30) == -signal.SIGKILL
            for _ in range(MAX_CLAIMS - 1):  # stands for as many processes that died as this one did
                assert await Units(here.database).claim(Step(job.id, 1, 1), "a")
            sqlite_place.worker("a", takeover_seconds=NEVER)
            job = await here.ended(job)
            assert job.status == "completed"
            units = await here.jobs.units(job.id)
            assert [unit.status for unit in units] == ["done", "failed", "done"]
            assert units[1].error == "5 processes ended while they worked on it"

    asyncio.run(run())


def test_a_retry_makes_only_the_failed_rows_anew(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            sqlite_place.worker("a")
            job = await here.ended(await here.submit(units=70, items=3, seconds=0, failing=[1]))
            assert (await here.progress(job)).errors == {"odd": 70}
            await here.jobs.retry(job.id)
            await here.runtime.submit(job.id)
            job = await here.ended(job)
            rows = await here.rows(job)
            assert (job.status, job.round) == ("completed", 2)
            assert each_row_once(rows, 70, 3)
            assert {(row["item"], row["round"]) for row in rows} == {(0, 1), (1, 2), (2, 1)}
            progress = await here.progress(job)
            assert (progress.rows, progress.failed, progress.errors) == (210, 0, {})

    asyncio.run(run())


def test_a_job_whose_input_is_refused_is_failed_with_the_reason(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            sqlite_place.worker("a")
            refused, empty = await here.submit(reject=True), await here.submit(units=0)
            refused, empty = await here.ended(refused), await here.ended(empty)
            assert (refused.status, refused.error, refused.result) == ("failed", "line 3 is no problem", {"bad": 3})
            assert (empty.status, empty.units, empty.items) == ("completed", 0, 0)

    asyncio.run(run())


def test_an_engine_that_does_not_answer_is_waited_for_and_that_counts_as_no_failure(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            sqlite_place.worker("a")
            sign = sqlite_place.folder / "engine-is-up"
            job = await here.submit(units=1, unavailable_until=str(sign))
            never = await here.submit(units=1, unavailable_until=str(sign) + "-never")
            await asyncio.sleep(1)
            assert (await here.jobs.get(job.id)).status == "validating"
            sign.touch()
            assert (await here.ended(job)).status == "completed"
            never = await here.ended(never)
            assert (never.status, never.error) == ("failed", "no answer for 5 s: not yet")

    asyncio.run(run())


def test_a_job_that_was_made_but_never_queued_is_found_and_an_expired_one_ended(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            forgotten = await here.create(units=1)
            late = await here.jobs.create(
                "dataset", {"units": 1, "items": 1, "seconds": 0}, new_id("ds_"), expires_at=1
            )
            sqlite_place.worker("a")
            assert (await here.ended(forgotten)).status == "completed"
            assert (await here.ended(late)).status == "expired"

    asyncio.run(run())


def test_a_name_belongs_to_one_live_process(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            first = sqlite_place.worker("same")

            async def working() -> bool:
                return len(await here.jobs.workers()) == 2

            await here.until(working)
            second = sqlite_place.worker("same")
            assert await asyncio.to_thread(second.wait, 30) == 1
            said = (sqlite_place.folder / "same.log").read_text()
            assert "server.errors.ServerError: name: 'same' is taken by a live process" in said
            assert first.poll() is None

    asyncio.run(run())


def test_however_many_units_a_job_has_few_are_queued_and_no_record_of_them_stays(sqlite_place: Place) -> None:
    async def run() -> None:
        async with service(sqlite_place) as here:
            queue = DBOSClient(system_database_url=here.database.dbos_url, application_name="rlt")
            job = await here.submit(units=3 * LANES, items=1, seconds=0)
            sqlite_place.worker("a", units=16)
            owed = []
            while (await here.jobs.get(job.id)).status not in TERMINAL:
                waiting = await queue.list_workflows_async(status=["ENQUEUED", "PENDING"], load_input=False)
                owed.append(len(waiting))
                await asyncio.sleep(0.1)
            assert LANES / 2 < max(owed) < 2 * LANES
            assert each_row_once(await here.rows(job), 3 * LANES, 1)
            while await here.runtime.queue.forget(older_seconds=-2):
                pass
            assert await queue.list_workflows_async() == []
            queue.destroy()

    asyncio.run(run())
