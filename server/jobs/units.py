"""The steps of a job as they are claimed and committed: its preparation, its units of rows, its end.

A step is done by whoever claimed it last. Every claim takes the next number of the step's **fence**; a commit names the
fence of its claim, and the job's state that it belongs to, in one transaction, so what a worker brings that was thought
dead, or that works for a cancelled job, changes nothing. A unit's shard has the fence in its name: the late worker's
file is another one, which it deletes again.
"""

import time
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, CursorResult, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from server.jobs.jobs import Prepared, UnitOutcome, job_folder, needs_work
from server.state.database import Database
from server.state.tables import Job, Unit

PREPARE: Final = -1
FINISH: Final = -2
"""What stands in the place of a unit's number for the two steps that make no rows."""
LANES: Final = 64
"""Units of one job that are queued at a time. Unit n is followed by n + 64, so the queue stays short for any job."""
MAX_CLAIMS: Final = 5
"""Claims of a step in one round that nobody gave back; beyond them it is thought to kill whoever does it."""
MAX_FAILURES: Final = 3


@dataclass(frozen=True)
class Step:
    """One step of one round of a job; a step is queued once."""

    job_id: str
    round: int
    number: int

    @property
    def id(self) -> str:
        """The same wherever and whenever it is queued.

        >>> Step("ds_1", 1, 7).id, Step("ds_1", 2, FINISH).id
        ('ds_1-r1-u7', 'ds_1-r2-finish')
        """
        name = {PREPARE: "prepare", FINISH: "finish"}.get(self.number, f"u{self.number}")
        return f"{self.job_id}-r{self.round}-{name}"

    @property
    def statuses(self) -> tuple[str, ...]:
        """Of the job, while this step may be done."""
        return {PREPARE: ("validating",), FINISH: ("finalizing", "cancelling")}.get(self.number, ("running",))


@dataclass(frozen=True)
class Claim:
    """A step that is ours until somebody claims it after us."""

    step: Step
    job: Job
    """As it stood then."""
    unit: Unit
    """As it stood after; its shard, if it has one, is what the round before left."""

    @property
    def shard_path(self) -> str:
        """Where in storage this claim's rows go."""
        return f"{job_folder(self.step.job_id)}/shards/{self.step.number:06d}-{self.unit.fence}.parquet"


