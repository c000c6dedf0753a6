"""The processes that work on jobs: each has a row under its own name, and a sign of life in it every few seconds.

Who watches compares a row with what it was when last looked at, on the watcher's own clock; so clocks of different
machines need not agree. A name is its owner's over restarts (work that a killed process held is found by it), and
therefore one live process's only.
"""

import asyncio
import os
import socket
import time

from sqlalchemy import ColumnElement, delete, select, update

from server.configs import JobSettings, WorkerConfig
from server.errors import ServerError
from server.state.database import Database
from server.state.tables import Worker

UNCHANGED_BEATS = 3
"""Heartbeats without a sign of life after which somebody who takes over a name believes that its owner is gone."""


def worker_name(settings: JobSettings) -> str:
    """The name that was given, or one of this machine; a service and a worker beside it get two."""
    kind = "worker" if isinstance(settings, WorkerConfig) else "serve"
    return settings.name or f"{socket.gethostname()}-{kind}"


class Workers:
    """The rows of all workers, and this process's own one."""

    def __init__(self, database: Database, name: str, units: int, heartbeat_seconds: float) -> None:
        self.name = name
        self._database = database
        self._units = units
        self._heartbeat_seconds = heartbeat_seconds
        self._host = socket.gethostname()
        self._pid = os.getpid()
        self._seen: dict[str, tuple[int, float]] = {}

    async def enter(self) -> None:
        """Takes the name. Raises ServerError where another live process has it; a killed one's is free at once."""
        worker = await self._row()
        if worker is not None and not self._is_ours_or_dead(worker):
            await self._wait_for_silence(worker)
        await self._write(self._own_row(int(time.time())))

    def _is_ours_or_dead(self, worker: Worker) -> bool:
        """Whether the row's process ended on this machine (a container's next process has the same number)."""
        if worker.host != self._host:
            return False
        return worker.pid == self._pid or not _is_alive(worker.pid)

    async def _wait_for_silence(self, worker: Worker) -> None:
        """Returns when the row has not changed for three heartbeats; raises ServerError as it does."""
        silent_seconds = UNCHANGED_BEATS * max(self._heartbeat_seconds, 1)
        for _ in range(int(silent_seconds * 10)):
            await asyncio.sleep(0.1)
            now = await self._row()
            if now is not None and now.heartbeat_at != worker.heartbeat_at:
                raise ServerError(
                    f"name: {self.name!r} is taken by a live process ({now.host}, pid {now.pid}); "
                    "give this one another with --name"
                )

    async def beat(self) -> bool:
        """A sign of life; False where the name is another process's by now, which must end this one's work."""
        alive = update(Worker).where(*self._mine()).values(heartbeat_at=int(time.time())).returning(Worker.id)
        async with self._database.session() as session:
            if (await session.execute(alive)).first() is not None:
                return True
            if await session.get(Worker, self.name) is not None:
                return False
            session.add(self._own_row(int(time.time())))  # thought dead and deleted by another, while it was stopped
        return True

    async def leave(self) -> None:
        """Gives the name up."""
        async with self._database.session() as session:
            await session.execute(delete(Worker).where(*self._mine()))

    async def alive(self, silent_seconds: float) -> list[Worker]:
        """Those who gave a sign of life within the last `silent_seconds` that we watched; forgets the others."""
        now = time.monotonic()
        async with self._database.reading() as session:
            workers = list((await session.scalars(select(Worker))).all())
        for worker in workers:
            if self._seen.get(worker.id, (None, now))[0] != worker.heartbeat_at:
                self._seen[worker.id] = (worker.heartbeat_at, now)
        gone = [worker for worker in workers if now - self._seen[worker.id][1] > silent_seconds]
        for worker in gone:
            unchanged = (Worker.id == worker.id, Worker.heartbeat_at == worker.heartbeat_at)
            async with self._database.session() as session:
                await session.execute(delete(Worker).where(*unchanged))
        return [worker for worker in workers if worker not in gone]

    async def _row(self) -> Worker | None:
        async with self._database.reading() as session:
            return await session.get(Worker, self.name)

    async def _write(self, worker: Worker) -> None:
        async with self._database.session() as session:
            await session.merge(worker)

    def _own_row(self, now: int) -> Worker:
        return Worker(id=self.name, host=self._host, pid=self._pid, units=self._units, started_at=now, heartbeat_at=now)

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return (Worker.id == self.name, Worker.host == self._host, Worker.pid == self._pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
