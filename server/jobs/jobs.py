"""Jobs as callers and kinds see them: made, listed, counted, cancelled, retried; who works on them is runtime.py.

    validating -> running -> finalizing -> completed          a retry goes back from completed to running
    validating -> failed                                      its kind refused the input (JobRejected)
    validating | running -> cancelling -> cancelled | expired

Every change of a status is one statement that names the status before it, so of two who try only one succeeds. A kind
(datasets.py, batches.py) knows what a job's input and rows are; the runtime knows about units, shards and workers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Text, and_, case, cast, delete, func, or_, select, update

from server.errors import NotFound, WrongState
from server.state.database import Database
from server.state.idempotency import Claim
from server.state.tables import TERMINAL, Job, JobStatus, Unit, Worker

RATE_SECONDS = 60
"""Over how long the rate of a running job is taken."""


@dataclass(frozen=True)
class Prepared:
    """What reading a job's input came to."""

    units: int
    """How many there are, numbered from 0; with none the job is finished at once."""
    items: int
    """Problems or lines of the whole job."""
    result: dict[str, Any] = field(default_factory=dict)
    """Kept as Job.result."""


@dataclass(frozen=True)
class UnitOutcome:
    """What the shard of a unit now holds, whole: in a retry also the rows that were kept."""

    rows: int
    """All rows: ok, failed and dropped together."""
    failed: int = 0
    dropped: int = 0
    tokens: int = 0
    """Sampled tokens of the rows in the shard."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed rows by kind of failure."""


class JobRejected(Exception):
    """A job's input cannot be used: the job is failed with this message; `result` is kept (a batch's errors)."""

    def __init__(self, message: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}


class JobKind(Protocol):
    """What a dataset and a batch do differently. Methods run on the service's event loop, in any worker's process.

    Each may be broken off by a crash and called again, there or in another process; so what prepare and finish leave
    outside the database must come out the same, under names made from the job's id.
    """

    name: str
    """As in Job.kind."""

    async def prepare(self, job: Job) -> Prepared:
        """Reads the input, and writes to storage what run_unit will read, under `job_folder`. Raises JobRejected."""

    async def run_unit(self, job: Job, number: int, previous: Unit | None, shard_path: str) -> UnitOutcome:
        """Makes the rows of a unit, writes them as `shard_path`, that path only, and says what is in it.

        A row that fails is a row with its reason. Where `previous` has a shard only its failed rows are made anew and
        the others copied. Raising is a failed attempt: three in a round and the unit is failed, its siblings go on.
        EngineUnavailable is waited out instead. Cancelled (asyncio) where the job is, or the worker stops.
        """

    def unit_rows(self, job: Job, number: int) -> int:
        """Rows that a unit has, however they come out; a unit that failed as a whole is counted so."""

    async def finish(self, job: Job, cancelled: bool) -> dict[str, Any]:
        """Called when no unit can be written any more; returns the new Job.result. What was committed stays."""


@dataclass(frozen=True)
class Progress:
    """How far a job is, over all its units."""

    units: int
    """Done or failed in the present round (in a retry: of all that the job has)."""
    rows: int
    failed: int
    dropped: int
    tokens: int
    errors: dict[str, int]
    rows_per_second: float | None
    """Over the last minute of work; None before the first unit."""
    eta_seconds: float | None
    """None unless running at a known rate."""


def job_folder(job_id: str) -> str:
    """Where in storage all that belongs to a job lies; deleting the job is deleting this."""
    return f"jobs/{job_id}"


def needs_work(job: Job) -> ColumnElement[bool]:
    """Units that a retry goes through: those of earlier rounds that failed, or hold failed rows."""
    unfinished = or_(Unit.status != "done", Unit.failed > 0)
    return and_(Unit.job_id == job.id, Unit.number >= 0, Unit.round < job.round, unfinished)


