"""Signing in with an API key, and out. The key itself is not kept: the session names it by a handle."""

import re

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from server.console.pages import page, page_router
from server.errors import Unauthenticated
from server.state.keys import Keys
from server.web.access import CONSOLE, LONGEST_KEY, SIGN_IN

router = page_router()
_OWN_PAGE = re.compile(rf"{CONSOLE}(/[\w./-]*)?")


@router.get("/sign-in")
async def sign_in_page(request: Request, next: str = "") -> Response:
    """The form. `next` is the page to go on to."""
    return page(request, "sign_in.html", next=_own(next), error=None)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Signs the browser in with a key, and goes on to the page that it wanted."""
    form = await request.form()
    key, onwards = str(form.get("key", "")).strip(), _own(str(form.get("next", "")))
    keys: Keys = request.app.state.parts.keys
    if len(key) > LONGEST_KEY or not key or await keys.find(key) is None:
        error = Unauthenticated(
            "this key is not known or was revoked; `rlt keys list` on the server shows those that are, and "
            "`rlt keys create --key NAME` makes one"
        )
        return page(request, "sign_in.html", 401, next=onwards, error=error)
    response = RedirectResponse(onwards or CONSOLE, 303)
    response.headers.append("set-cookie", request.scope["state"]["sessions"].signed_in(key, request.scope))
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Forgets the session."""
    response = RedirectResponse(SIGN_IN, 303)
    response.headers.append("set-cookie", request.scope["state"]["sessions"].signed_out(request.scope))
    return response


def _own(path: str) -> str:
    """A path if it is one of our pages, so that nobody is led elsewhere.

    >>> [_own(path) for path in ("/console/try", "//evil.example", "https://evil.example", "/console/../x?y")]
    ['/console/try', '', '', '']
    """
    return path if _OWN_PAGE.fullmatch(path) and ".." not in path else ""
