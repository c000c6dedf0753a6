"""The whole application without a model: real keys in a real database, every route; with a port or without one.

For tests of what comes before a route's own work, or of what depends on timing: then a script stands for the teacher.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from server.configs import EngineSettings, Limits, ServeConfig
from server.datasets.datasets import DatasetKind
from server.jobs.jobs import JobKind, Jobs
from server.jobs.runtime import Runtime
from server.serve import Server, uvicorn_settings
from server.service import Parts
from server.state.database import Database
from server.state.files import Files
from server.state.keys import Keys
from server.state.storage import Storage
from server.teaching.teachers import Teachers
from server.web.app import create_app
from student.models import load_tokenizer
from tests.server.scripted_engine import ScriptedEngine

Scenario = Callable[[httpx.AsyncClient, Parts], Awaitable[None]]


@dataclass(frozen=True)
class Script:
    """What a teacher writes, in the tokens of the model in `folder`."""

    folder: Path
    text: str


def in_app(
    folder: Path,
    scenario: Scenario,
    host: str = "127.0.0.1",
    script: Script | None = None,
    runs: str | None = None,
    **limits: Any,
) -> None:
    """Runs a scenario with a client of the application, which listens (as far as it knows) on `host`."""

    async def run() -> None:
        config = ServeConfig(data=str(folder), host=host, runs=runs, limits=Limits(**limits))
        async with parts_without_models(config, script) as parts:
            transport = httpx.ASGITransport(create_app(parts))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
                await scenario(client, parts)

    asyncio.run(run())


@dataclass(frozen=True)
class Served:
    """The application on a port, run by a thread of this process."""

    url: str
    parts: Parts
    server: Server
    loop: asyncio.AbstractEventLoop
    app: FastAPI

    def hold(self) -> None:
        """The scripted teacher writes nothing more, for now."""
        self.loop.call_soon_threadsafe(self.engine.may_go.clear)

    def let_go(self) -> None:
        """It goes on."""
        self.loop.call_soon_threadsafe(self.engine.may_go.set)

    @property
    def engine(self) -> ScriptedEngine:
        """The script's."""
        assert self.parts.teachers is not None
        assert isinstance(self.parts.teachers.engine, ScriptedEngine)
        return self.parts.teachers.engine


@contextmanager
def on_a_port(
    folder: Path, script: Script | None = None, works: bool = False, runs: str | None = None, **limits: Any
) -> Iterator[Served]:
    """The application, served as `rlt serve` does; datasets are worked on where that is asked for."""
    config = ServeConfig(data=str(folder), runs=runs, limits=Limits(**limits))
    ready, found = threading.Event(), []  # type: ignore[var-annotated]

    async def run(listener: socket.socket) -> None:
        async with parts_without_models(config, script, works) as parts:
            settings = uvicorn_settings(config)
            settings.app = app = create_app(parts)
            server = Server(settings, ready.set)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            found.append(Served(url, parts, server, asyncio.get_running_loop(), app))
            await server.serve(sockets=[listener])

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(run(listener)))
        thread.start()
        assert ready.wait(30)
        yield found[0]
        found[0].server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@asynccontextmanager
async def parts_without_models(
    config: ServeConfig, script: Script | None = None, works: bool = False
) -> AsyncIterator[Parts]:
    """The parts of a service that does not score; its runtime is started where it is to work on datasets."""
    data = Path(config.data)
    async with AsyncExitStack() as stack:
        database = await Database.open(None, data)
        stack.push_async_callback(database.close)
        storage = await Storage.open(None, data)
        stack.push_async_callback(storage.close)
        files, jobs = Files(database, storage), Jobs(database)
        teachers = None if script is None else await scripted_teachers(script)
        kinds: dict[str, JobKind] = {"dataset": DatasetKind(storage, files, jobs, teachers, None)}
        runtime = Runtime(database, kinds, config, storage=storage)
        if works:
            await runtime.start()
            stack.push_async_callback(runtime.stop)
        keys = await Keys.open(database, data)
        yield Parts(config, database, storage, keys, files, jobs, teachers, None, runtime)


async def scripted_teachers(script: Script) -> Teachers:
    """The script as a teacher of the name of its folder."""
    engine = ScriptedEngine(load_tokenizer(str(script.folder)), lambda asked: script.text)
    return await Teachers.open(EngineSettings(teacher=str(script.folder), device="cpu"), engine)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key}"}
