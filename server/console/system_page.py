"""The System page: how the service stands, each part with a light. GET /v1/admin/system and /v1/admin/workers."""

import time
from typing import Any

from fastapi import Request, Response

from server.console.pages import page, page_router
from server.service import Parts
from server.web.access import Caller, needs
from server.web.routes.admin import list_workers
from server.web.routes.models import served
from server.web.routes.system import get_system

router = page_router()


@router.get("/system", dependencies=[needs()])
async def system_page(request: Request) -> Response:
    """The whole page."""
    return page(request, "system.html", **await _standing(request))


@router.get("/system/standing", dependencies=[needs()])
async def system_standing(request: Request) -> Response:
    """The piece of it that changes by itself; the page asks for it again and again."""
    return page(request, "system_standing.html", **await _standing(request))


async def _standing(request: Request) -> dict[str, Any]:
    """What any key may know, and what only an operator's may (None for others)."""
    parts: Parts = request.app.state.parts
    caller: Caller = request.scope["state"]["caller"]
    operator = "admin" in caller.scopes
    return {
        "models": served(parts),
        "system": await get_system(request) if operator else None,
        "workers": (await list_workers(request)).data if operator else None,
        "now": int(time.time()),
    }