class Units:
    """The steps of a database's jobs, for those who work on them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, step: Step, owner: str) -> Claim | None:
        """The step as ours, or None where it is over, or its job has gone on, ended, or was deleted."""
        async with self._database.session() as session:
            job = await _job_for(session, step)
            unit = await session.get(Unit, (step.job_id, step.number), with_for_update=True)
            if job is None or (unit is not None and unit.round == step.round and unit.status != "running"):
                return None
            if unit is None:
                unit = Unit(job_id=step.job_id, number=step.number, fence=0, errors={})
                session.add(unit)
            if unit.round != step.round:
                unit.round, unit.claims, unit.failures, unit.error = step.round, 0, 0, None
            unit.status, unit.owner, unit.finished_at = "running", owner, None
            unit.fence += 1
            unit.claims += 1
        return Claim(step, job, unit)

    async def give_back(self, claim: Claim) -> bool:
        """Whether nothing of the claim was committed. Left by choice, not by a crash, it does not count as a claim."""
        async with self._database.session() as session:
            await session.execute(update(Unit).where(*_held(claim)).values(claims=Unit.claims - 1))
            unit = await session.get(Unit, (claim.step.job_id, claim.step.number))
            return unit is None or unit.shard != claim.shard_path

    async def failed_attempt(self, claim: Claim, reason: str) -> int | None:
        """Attempts of this round that have failed, this one included; None where the claim is lost."""
        change = update(Unit).where(*_held(claim)).values(failures=Unit.failures + 1, error=reason)
        async with self._database.session() as session:
            return await session.scalar(change.returning(Unit.failures))

    async def commit_rows(self, claim: Claim, outcome: UnitOutcome) -> bool:
        """Whether the unit is done with this claim's shard; where not, the shard is nobody's."""
        return await self._end(
            claim,
            status="done",
            shard=claim.shard_path,
            error=None,
            rows=outcome.rows,
            failed=outcome.failed,
            dropped=outcome.dropped,
            tokens=outcome.tokens,
            errors=outcome.errors,
        )

    async def commit_failure(self, claim: Claim, reason: str, rows: int) -> bool:
        """Whether the unit is failed; its `rows` count as failed, unless an earlier round's shard still holds them."""
        counts: dict[str, Any] = {} if claim.unit.shard else {"rows": rows, "failed": rows}
        errors = claim.unit.errors if claim.unit.shard else {"unit_failed": rows}
        return await self._end(claim, status="failed", error=reason, errors=errors, **counts)

    async def commit_prepared(self, claim: Claim, prepared: Prepared) -> bool:
        """Whether the job runs now; one without units goes to its end at once."""
        return await self._end(
            claim,
            status="done",
            job={
                "status": "running" if prepared.units else "finalizing",
                "units": prepared.units,
                "items": prepared.items,
                "result": prepared.result,
                "started_at": int(time.time()),
            },
        )

    async def commit_finished(self, claim: Claim, result: dict[str, Any]) -> bool:
        """Whether the job has ended by this: completed, or cancelled or expired where it was being broken off."""
        return await self._end(
            claim, status="done", job={"status": _end_of(claim.job), "result": result, "finished_at": int(time.time())}
        )

    async def commit_job_failed(self, claim: Claim, reason: str, result: dict[str, Any] | None = None) -> bool:
        """Whether the job has ended as failed, for this reason."""
        kept = claim.job.result if result is None else result
        job = {"status": "failed", "error": reason, "result": kept, "finished_at": int(time.time())}
        return await self._end(claim, status="failed", error=reason, job=job)

    async def _end(self, claim: Claim, *, job: dict[str, Any] | None = None, **unit: Any) -> bool:
        """Ends the step, and changes its job with it, where the claim is still the newest and the job still there."""
        async with self._database.session() as session:
            if await _job_for(session, claim.step) is None:
                return False
            ended = update(Unit).where(*_held(claim)).values(finished_at=int(time.time()), **unit)
            if cast("CursorResult[Any]", await session.execute(ended)).rowcount == 0:
                return False
            if job is not None:
                await session.execute(update(Job).where(Job.id == claim.step.job_id).values(**job))
        return True

    async def first_steps(self, job: Job) -> list[Step]:
        """What must be queued for a running job, one unit a lane: the first of each that is not over."""
        if job.round > 1:
            numbers = [await self._owed_after(job, lane - LANES) for lane in range(LANES)]
            return [Step(job.id, job.round, number) for number in numbers if number is not None]
        over = select(Unit.number).where(Unit.job_id == job.id, Unit.number >= 0, Unit.status != "running")
        async with self._database.reading() as session:
            ended = set((await session.scalars(over)).all())
        lanes = [range(lane, job.units or 0, LANES) for lane in range(min(LANES, job.units or 0))]
        firsts = [next((number for number in lane if number not in ended), None) for lane in lanes]
        return [Step(job.id, job.round, number) for number in firsts if number is not None]

    async def following(self, job: Job, number: int) -> Step | None:
        """The next step in the lane of unit `number`; None at its end."""
        if job.round > 1:
            owed = await self._owed_after(job, number)
            return None if owed is None else Step(job.id, job.round, owed)
        return Step(job.id, job.round, number + LANES) if number + LANES < (job.units or 0) else None

    async def _owed_after(self, job: Job, number: int) -> int | None:
        """The next unit of this lane that a retry goes through, also one that was begun and left."""
        lane = (Unit.number > number, Unit.number >= 0, Unit.number % LANES == number % LANES)
        begun = (Unit.round == job.round) & (Unit.status == "running")
        wanted = select(func.min(Unit.number)).where(Unit.job_id == job.id, *lane, needs_work(job) | begun)
        async with self._database.reading() as session:
            return await session.scalar(wanted)

    async def all_over(self, job: Job) -> bool:
        """Whether no unit of this round is left; then the job goes from running to finalizing."""
        mine = (Unit.job_id == job.id, Unit.number >= 0)
        begun = select(func.count()).where(*mine, Unit.round == job.round, Unit.status == "running")
        over = select(func.count()).where(*mine, Unit.round == job.round, Unit.status != "running")
        owed = select(func.count()).where(needs_work(job))
        async with self._database.session() as session:
            if job.round > 1:
                left = (await session.scalar(begun) or 0) + (await session.scalar(owed) or 0)
            else:
                left = (job.units or 0) - (await session.scalar(over) or 0)
            if left:
                return False
            running = (Job.id == job.id, Job.status == "running", Job.round == job.round)
            await session.execute(update(Job).where(*running).values(status="finalizing"))
        return True


async def _job_for(session: AsyncSession, step: Step) -> Job | None:
    """The step's job, locked against changes of its status until the session ends; None where the step is not due."""
    job = await session.get(Job, step.job_id, with_for_update={"read": True})
    return job if job is not None and job.round == step.round and job.status in step.statuses else None


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """That the claim is still the newest, and the step not over."""
    unit = claim.unit
    key = (Unit.job_id == unit.job_id, Unit.number == unit.number)
    return (*key, Unit.fence == unit.fence, Unit.round == unit.round, Unit.status == "running")


def _end_of(job: Job) -> str:
    if job.status == "finalizing":
        return "completed"
    return "expired" if job.expires_at is not None and (job.cancelling_at or 0) >= job.expires_at else "cancelled"
