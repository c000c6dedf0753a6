"""Is it alive, could it serve now, and its figures; and the front page, which says where to read on."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from server.errors import Unavailable
from server.service import Parts
from server.web.access import needs
from server.web.metrics import Metrics
from student.errors import RltError

router = APIRouter()
log = structlog.get_logger("rlt.health")
CHECK_SECONDS = 5.0


@router.get("/", include_in_schema=False)
async def front(request: Request) -> Response:
    """Where to read on: a browser is led to the console, a program told where things are."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/console", 303)
    places = {"docs": "/docs", "openapi": "/openapi.json", "ready": "/health/ready", "console": "/console"}
    return JSONResponse({"service": "RLT teacher"} | places)


@router.get("/health/live", tags=["health"], summary="Is the process alive?")
async def live() -> dict[str, str]:
    """Answers as long as the process does; what it depends on is not asked."""
    return {"status": "alive"}


@router.get("/health/ready", tags=["health"], summary="Could a request be served now?")
async def ready(request: Request) -> dict[str, Any]:
    """200 where database and engine answer; else 503, naming those that do not. The log has the reasons, since
    this needs no key."""
    if request.app.state.stopping.is_set():
        raise Unavailable("not ready: the service is stopping", code="shutting_down")
    parts: Parts = request.app.state.parts
    checks: dict[str, Awaitable[None]] = {"database": parts.database.health()}
    if parts.teachers is not None:
        checks["engine"] = parts.teachers.engine.health()
    answers = dict(zip(checks, await asyncio.gather(*map(_answers, checks, checks.values())), strict=True))
    if not all(answers.values()):
        silent = " and ".join(name for name, answered in answers.items() if not answered)
        raise Unavailable(f"not ready: {silent} did not answer; the service's log says why", code="not_ready")
    return {"status": "ready", "checks": dict.fromkeys(answers, "ok")}


async def _answers(name: str, check: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except (RltError, TimeoutError) as error:
        log.warning("not ready", part=name, reason=str(error) or f"no answer within {CHECK_SECONDS:g} s")
        return False
    return True


@router.get(
    "/metrics",
    tags=["health"],
    summary="Figures for Prometheus",
    dependencies=[needs("admin")],
    response_class=PlainTextResponse,
)
async def figures(request: Request) -> Response:
    """Requests, running and waiting work, jobs, units, rows, tokens; needs the scope admin where there are keys."""
    metrics: Metrics = request.app.state.metrics
    parts: Parts = request.app.state.parts
    engine = parts.teachers.engine if parts.teachers is not None else None
    metrics.engine_up.set(engine is not None and await _answers("engine", engine.health()))
    text = await metrics.text(parts.database, parts.config.takeover_seconds)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