class Jobs:
    """The jobs of a database. Methods that name a job raise NotFound where it is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, kind: str, spec: dict[str, Any], job_id: str, expires_at: int | None = None, once: Claim | None = None
    ) -> Job:
        """A new job, `validating`; work begins once it is submitted to the runtime.

        With a claim that an earlier request made already, the job of that request (its id is another than `job_id`).
        """
        job = Job(
            id=job_id,
            kind=kind,
            status="validating",
            spec=spec,
            result={},
            round=1,
            created_at=int(time.time()),
            expires_at=expires_at,
        )
        async with self._database.session() as session:
            earlier = await once.earlier(session, job_id) if once else None
            if earlier is None:
                session.add(job)
        return job if earlier is None else await self.get(earlier, kind)

    async def get(self, job_id: str, kind: str | None = None) -> Job:
        """A job as it stands now; of another kind than asked for it is not there."""
        async with self._database.reading() as session:
            job = await session.get(Job, job_id)
        if job is None or (kind is not None and job.kind != kind):
            raise NotFound(f"there is no {kind or 'job'} {job_id!r}; it was deleted, or its id is another")
        return job

    async def page(self, kind: str, after: str | None = None, limit: int = 20) -> tuple[list[Job], bool]:
        """The next `limit` jobs after the id `after`, newest first (ids sort by time), and whether more follow."""
        wanted = select(Job).where(Job.kind == kind).order_by(Job.id.desc()).limit(limit + 1)
        if after is not None:
            wanted = wanted.where(Job.id < after)
        async with self._database.reading() as session:
            found = list((await session.scalars(wanted)).all())
        return found[:limit], len(found) > limit

    async def units(self, job_id: str, after: int = -1, limit: int = 100, failed: bool = False) -> list[Unit]:
        """The next units after number `after` that somebody has begun, by number, or of these only the ones with failed
        rows; those with a shard hold rows."""
        wanted = select(Unit).where(Unit.job_id == job_id, Unit.number > after).order_by(Unit.number).limit(limit)
        if failed:
            wanted = wanted.where(Unit.failed > 0)
        async with self._database.reading() as session:
            return list((await session.scalars(wanted)).all())

    async def progress(self, job: Job) -> Progress:
        """Sums over the units of a job; one scan, some 100 ms where there are 300 000 of them."""
        now = job.finished_at or int(time.time())
        begin = max(job.started_at or now, now - RATE_SECONDS)
        recent = and_(Unit.finished_at >= begin, Unit.round == job.round)
        over = and_(Unit.round == job.round, Unit.status != "running")
        sums = select(
            func.count(case((over, 1))),
            func.coalesce(func.sum(Unit.rows), 0),
            func.coalesce(func.sum(Unit.failed), 0),
            func.coalesce(func.sum(Unit.dropped), 0),
            func.coalesce(func.sum(Unit.tokens), 0),
            func.count(case((recent, 1))),
            func.coalesce(func.sum(case((recent, Unit.rows))), 0),
            func.count(case((needs_work(job), 1))),
        ).where(Unit.job_id == job.id, Unit.number >= 0)
        async with self._database.reading() as session:
            row = (await session.execute(sums)).one()
        units, rows, failed, dropped, tokens, recent_units, recent_rows, owed = (int(value) for value in row)
        seconds = max(1, now - begin)
        left = owed if job.round > 1 else (job.units or 0) - units
        eta = left * seconds / recent_units if job.status == "running" and recent_units else None
        return Progress(
            units=units,
            rows=rows,
            failed=failed,
            dropped=dropped,
            tokens=tokens,
            errors=await self._errors(job) if failed else {},
            rows_per_second=recent_rows / seconds if recent_units else None,
            eta_seconds=eta,
        )

    async def _errors(self, job: Job) -> dict[str, int]:
        """Failed rows by kind; alike units are counted by the database, which cannot add up JSON portably."""
        alike = cast(Unit.errors, Text)
        wanted = (
            select(func.min(Unit.number), func.count()).where(Unit.job_id == job.id, Unit.failed > 0).group_by(alike)
        )
        total: dict[str, int] = {}
        async with self._database.reading() as session:
            for number, times in (await session.execute(wanted)).all():
                unit = await session.get_one(Unit, (job.id, number))
                for kind, rows in unit.errors.items():
                    total[kind] = total.get(kind, 0) + rows * times
        return total

    async def request_cancel(self, job_id: str, kind: str | None = None) -> Job:
        """The job, `cancelling`: from now on no unit of it is written. Submit it, so that it is finished.

        A job that is being finalized, or cancelled already, is returned as it is; WrongState where it has ended.
        """
        started = await self._move(job_id, ("validating", "running"), "cancelling", cancelling_at=int(time.time()))
        job = await self.get(job_id, kind)
        if not started and job.status in TERMINAL:
            raise WrongState(f"{job_id} is {job.status}; only what is unfinished can be cancelled")
        return job

    async def retry(self, job_id: str, kind: str | None = None) -> Job:
        """The job, `running` again in a new round over the units with failed rows. Submit it.

        WrongState where it is not completed, or nothing in it failed.
        """
        job = await self.get(job_id, kind)
        if job.status != "completed":
            raise WrongState(f"{job_id} is {job.status}; only a completed {job.kind} can be retried")
        job.round += 1
        async with self._database.reading() as session:
            owed = await session.scalar(select(func.count()).select_from(Unit).where(needs_work(job)))
        if not owed:
            raise WrongState(f"{job_id} has no failed rows; there is nothing to retry")
        now = int(time.time())
        await self._move(job_id, ("completed",), "running", round=job.round, started_at=now, finished_at=None)
        return await self.get(job_id, kind)

    async def delete(self, job_id: str, kind: str | None = None) -> None:
        """Forgets an ended job and its units; its `job_folder` in storage is the caller's to delete, after this."""
        job = await self.get(job_id, kind)
        gone = delete(Job).where(Job.id == job_id, Job.status.in_(TERMINAL)).returning(Job.id)
        async with self._database.session() as session:
            if (await session.execute(gone)).first() is None:
                raise WrongState(f"{job_id} is {job.status}; cancel it first, then delete it")

    async def unfinished(self) -> int:
        """Jobs that have not ended, of all kinds."""
        counts = await self.by_status()
        return sum(count for status, count in counts.items() if status not in TERMINAL)

    async def by_status(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        wanted = select(Job.status, func.count()).group_by(Job.status)
        async with self._database.reading() as session:
            return {str(status): int(count) for status, count in (await session.execute(wanted)).all()}

    async def unended(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        wanted = select(Job).where(Job.status.not_in(TERMINAL)).order_by(Job.id)
        async with self._database.reading() as session:
            return list((await session.scalars(wanted)).all())

    async def workers(self) -> list[Worker]:
        """The processes that said they work here, by name; those without a fresh heartbeat are gone."""
        async with self._database.reading() as session:
            return list((await session.scalars(select(Worker).order_by(Worker.id))).all())

    async def _move(self, job_id: str, before: Sequence[JobStatus], after: JobStatus, **values: Any) -> bool:
        """Whether the job had one of the statuses `before`, and so has `after` now."""
        change = update(Job).where(Job.id == job_id, Job.status.in_(before)).values(status=after, **values)
        async with self._database.session() as session:
            return (await session.execute(change.returning(Job.id))).first() is not None
