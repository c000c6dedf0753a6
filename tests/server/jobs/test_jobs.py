"""Jobs in the database: listed, cancelled, retried, deleted; and steps that only the newest claim commits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.errors import NotFound, WrongState
from server.jobs.jobs import Jobs, Prepared, UnitOutcome
from server.jobs.units import FINISH, LANES, PREPARE, Claim, Step, Units
from server.state.database import Database
from server.state.ids import new_id
from server.state.tables import Job


class Both:
    """Jobs, and the units that a worker would see of them."""

    def __init__(self, database: Database) -> None:
        self.jobs, self.units = Jobs(database), Units(database)

    async def running(self, units: int = 3, kind: str = "dataset") -> Job:
        """A job whose input was read."""
        job = await self.jobs.create(kind, {}, new_id("ds_"))
        assert await self.units.commit_prepared(await self.claim(job, PREPARE), Prepared(units, 10 * units))
        return await self.jobs.get(job.id)

    async def claim(self, job: Job, number: int, owner: str = "a") -> Claim:
        claim = await self.units.claim(Step(job.id, job.round, number), owner)
        assert claim is not None
        return claim

    async def do(self, job: Job, number: int, outcome: UnitOutcome) -> None:
        assert await self.units.commit_rows(await self.claim(job, number), outcome)

    async def completed(self, *outcomes: UnitOutcome) -> Job:
        """A job that ended with these units."""
        job = await self.running(len(outcomes))
        for number, outcome in enumerate(outcomes):
            await self.do(job, number, outcome)
        assert await self.units.all_over(job)
        assert await self.units.commit_finished(await self.claim(job, FINISH), {"done": True})
        return await self.jobs.get(job.id)


@asynccontextmanager
async def both(url: str, folder: Path) -> AsyncIterator[Both]:
    database = await Database.open(url, folder)
    try:
        yield Both(database)
    finally:
        await database.close()


@pytest.fixture
def tried(database_url: str, tmp_path: Path) -> Callable[[Callable[[Both], Awaitable[None]]], None]:
    """Runs a promise on an empty database, once SQLite and once PostgreSQL."""

    def run(promise: Callable[[Both], Awaitable[None]]) -> None:
        async def on_database() -> None:
            async with both(database_url, tmp_path) as here:
                await promise(here)

        asyncio.run(on_database())

    return run


Tried = Callable[[Callable[[Both], Awaitable[None]]], None]


def test_jobs_of_a_kind_are_listed_newest_first_page_by_page(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        ids = [(await here.jobs.create("dataset", {"n": n}, new_id("ds_"))).id for n in range(5)]
        await here.jobs.create("batch", {}, new_id("batch_"))
        first, more = await here.jobs.page("dataset", limit=3)
        rest, end = await here.jobs.page("dataset", after=first[-1].id, limit=3)
        assert [job.id for job in first + rest] == ids[::-1]
        assert (more, end) == (True, False)
        assert first[0].spec == {"n": 4}
        assert await here.jobs.by_status() == {"validating": 6}
        assert await here.jobs.unfinished() == 6

    tried(promise)


def test_a_job_of_another_kind_or_unknown_is_not_there(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.jobs.create("dataset", {}, "ds_1")
        assert (await here.jobs.get(job.id, "dataset")).id == "ds_1"
        for missing, kind in (("ds_1", "batch"), ("ds_2", None)):
            with pytest.raises(NotFound, match=missing):
                await here.jobs.get(missing, kind)

    tried(promise)


def test_progress_sums_over_units_and_counts_failures_by_kind(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.running(8)
        await here.do(job, 0, UnitOutcome(10, failed=3, dropped=1, tokens=500, errors={"too_long": 2, "refused": 1}))
        await here.do(job, 1, UnitOutcome(10, failed=2, tokens=400, errors={"too_long": 2}))
        await here.do(job, 2, UnitOutcome(10, failed=2, tokens=400, errors={"too_long": 2}))
        assert await here.units.commit_failure(await here.claim(job, 3), "no", rows=10)
        await here.claim(job, 4)
        progress = await here.jobs.progress(job)
        assert (progress.units, progress.rows, progress.failed, progress.dropped) == (4, 40, 17, 1)
        assert (progress.tokens, progress.errors) == (1300, {"too_long": 6, "refused": 1, "unit_failed": 10})
        assert progress.rows_per_second is not None
        assert progress.eta_seconds is not None
        # 4 of 8 units are done, so what is left takes as long as what was: 40 rows at this rate.
        assert progress.eta_seconds == pytest.approx(40 / progress.rows_per_second)

    tried(promise)


def test_only_the_newest_claim_of_a_step_is_committed(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.running()
        late, newest = await here.claim(job, 0, "late"), await here.claim(job, 0, "newest")
        assert late.shard_path != newest.shard_path
        assert not await here.units.commit_rows(late, UnitOutcome(1))
        assert await here.units.failed_attempt(late, "no") is None
        assert not await here.units.commit_failure(late, "no", 1)
        assert await here.units.commit_rows(newest, UnitOutcome(2))
        assert not await here.units.commit_rows(newest, UnitOutcome(3))
        (unit,) = await here.jobs.units(job.id)
        assert (unit.rows, unit.shard, unit.owner, unit.claims) == (2, newest.shard_path, "newest", 2)
        assert await here.units.claim(Step(job.id, 1, 0), "another") is None

    tried(promise)


def test_a_claim_that_was_given_back_does_not_count(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.running()
        assert await here.units.give_back(await here.claim(job, 0))
        assert (await here.claim(job, 0)).unit.claims == 1
        assert await here.units.failed_attempt(await here.claim(job, 0), "no") == 1
        assert await here.units.failed_attempt(await here.claim(job, 0), "again") == 2
        committed = await here.claim(job, 0)
        assert await here.units.commit_rows(committed, UnitOutcome(1))
        assert not await here.units.give_back(committed)

    tried(promise)


def test_from_the_moment_a_job_is_cancelled_nothing_of_it_is_committed(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.running()
        await here.do(job, 0, UnitOutcome(5))
        claim = await here.claim(job, 1)
        job = await here.jobs.request_cancel(job.id)
        assert job.status == "cancelling"
        assert not await here.units.commit_rows(claim, UnitOutcome(5))
        assert await here.units.claim(Step(job.id, 1, 2), "a") is None
        assert await here.units.commit_finished(await here.claim(job, FINISH), {})
        assert (await here.jobs.get(job.id)).status == "cancelled"
        assert [unit.rows for unit in await here.jobs.units(job.id)] == [5, 0]
        with pytest.raises(WrongState, match="is cancelled; only what is unfinished"):
            await here.jobs.request_cancel(job.id)

    tried(promise)


def test_a_job_that_is_cancelled_before_its_input_was_read_is_not_begun(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.jobs.create("batch", {}, "batch_1", expires_at=int(time.time()) - 1)
        claim = await here.claim(job, PREPARE)
        job = await here.jobs.request_cancel(job.id)
        assert not await here.units.commit_prepared(claim, Prepared(3, 30))
        assert await here.units.commit_finished(await here.claim(job, FINISH), {})
        assert (await here.jobs.get(job.id)).status == "expired"

    tried(promise)


def test_a_retry_goes_through_the_units_with_failed_rows_and_knows_their_shards(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        outcomes = [UnitOutcome(2, failed=int(number % 30 == 7)) for number in range(LANES + 10)]  # units 7, 37 and 67
        job = await here.completed(*outcomes)
        with pytest.raises(WrongState, match="only a completed dataset can be retried"):
            await here.jobs.retry((await here.running()).id, "dataset")
        job = await here.jobs.retry(job.id)
        assert (job.status, job.round) == ("running", 2)
        steps = await here.units.first_steps(job)
        assert [step.number for step in steps] == [67, 7, 37]  # by lane: 67 is in that of 3
        claim = await here.claim(job, 7)
        assert claim.unit.shard == (await here.jobs.units(job.id, after=6, limit=1))[0].shard
        assert claim.unit.shard != claim.shard_path
        assert not await here.units.all_over(job)
        await here.do(job, 7, UnitOutcome(2))
        for number in (37, 67):
            await here.do(job, number, UnitOutcome(2))
        assert await here.units.all_over(job)
        assert (await here.jobs.progress(job)).failed == 0

    tried(promise)


def test_nothing_failed_nothing_to_retry(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.completed(UnitOutcome(2))
        with pytest.raises(WrongState, match="no failed rows"):
            await here.jobs.retry(job.id)

    tried(promise)


def test_only_what_has_ended_is_deleted_and_its_units_with_it(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        running, ended = await here.running(), await here.completed(UnitOutcome(2))
        with pytest.raises(WrongState, match="cancel it first"):
            await here.jobs.delete(running.id)
        await here.jobs.delete(ended.id, "dataset")
        assert await here.jobs.units(ended.id) == []
        with pytest.raises(NotFound):
            await here.jobs.get(ended.id)
        assert await here.units.claim(Step(ended.id, 1, 0), "a") is None

    tried(promise)


def test_a_lane_is_walked_to_its_end_and_begun_again_where_it_was_left(tried: Tried) -> None:
    async def promise(here: Both) -> None:
        job = await here.running(LANES + 2)
        assert [step.number for step in await here.units.first_steps(job)] == list(range(LANES))
        assert await here.units.following(job, 1) == Step(job.id, 1, LANES + 1)
        assert await here.units.following(job, 2) is None
        await here.do(job, 1, UnitOutcome(1))
        await here.do(job, 2, UnitOutcome(1))
        await here.claim(job, 3)
        expected = [0, LANES + 1, *range(3, LANES)]
        assert [step.number for step in await here.units.first_steps(job)] == expected

    tried(promise)
