"""The System page: how the service stands, each part with a light, and its keys.

GET /v1/admin/system, /v1/admin/workers and /v1/models; POST, GET and DELETE of /v1/admin/keys.
"""

import time
from dataclasses import replace
from typing import Any, get_args

from fastapi import Request, Response

from server.configs import Scope
from server.console import forms
from server.console.pages import page, page_router
from server.service import Parts
from server.web.access import ANYBODY, Caller, needs
from server.web.routes.admin import list_workers
from server.web.routes.keys import KeyRequest, NewKey, create_key, list_keys, revoke_key
from server.web.routes.models import served
from server.web.routes.system import get_system

router = page_router()


@router.get("/system", dependencies=[needs()])
async def system_page(request: Request) -> Response:
    """The whole page."""
    return page(request, "system.html", **await _standing(request), **await _keys(request))


@router.get("/system/standing", dependencies=[needs()])
async def system_standing(request: Request) -> Response:
    """The piece of it that changes by itself; the page asks for it again and again."""
    return page(request, "system_standing.html", **await _standing(request))


@router.post("/system/keys", dependencies=[needs("admin")])
async def add_key(request: Request) -> Response:
    """Makes a key and shows it once. Where it is the first one the browser is signed in with it: from now on everybody
    needs one, and the page with the key on it must not be lost."""
    form = await request.form()
    scopes = [scope for scope in form.getlist("scopes") if isinstance(scope, str)]
    made = await create_key(request, forms.body(KeyRequest, {"name": form.get("name", ""), "scopes": scopes}))
    cookie = _signed_in(request, made) if _caller(request) is ANYBODY else None
    response = page(request, "system_keys.html", **await _keys(request, made))
    if cookie is not None:
        response.headers.append("set-cookie", cookie)
    return response


@router.post("/system/keys/{key_id}/revoke", dependencies=[needs("admin")])
async def remove_key(request: Request, key_id: str) -> Response:
    """Revokes a key."""
    revoked = await revoke_key(request, key_id)
    return page(request, "system_keys.html", **(await _keys(request) | {"revoked": revoked}))


def _signed_in(request: Request, made: NewKey) -> str:
    """The cookie of a session with the new key, which the page's forms are made for already."""
    state = request.scope["state"]
    parts: Parts = request.app.state.parts
    state["caller"] = Caller(made.id, made.scopes)
    state["visit"] = replace(state["visit"], handle=parts.keys.handle(made.key))
    return str(state["sessions"].signed_in(made.key, request.scope))


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def _standing(request: Request) -> dict[str, Any]:
    """What any key may know, and what only an operator's may (None for others)."""
    parts: Parts = request.app.state.parts
    operator = "admin" in _caller(request).scopes
    return {
        "models": served(parts),
        "system": await get_system(request) if operator else None,
        "workers": (await list_workers(request)).data if operator else None,
        "now": int(time.time()),
    }


async def _keys(request: Request, made: NewKey | None = None) -> dict[str, Any]:
    operator = "admin" in _caller(request).scopes
    return {
        "keys": (await list_keys(request)).data if operator or made is not None else None,
        "all_scopes": get_args(Scope),
        "made": made,
        "revoked": None,
    }
