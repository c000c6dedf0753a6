"""DBOS as the queue of steps: durable, shared by all workers, and every call of ours to DBOS is in this file.

Why DBOS: a step that a killed process held stays recorded under the process's name; the process gets it back when it
starts again, and others can take it over (`resume_workflow`). Its own database is SQLite or PostgreSQL, as ours is.

A step is a workflow without steps of DBOS's own: what it did is recorded by our commits (units.py), and doing it once
more changes nothing, so there is nothing to replay. DBOS runs it in a thread, which runs it on the service's event loop
and waits. A workflow that returns or raises an Exception is over for DBOS; one that is ended by Unrecorded is still
owed, by this process or by who takes it over.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowStatus
from sqlalchemy import make_url

from server.jobs.units import FINISH, PREPARE, Step

APPLICATION: Final = "rlt"
VERSION: Final = "1"
"""Of the steps' meaning; DBOS gives work only to processes of the same version. By hand: the code's hash would change
with every release, and work that was queued before an update would wait for ever."""
WORKFLOW: Final = "rlt-step"
QUEUE: Final = "rlt-steps"
POLL_SECONDS: Final = 0.2
AHEAD: Final = 2
"""Steps a process holds beyond those it works on, so that the next one begins without waiting for a poll."""
PRUNED_SECONDS: Final = 60
PRUNED_AT_ONCE: Final = 1000
OVER: Final = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

log = logging.getLogger(__name__)


class Unrecorded(BaseException):
    """Ends a workflow without an outcome. Not an Exception: DBOS records every one of those as the workflow's end."""


class TaskQueue:
    """The steps that are queued or held, in DBOS's database at `url`. One per process, as DBOS is."""

    def __init__(self, url: str, executor: str) -> None:
        self._url = url
        self._executor = executor
        self._client: DBOSClient | None = None

    async def open(self, work: Callable[[Step], Awaitable[bool]], units: int, most_units: int) -> None:
        """Begins to take steps, `units` and 2 more at a time, none where `units` is 0; what was held before comes back.

        `work` says whether the step is over; where not, or where it raises, the step stays owed. DBOS keeps one limit
        for all processes, so it is that of the one with the most units (`most_units`); the others hold some in vain.
        """
        loop = asyncio.get_running_loop()

        def step(job_id: str, round_number: int, number: int) -> None:
            wanted = Step(job_id, round_number, number)
            try:
                over = asyncio.run_coroutine_threadsafe(_awaited(work(wanted)), loop).result()
            except Exception as error:  # the boundary to DBOS, for which a workflow that raises one is over
                log.error("step %s was left undone (%s); it will be taken up again", wanted.id, type(error).__name__)
                log.debug("step %s", wanted.id, exc_info=error)
                raise Unrecorded from error
            if not over:
                raise Unrecorded

        await asyncio.to_thread(self._launch, step, units, most_units)

    def _launch(self, step: Callable[[str, int, int], None], units: int, most_units: int) -> None:
        logging.getLogger("dbos").addHandler(logging.NullHandler())  # so that DBOS adds none of its own
        if self._url.startswith("sqlite"):
            with sqlite3.connect(make_url(self._url).database or "", timeout=30) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # stays: one flush a commit instead of three
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(step)
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._url,
                "application_version": VERSION,
                "executor_id": self._executor,
                "sys_db_pool_size": 5,
                "use_listen_notify": False,
                "log_level": "WARNING",
            }
        )
        if units == 0:
            DBOS.listen_queues([])
        DBOS.launch()
        if units:
            DBOS.register_queue(
                QUEUE,
                worker_concurrency=most_units + AHEAD,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update",
            )
        self._client = DBOSClient(system_database_url=self._url, application_name=APPLICATION)

    async def put(self, steps: Iterable[Step]) -> None:
        """Queues steps; one that is queued or held already is left as it is. What begins and ends jobs comes first, and
        of the units those with low numbers: so a new job is not made to wait behind all of an old one."""
        await asyncio.to_thread(self._put, list(steps))

    def _put(self, steps: list[Step]) -> None:
        for step in steps:
            options: EnqueueOptions = {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": step.id,
                "app_version": VERSION,
                "priority": 1 if step.number in (PREPARE, FINISH) else 2 + step.number,
            }
            self._open_client.enqueue(options, step.job_id, step.round, step.number)

    async def held(self) -> list[WorkflowStatus]:
        """The steps that some process, live or not, holds: at most what all processes may work on at a time."""
        return await asyncio.to_thread(
            self._open_client.list_workflows,
            status="PENDING",
            queue_name=QUEUE,
            load_input=False,
            load_output=False,
        )

    async def queue_again(self, workflow_ids: list[str]) -> None:
        """Takes held steps from their holders and queues them; what is over stays over."""
        if workflow_ids:
            await asyncio.to_thread(self._open_client.resume_workflows, workflow_ids, queue_name=QUEUE)

    async def has_any(self, job_id: str) -> bool:
        """Whether a step of the job is queued or held."""
        found = await asyncio.to_thread(
            self._open_client.list_workflows,
            workflow_id_prefix=f"{job_id}-r",
            status=["ENQUEUED", "DELAYED", "PENDING"],
            limit=1,
            load_input=False,
            load_output=False,
        )
        return bool(found)

    async def forget(self, job_id: str | None = None, older_seconds: float = PRUNED_SECONDS) -> int:
        """Deletes records of steps that are over, a thousand at most, of a job or of all; says how many."""
        before = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - older_seconds))
        over = await asyncio.to_thread(
            self._open_client.list_workflows,
            workflow_id_prefix=None if job_id is None else f"{job_id}-r",
            status=OVER,
            completed_before=before,
            limit=PRUNED_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        if over:
            await asyncio.to_thread(self._open_client.delete_workflows, [step.workflow_id for step in over])
        return len(over)

    async def stop_taking(self) -> None:
        """Takes no more steps; those at work go on, and what they leave undone stays held until it is queued again."""
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)

    async def close(self) -> None:
        """Gives the connections back; after stop_taking."""
        if self._client is not None:
            await asyncio.to_thread(self._client.destroy)

    @property
    def _open_client(self) -> DBOSClient:
        assert self._client is not None, "the queue is opened first"
        return self._client


async def _awaited(work: Awaitable[bool]) -> bool:
    return await work
