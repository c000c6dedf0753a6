"""The Training pages: runs found in the folder of `--runs`, and one of them with its charts and explanations, live.

GET /v1/admin/runs, /v1/admin/runs/{run} and /v1/admin/runs/{run}/samples. The charts' numbers come along with the piece
that htmx asks for again and again (charts.py); static/training.js draws them with uPlot. Nothing is started here.
"""

import json
from typing import Any

from fastapi import Request, Response

from server.console.charts import drawn, grouped
from server.console.pages import page, page_router
from server.console.side_by_side import choice, of_side
from server.errors import NotFound
from server.web.access import needs
from server.web.routes.runs import get_run, get_run_samples, list_runs
from student.config import flat
from student.run_reading.runs import State

router = page_router()
LIGHTS: dict[State, tuple[str, str]] = {
    "running": ("good", "running"),
    "finished": ("good", "finished"),
    "paused": ("bad", "paused by a watchdog"),
    "stopped": ("warn", "stopped"),
    "failed": ("bad", "failed"),
    "stale": ("warn", "silent for long"),
}
"""The light of each state, and what it is called."""
POINTS = 300
"""Points of a series: a chart is some 600 pixels wide."""


@router.get("/training", dependencies=[needs()])
async def training_page(request: Request) -> Response:
    """All runs."""
    return page(request, "training.html", **await _runs(request))


@router.get("/training/list", dependencies=[needs("admin")])
async def training_list(request: Request) -> Response:
    """The piece of it that changes by itself."""
    return page(request, "training_list.html", **await _runs(request))


@router.get("/training/{run}", dependencies=[needs("admin")])
async def run_page(request: Request, run: str) -> Response:
    """One run."""
    return page(request, "training_run.html", **await _run(request, run), **await _samples(request, run))


@router.get("/training/{run}/standing", dependencies=[needs("admin")])
async def run_standing(request: Request, run: str) -> Response:
    """What changes while it runs: how it stands, its figures."""
    return page(request, "training_standing.html", **(await _run(request, run) | {"again": True}))


@router.get("/training/{run}/samples", dependencies=[needs("admin")])
async def run_samples(
    request: Request, run: str, left: int | None = None, right: int | None = None, problem: str | None = None
) -> Response:
    """Explanations of two steps."""
    return page(request, "training_samples.html", **await _samples(request, run, left, right, problem))


async def _runs(request: Request) -> dict[str, Any]:
    """The list; or None with why there is none, as to a key that may not see it."""
    values: dict[str, Any] = {"lights": LIGHTS, "runs": None, "missing": None}
    if "admin" not in request.scope["state"]["caller"].scopes:
        return values
    try:
        return values | {"runs": await list_runs(request)}
    except NotFound as error:
        return values | {"missing": str(error)}


async def _run(request: Request, run: str) -> dict[str, Any]:
    found = await get_run(request, run, POINTS)
    return {
        "run": found,
        "light": LIGHTS[found.state],
        "data": json.dumps(drawn(found), allow_nan=False),
        "groups": grouped(found.figures),
        "settings": flat(found.settings),
        "report": flat(found.report or {}),
        "again": False,
    }


async def _samples(
    request: Request, run: str, left: int | None = None, right: int | None = None, problem: str | None = None
) -> dict[str, Any]:
    """Steps and problems to choose from, and the explanations of those that are chosen."""
    known = await get_run_samples(request, run, (), None)
    chosen = choice(known, left, right, problem)
    if chosen is None:
        return {"run_id": run, "known": known, "chosen": None, "sides": []}
    sides = []
    for step, of in zip((chosen.left, chosen.right), chosen.problems, strict=True):
        found = await get_run_samples(request, run, (step,), of)
        sides.append((step, of_side(found.data, step, of)))
    return {"run_id": run, "known": known, "chosen": chosen, "sides": sides}
