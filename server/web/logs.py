"""Log lines of the service, as JSON or text, and one a request: its id, route, status, time and key, never content.

    {"event": "request", "request_id": "req_...", "method": "POST", "route": "/v1/explanations", "status": 200,
     "ms": 212.4, "key": "key_...", "level": "info", "time": "..."}

The route is its template, so no id of anybody's and no query is in it. Lines of libraries come out in the same form.
"""

import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, TextIO

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars

from server.configs import ServiceConfig

QUIET_ROUTES = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds by machines: logged at debug."""
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""What a caller's own x-request-id must look like to be taken over; anything else is replaced."""

Observe = Callable[[str, str, int, float], None]
"""Told method, route, status and seconds of every request (metrics.py)."""

log = structlog.get_logger("rlt.requests")


def set_up_logs(config: ServiceConfig, stream: TextIO | None = None) -> None:
    """Sends all log lines of this process to `stream`, stderr by default, in the form that `config` asks for."""
    stream = stream or sys.stderr
    as_text = config.log_format == "text" or (config.log_format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    structlog.configure(
        processors=[*_shared(), *_last(as_text, stream)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(as_text, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))  # below info, libraries log what they are sent: prompts, rows, statements
    for name, least in {"uvicorn": logging.WARNING, "httpx": logging.WARNING, "alembic": logging.WARNING}.items():
        logging.getLogger(name).setLevel(max(level, least))


def _shared() -> list[Any]:
    return [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _last(as_text: bool, stream: TextIO) -> list[Any]:
    if as_text:
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time")]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class RequestLog:
    """Gives each request its id (`scope["state"]["request_id"]`, header x-request-id); logs and counts it at its end.

    Headers that anybody leaves in `scope["state"]["headers"]` go out with the response, whoever makes it.
    """

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self.app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries the request out."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _given_id(scope) or f"req_{uuid.uuid4().hex}"
        state["headers"] = headers = [(b"x-request-id", request_id.encode())]
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        status = 0
        began = time.perf_counter()

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            route = getattr(scope.get("route"), "path", None) or "none"
            seconds = time.perf_counter() - began
            self._observe(scope["method"], route, status, seconds)
            _write_line(scope, route, status, seconds)


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = str(value.decode("latin-1"))
            return given if GIVEN_ID.fullmatch(given) else None
    return None


def _write_line(scope: Scope, route: str, status: int, seconds: float) -> None:
    """A status of 0 means that there was none before the connection ended."""
    write = log.debug if route in QUIET_ROUTES else log.info
    caller = scope["state"].get("caller")
    write(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        ms=round(seconds * 1000, 1),
        key=None if caller is None else caller.id,
    )
