"""What all pages share: their layout and its navigation, files that browsers load, and rules that browsers keep.

A page, or a piece of one that htmx puts in place, is a route of `page_router()`, which sees that a form was sent by one
of our own pages to this very browser, and ends with `page(request, "name.html", ...)`. Everything in a template is
escaped; the filter `exact` keeps even a carriage return, which HTML would make a newline.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from server.console.amounts import amount, day, duration, size
from server.errors import Forbidden, NotFound
from server.web.access import CONSOLE, Caller, in_console
from server.web.sessions import Sessions, Visit

FOLDER = Path(__file__).parent
POLICY = "; ".join(
    f"{kind} {source}"
    for kind, source in {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }.items()
)
"""Nothing from elsewhere, nothing inline: text that slipped into a page as HTML could load and run nothing."""
RULES = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
MOST_FIELDS = 100
"""Of a form with a file: each may be held in memory, up to a megabyte; the file goes to disk while it arrives."""
FORM_TOKEN = "form_token"
"""The hidden field of every form."""
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Entry:
    """A page in the navigation."""

    path: str
    name: str


NAVIGATION = (
    Entry("/console/try", "Try"),
    Entry("/console/datasets", "Datasets"),
    Entry("/console/training", "Training"),
    Entry("/console/system", "System"),
)
"""In the order in which people see it; the first is where /console leads."""


class PageRules:
    """Sends the rules that browsers keep with every response under /console, whoever makes it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries the request out."""
        if scope["type"] == "http" and in_console(scope["path"]):
            scope["state"].setdefault("headers", []).extend(RULES)
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Asset:
    """A file that browsers load."""

    content: bytes
    media_type: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> "Asset":
        """The file."""
        content = path.read_bytes()
        return cls(content, MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])


ASSETS: Mapping[str, Asset] = {
    path.relative_to(FOLDER / "static").as_posix(): Asset.read(path)
    for path in sorted((FOLDER / "static").rglob("*"))
    if path.suffix in MEDIA_TYPES
}
"""All of them, by their path under static/."""


def asset(name: str) -> str:
    """The address of a file, which changes with its content, so browsers keep it for ever."""
    return f"{CONSOLE}/static/{name}?v={ASSETS[name].digest}"


def exact(text: str) -> Markup:
    """A text escaped so that a browser holds the very same characters.

    >>> exact("a<b\\r\\n")
    Markup('a&lt;b&#13;\\n')
    """
    return Markup(str(escape(text)).replace("\r", "&#13;"))


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    environment.filters |= {"exact": exact} | {each.__name__: each for each in (day, duration, size, amount)}
    return environment


TEMPLATES = _templates()


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a piece of one for htmx. A browser that has no name yet gets one."""
    state: dict[str, Any] = request.scope["state"]
    visit: Visit | None = state.get("visit")
    text = TEMPLATES.get_template(template).render(surroundings(request) | values)
    response = HTMLResponse(text, status, {"cache-control": "no-store", "vary": "hx-request"})
    if visit is not None and not visit.known:
        response.headers.append("set-cookie", state["sessions"].visiting(visit, request.scope))
    return response


def surroundings(request: Request) -> dict[str, Any]:
    """What every template may use: where it stands, who asks, and the token for its forms."""
    state: dict[str, Any] = request.scope["state"]
    visit: Visit | None = state.get("visit")
    sessions: Sessions | None = state.get("sessions")
    caller: Caller | None = state.get("caller")
    return {
        "path": request.url.path,
        "navigation": NAVIGATION,
        "caller": caller,
        "signed_in": caller is not None and visit is not None and visit.handle is not None,
        "form_token": "" if visit is None or sessions is None else sessions.form_token(visit),
    }


def onwards(request: Request, path: str) -> Response:
    """On to another page: htmx is told by a header, since it follows redirects itself."""
    if is_piece(request):
        return Response(headers={"hx-redirect": path})
    return RedirectResponse(path, 303)


def is_piece(request: Request) -> bool:
    """Whether htmx asks, and puts the answer somewhere into a page that is there."""
    return request.headers.get("hx-request") == "true"


async def _check_form(request: Request) -> None:
    """Raises Forbidden where a form was not sent from a page that this browser got."""
    if request.method != "POST":
        return
    token = (await request.form(max_files=1, max_fields=MOST_FIELDS)).get(FORM_TOKEN)
    state: dict[str, Any] = request.scope["state"]
    if not isinstance(token, str) or not state["sessions"].is_form_token(state["visit"], token):
        raise Forbidden(
            "this form was not sent from a page that your browser has open, or that page is out of date; reload it and "
            "send the form again (the console needs cookies)",
            code="stale_form",
        )


def page_router() -> APIRouter:
    """The router of a page: out of the API's description, its forms checked."""
    return APIRouter(prefix=CONSOLE, include_in_schema=False, dependencies=[Depends(_check_form)])


router = page_router()


@router.get("")
@router.get("/")
async def front() -> RedirectResponse:
    """The first page."""
    return RedirectResponse(NAVIGATION[0].path, 303)


@router.get("/static/{name:path}")
async def static(request: Request, name: str) -> Response:
    """A file that browsers load."""
    found = ASSETS.get(name)
    if found is None:
        raise NotFound(f"{name[:100]!r}: no page of the console uses such a file")
    current = request.query_params.get("v") == found.digest
    caching = {"cache-control": FOR_EVER if current else "no-cache"}
    return Response(found.content, media_type=found.media_type, headers=caching)
