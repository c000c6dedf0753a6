"""`rlt serve`: the service on a port, from the first line to the last request.

    SIGTERM or Ctrl-C     no new connections; running requests go on for shutdown_seconds, event streams end, units of
                          work are handed back, the engine that was started is ended
    once more             at once
    something hangs       the process ends all the same, CLOSING_SECONDS later (ending.py)

The port is taken before anything is loaded, and listened to once everything is: who can connect is served.
"""

import asyncio
import errno
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from server.configs import ServeConfig
from server.ending import CLOSING_SECONDS, end_within
from server.errors import ServerError
from server.jobs.runtime import Runtime
from server.service import Parts, open_parts
from server.state.keys import Keys
from server.state.temporary import hold_temporary_files_in
from server.web.access import is_loopback
from server.web.app import create_app
from server.web.logs import set_up_logs

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which proxies and SDKs keep a connection: they close it, and no request meets its end."""
HEADER_BYTES = 64 * 1024
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(config: ServeConfig) -> None:
    """Carries out `rlt serve`; returns after SIGTERM or Ctrl-C. Raises RltError where something must be mended."""
    set_up_logs(config)
    hold_temporary_files_in(Path(config.data))
    with _bound(config) as listener:
        settings = uvicorn_settings(config)
        with asyncio.Runner(loop_factory=settings.get_loop_factory()) as runner:
            runner.run(_serve(config, listener, settings))


async def _serve(config: ServeConfig, listener: socket.socket, settings: uvicorn.Config) -> None:
    stop = Stop(config.shutdown_seconds + CLOSING_SECONDS)
    with stop.on_signals():

        async def admit(keys: Keys) -> None:
            await check_door(keys, config.host)

        try:
            async with open_parts(config, admit) as parts:
                app = create_app(parts)
                settings.app = app
                server = Server(settings, lambda: _tell(parts, listener))
                stop.serving(server, app, parts.runtime)
                await server.serve(sockets=[listener])
        except asyncio.CancelledError:
            if not stop.asked:
                raise
            print("stopped", flush=True)


class Stop:
    """What a signal does: before the service is ready it breaks the start off, then it ends the serving gently, then
    at once."""

    def __init__(self, within_seconds: float) -> None:
        self.asked = 0
        self._within_seconds = within_seconds
        self._task = asyncio.current_task()
        self._server: Server | None = None
        self._app: FastAPI | None = None
        self._runtime: Runtime | None = None
        self._handing_back: asyncio.Task[None] | None = None

    def serving(self, server: "Server", app: FastAPI, runtime: Runtime) -> None:
        """From now on the signal is theirs."""
        self._server, self._app, self._runtime = server, app, runtime

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Takes SIGTERM and SIGINT over."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._ask)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _ask(self) -> None:
        if not self.asked:
            end_within(self._within_seconds)
        self.asked += 1
        if self._server is None or self._app is None or self._runtime is None:
            assert self._task is not None
            self._task.cancel()
            return
        self._app.state.stopping.set()
        # Beside the last requests, not after them: other workers take the units over at once.
        self._handing_back = self._handing_back or asyncio.create_task(self._runtime.stop())
        self._server.should_exit = True
        self._server.force_exit = self.asked > 1


class Server(uvicorn.Server):
    """Uvicorn's, which says where it listens, and leaves signals to `Stop`: uvicorn raises them again as it ends,
    before the parts are closed."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then says so."""
        await super().startup(sockets)
        self._on_ready()


def _tell(parts: Parts, listener: socket.socket) -> None:
    for line in ready_lines(parts, listener):
        print(line, flush=True)


def ready_lines(parts: Parts, listener: socket.socket) -> Iterator[str]:
    """What is served, by what, and where, for people."""
    config = parts.config
    if parts.teachers is not None:
        engine, model = parts.teachers.engine, parts.teachers.known(None)
        yield f"teacher   {model.name} ({model.folder}, weights {model.digest}) on {engine.name} {engine.version}"
    if parts.student is not None:
        beside = f", with {parts.student.teacher_name} for rKL" if parts.student.teacher_name else ", without rKL"
        yield f"student   {parts.student.name} (weights {parts.student.digest}){beside}"
    else:
        yield "student   none: explanations are not scored or ranked (--student or --scorer-url)"
    work = f"{config.units} units at a time here" if config.units else "left to `rlt worker`"
    yield f"jobs      {work}; database {parts.database.shown}, storage {parts.storage.shown}"
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    yield f"serving   {url}    (console: {url}/console, API: {url}/docs)"


async def check_door(keys: Keys, host: str) -> None:
    """Raises ServerError where others could reach a service that has no key; on loopback it only warns."""
    if await keys.any():
        return
    if not is_loopback(host):
        raise ServerError(
            f"host {host!r}: others can reach this address, and there is no API key; create one first: "
            "rlt keys create --key NAME (same --data or RLT_DATABASE_URL), or serve on 127.0.0.1"
        )
    print(
        "rlt serve: there is no API key, so everybody on this machine may do everything; `rlt keys create --key NAME`",
        file=sys.stderr,
    )


@contextmanager
def _bound(config: ServeConfig) -> Iterator[socket.socket]:
    """The port, taken but not yet listened to."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServerError(f"host {config.host!r}: is no address of this machine ({error.strerror})") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ServerError(_cannot_bind(config, error)) from error
        yield listener


def _cannot_bind(config: ServeConfig, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {config.port}: another program listens there; choose another --port, or end that program"
    if error.errno == errno.EACCES:
        return f"port {config.port}: this user may not listen there; choose a --port above 1023"
    return f"host {config.host!r}, port {config.port}: cannot listen there ({error.strerror})"


def uvicorn_settings(config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves; its app is set once the parts are open."""
    return uvicorn.Config(
        app="replaced once the parts are open",
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(config.shutdown_seconds),
    )
