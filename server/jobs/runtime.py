"""Works on jobs: takes steps from the queue, does them by their job's kind, commits them, queues what follows.

    prepare -> unit 0, unit 1, ... 63 -> unit 64 after unit 0, 65 after 1, ... -> finish

Who owns a step, and what became of it, is said by our database (units.py); the queue (task_queue.py) only says that a
step is owed. So a step may come twice, or late, and nothing is done twice: it is found to be over, or lost. Besides the
steps each process has a round of chores: its sign of life, steps whose holders are gone, jobs that expired, and jobs
for which nothing is queued (a process was killed between making a job and queueing it).
"""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from server.configs import JobSettings
from server.errors import DatabaseUnavailable, EngineUnavailable, NotFound, StorageUnavailable
from server.jobs.jobs import JobKind, JobRejected, Jobs
from server.jobs.task_queue import TaskQueue
from server.jobs.units import FINISH, MAX_CLAIMS, MAX_FAILURES, PREPARE, Claim, Step, Units
from server.jobs.workers import Workers, worker_name
from server.state.database import Database
from server.state.storage import Storage
from server.state.tables import TERMINAL, Job

WAIT_SECONDS: Final = (0.5, 10.0)
"""First and longest pause before an engine that did not answer is asked again."""
PAUSE_SECONDS: Final = 0.2
"""Between two failed attempts."""
MAX_REASON: Final = 1000

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Runtime:
    """This process's part in the work on all jobs of a database; at most one in a process.

    `kinds` are the sorts of jobs it knows, by name. With settings.units 0 it queues jobs but leaves the work to others.
    """

    def __init__(
        self,
        database: Database,
        kinds: dict[str, JobKind],
        settings: JobSettings,
        *,
        storage: Storage,
        engine_wait_seconds: float = 600,
    ) -> None:
        self._kinds = kinds
        self._settings = settings
        self._storage = storage
        self._engine_wait_seconds = engine_wait_seconds
        self._jobs = Jobs(database)
        self._units = Units(database)
        name = worker_name(settings)
        self._workers = Workers(database, name, settings.units, settings.heartbeat_seconds)
        self.queue = TaskQueue(database.dbos_url, name)
        self._places = asyncio.Semaphore(max(1, settings.units))
        self._at_work: dict[asyncio.Task[Any], Step] = {}
        self._suspects: set[str] = set()
        self._chores: list[asyncio.Task[None]] = []
        self._stopping = False
        self._ending: asyncio.Task[None] | None = None
        self._name_is_ours = True

    @property
    def name(self) -> str:
        """This process's name among the workers."""
        return self._workers.name

    @property
    def at_work(self) -> int:
        """Steps that this process holds: those it works on, and a few that wait for their turn."""
        return len(self._at_work)

    async def start(self) -> None:
        """Begins to work. Raises ServerError where a live process has this one's name."""
        await self._workers.enter()
        units = self._settings.units
        others = await self._workers.alive(self._settings.takeover_seconds)
        await self.queue.open(self._work, units, max([units, *(worker.units for worker in others)]))
        self._chores = [
            asyncio.create_task(self._every(self._settings.heartbeat_seconds, self._show_life)),
            asyncio.create_task(self._every(self._settings.takeover_seconds / 3, self._look_after_others)),
        ]

    async def submit(self, job_id: str) -> None:
        """Queues what the job needs next, whatever its state; asking again changes nothing."""
        job = await self._jobs.get(job_id)
        if job.status == "validating":
            await self.queue.put([Step(job.id, job.round, PREPARE)])
        elif job.status == "running":
            await self.queue.put(await self._units.first_steps(job) or await self._last_step(job))
        elif job.status in ("finalizing", "cancelling"):
            self._drop_work_of(job.id)
            await self.queue.put([Step(job.id, job.round, FINISH)])

    async def stop(self) -> None:
        """Ends within seconds: what is at work is broken off, and handed to other processes or to the next start.

        Asked again it waits for the same end.
        """
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self._stopping = True
        for chore in self._chores:
            chore.cancel()
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._chores, *self._at_work, return_exceptions=True)
        await self.queue.stop_taking()
        if self._name_is_ours:
            held = await self.queue.held()
            await self.queue.queue_again([step.workflow_id for step in held if step.executor_id == self.name])
            await self._workers.leave()
        await self.queue.close()

    async def _work(self, step: Step) -> bool:
        """Does one step; whether it is over, done or not needed any more. Where not it is still owed, by somebody."""
        task = asyncio.current_task()
        assert task is not None
        self._at_work[task] = step
        try:
            if self._stopping:
                return False
            return await self._turn(step)
        except asyncio.CancelledError:
            task.uncancel()
            return not self._stopping
        except NotFound:  # the job was deleted meanwhile
            return True
        finally:
            del self._at_work[task]

    async def _turn(self, step: Step) -> bool:
        if step.number < 0:
            return await self._claimed(step)
        async with self._places:
            return await self._claimed(step)

    async def _claimed(self, step: Step) -> bool:
        claim = await _patiently(self._claim, step)
        if claim is not None:
            try:
                committed = await self._attempts(claim)
            except asyncio.CancelledError:
                await asyncio.shield(self._undo(claim))
                raise
            if not committed and await self._is_still_due(step):
                return False  # somebody claimed it after us
        await _patiently(self._queue_following, step)
        return True

    async def _claim(self, step: Step) -> Claim | None:
        """The step as ours; broken off meanwhile, it is given back if the database had already made it ours."""
        claiming = asyncio.ensure_future(self._units.claim(step, self.name))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claim = await claiming
            if claim is not None:
                await asyncio.shield(self._undo(claim))
            raise

    async def _undo(self, claim: Claim) -> None:
        """Gives a claim back that was broken off, maybe between writing its shard and committing it."""
        if await self._units.give_back(claim) and claim.step.number >= 0:
            await self._storage.delete(claim.shard_path)

    async def _attempts(self, claim: Claim) -> bool:
        """Whether this claim ended the step, done or failed."""
        if claim.unit.claims > MAX_CLAIMS:
            return await self._give_up(claim, f"{MAX_CLAIMS} processes ended while they worked on it")
        while True:
            try:
                return await self._waited_out(lambda: self._attempt(claim))
            except JobRejected as rejection:
                return await self._end_rejected(claim, rejection)
            except EngineUnavailable as error:
                return await self._give_up(claim, f"no answer for {self._engine_wait_seconds:g} s: {error}")
            except Exception as error:  # a kind's failure is recorded, and its siblings go on
                reason = f"{type(error).__name__}: {error}"[:MAX_REASON]
                log.warning("step %s failed (%s)", claim.step.id, type(error).__name__)
                log.debug("step %s failed", claim.step.id, exc_info=error)
            failures = await _patiently(self._units.failed_attempt, claim, reason)
            if failures is None:
                return False
            if failures >= MAX_FAILURES:
                return await self._give_up(claim, reason)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _attempt(self, claim: Claim) -> bool:
        """Does the step once and commits it; whether the claim was still ours."""
        job, kind = claim.job, self._kinds[claim.job.kind]
        if claim.step.number == PREPARE:
            prepared = await kind.prepare(job)
            return await _patiently(self._units.commit_prepared, claim, prepared)
        if claim.step.number == FINISH:
            result = await kind.finish(job, job.status == "cancelling")
            return await _patiently(self._units.commit_finished, claim, result)
        previous = claim.unit if claim.unit.shard else None
        outcome = await kind.run_unit(job, claim.step.number, previous, claim.shard_path)
        kept = await _patiently(self._units.commit_rows, claim, outcome)
        if not kept:
            await self._storage.delete(claim.shard_path)
        return kept

    async def _waited_out(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        """The attempt's answer; it is made again while engine, database or storage do not answer, for so long."""
        pause, longest = WAIT_SECONDS
        deadline = time.monotonic() + self._engine_wait_seconds
        while True:
            try:
                return await attempt()
            except (EngineUnavailable, DatabaseUnavailable, StorageUnavailable):
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _give_up(self, claim: Claim, reason: str) -> bool:
        """Whether the step is failed by this claim: a unit alone, or with another step the job."""
        log.error("step %s is given up", claim.step.id)
        if claim.step.number < 0:
            return await _patiently(self._units.commit_job_failed, claim, reason)
        rows = self._kinds[claim.job.kind].unit_rows(claim.job, claim.step.number)
        return await _patiently(self._units.commit_failure, claim, reason, rows)

    async def _end_rejected(self, claim: Claim, rejection: JobRejected) -> bool:
        return await _patiently(self._units.commit_job_failed, claim, str(rejection), rejection.result)

    async def _is_still_due(self, step: Step) -> bool:
        job = await self._jobs.get(step.job_id)
        return job.round == step.round and job.status in step.statuses

    async def _queue_following(self, step: Step) -> None:
        """Queues what comes after a step that is over; also where it was over long ago, and its worker then killed."""
        job = await self._jobs.get(step.job_id)
        if job.round != step.round or job.status in TERMINAL:
            return
        if job.status != "running" or step.number == PREPARE:
            await self.submit(job.id)
            return
        following = await self._units.following(job, step.number)
        await self.queue.put([following] if following is not None else await self._last_step(job))

    async def _last_step(self, job: Job) -> list[Step]:
        """The end of a job whose units are all over; nothing before."""
        return [Step(job.id, job.round, FINISH)] if await self._units.all_over(job) else []

    def _drop_work_of(self, job_id: str) -> None:
        """Breaks off this process's units of a job that is not running any more."""
        for task, step in self._at_work.items():
            if step.job_id == job_id and step.number != FINISH:
                task.cancel()

    async def _every(self, seconds: float, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))
            try:
                await chore()
            except Exception as error:  # the next round may succeed; without it nobody would look any more
                log.warning("%s: %s", chore.__name__.strip("_"), error)
                log.debug("%s", chore.__name__, exc_info=error)

    async def _show_life(self) -> None:
        """The sign of life; and work is dropped whose job was cancelled in another process."""
        if not await self._workers.beat():
            log.error("another process works under the name %r now; this one stops", self.name)
            self._name_is_ours = False
            os.kill(os.getpid(), signal.SIGTERM)
        for job_id in {step.job_id for step in self._at_work.values()}:
            try:
                job = await self._jobs.get(job_id)
            except NotFound:
                job = None
            if job is None or job.status in (*TERMINAL, "cancelling"):
                self._drop_work_of(job_id)

    async def _look_after_others(self) -> None:
        await self._take_over()
        await self._look_after_jobs()
        await self.queue.forget()

    async def _take_over(self) -> None:
        """Queues again what is held by processes that are gone; and what this one holds but does not know of."""
        alive = {worker.id for worker in await self._workers.alive(self._settings.takeover_seconds)}
        held = await self.queue.held()
        known = {step.id for step in self._at_work.values()}
        strays = {step.workflow_id for step in held if step.executor_id == self.name} - known
        gone = {step.workflow_id for step in held if step.executor_id not in alive}
        await self.queue.queue_again(sorted(gone | (strays & self._suspects)))
        self._suspects = strays - self._suspects

    async def _look_after_jobs(self) -> None:
        """Ends jobs that expired; queues those for which nothing is queued."""
        for job in await self._jobs.unended():
            if job.expires_at is not None and job.expires_at <= time.time() and job.status in ("validating", "running"):
                await self._jobs.request_cancel(job.id)
                await self.submit(job.id)
            elif not await self.queue.has_any(job.id):
                await self.queue.forget(job.id, older_seconds=0)
                await self.submit(job.id)


async def _patiently(act: Callable[P, Awaitable[T]], *arguments: P.args, **options: P.kwargs) -> T:
    """What `act` returns; while the database does not answer it is asked again, for ever: nothing goes on without."""
    pause, longest = WAIT_SECONDS
    while True:
        try:
            return await act(*arguments, **options)
        except DatabaseUnavailable as error:
            log.warning("%s; trying again in %g s", error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
