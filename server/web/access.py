"""Who may do what, and how often: bearer keys with scopes, and a limit of requests a minute for each.

The console's pages are asked for by browsers, which sign in with a key and then send a cookie (sessions.py).

The key is looked at before the body is read, so nobody uploads half a gigabyte to be told 401. Without any key in the
database a service on loopback answers everybody; there the Host header must name this machine, or a page in a browser
could reach the service under a name of its own (DNS rebinding), and a page of another site may not ask, or it could
send forms and files here that need no answer.
"""

import ipaddress
import math
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.configs import Scope as KeyScope
from server.configs import ServeConfig
from server.errors import BadBody, Forbidden, TooMany, Unauthenticated
from server.state.keys import Key, Keys
from server.web.sessions import Sessions, SignedOut

GUARDED = ("/v1/", "/metrics")
"""What takes a key. Everything else but the console is public: health, the API's description, the front page."""
CONSOLE = "/console"
SIGN_IN = "/console/sign-in"
OPEN_PAGES = (SIGN_IN, "/console/static/")
"""Pages for browsers that are not signed in."""
SIGN_INS_PER_MINUTE = 30
"""Attempts to sign in from one address."""
LONGEST_KEY = 200

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key: `rlt keys create --key NAME`. A service on loopback without any key needs none.",
)


@dataclass(frozen=True)
class Caller:
    """Who asks: a key, or anybody where there are no keys."""

    id: str
    scopes: tuple[str, ...]


ANYBODY = Caller("none", ("explain", "datasets", "admin"))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def in_console(path: str) -> bool:
    """Whether a path is one of the console's.

    >>> [in_console(path) for path in ("/console", "/console/try", "/consoles", "/v1/models")]
    [True, True, False, False]
    """
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


class AccessCheck:
    """Finds out who asks and counts the requests, before the body is read.

    Raises Unauthenticated (SignedOut for a page), Forbidden or TooMany.
    """

    def __init__(self, app: ASGIApp, keys: Keys, config: ServeConfig) -> None:
        self.app = app
        self.keys = keys
        self.sessions = Sessions(keys)
        self.loopback = is_loopback(config.host)
        self.allowance = Allowance(config.limits.requests_per_minute)
        self.sign_ins = Allowance(min(SIGN_INS_PER_MINUTE, config.limits.requests_per_minute))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries the request out."""
        if scope["type"] == "http":
            _refuse_nul(scope)
            if scope["path"].startswith(GUARDED):
                await self._admit(scope)
            elif in_console(scope["path"]):
                await self._admit_browser(scope)
        return await self.app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if await self._everybody(headers):
            caller, counted = ANYBODY, _address(scope)
        else:
            found = await self._caller(headers.get("authorization", ""))
            caller, counted = found or ANYBODY, found.id if found else _address(scope)
            if found is None:
                await self.allowance.use(scope, counted)
                raise _no_such_key(headers)
        await self.allowance.use(scope, counted)
        scope["state"]["caller"] = caller

    async def _admit_browser(self, scope: Scope) -> None:
        """A page's request, with its `visit`, and its `caller` where it is signed in or need not be."""
        visit = scope["state"]["visit"] = self.sessions.visit(scope)
        scope["state"]["sessions"] = self.sessions
        if await self._everybody(Headers(scope=scope)):
            caller: Caller | None = ANYBODY
        else:
            caller = _caller_of(await self.keys.by_handle(visit.handle)) if visit.handle else None
        if caller is not None:
            scope["state"]["caller"] = caller
        elif not scope["path"].startswith(OPEN_PAGES):
            raise SignedOut("this page needs a key; sign in with one")
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            await self.sign_ins.use(scope, _address(scope))
        else:
            await self.allowance.use(scope, _address(scope) if caller in (None, ANYBODY) else caller.id)

    async def _everybody(self, headers: Headers) -> bool:
        """Whether anybody is answered: on loopback, without any key; raises Forbidden for a foreign name or page."""
        if not self.loopback or await self.keys.any():
            return False
        _refuse_foreign_name(headers.get("host", ""))
        _refuse_foreign_page(headers)
        return True

    async def _caller(self, authorization: str) -> Caller | None:
        kind, _, key = authorization.partition(" ")
        key = key.strip()
        if kind.lower() != "bearer" or not key or len(key) > LONGEST_KEY:
            return None
        return _caller_of(await self.keys.find(key))


def _caller_of(key: Key | None) -> Caller | None:
    return None if key is None else Caller(key.id, tuple(key.scopes))


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown", 0))[0])


class Allowance:
    """Requests of one caller a minute, counted in this process."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def use(self, scope: Scope, caller: str) -> None:
        """Counts one request and leaves its x-ratelimit headers; raises TooMany where the minute's are used up."""
        allowed = await self._limiter.hit(self._item, caller)
        stats = await self._limiter.get_window_stats(self._item, caller)
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        shown = {"limit": self._item.amount, "remaining": max(0, stats.remaining), "reset": seconds}
        headers = [(f"x-ratelimit-{name}-requests".encode(), str(value).encode()) for name, value in shown.items()]
        scope["state"].setdefault("headers", []).extend(headers)
        if not allowed:
            raise TooMany(
                f"more than {self._item.amount} requests in a minute; come again in {seconds} s",
                code="rate_limited",
                retry_after=seconds,
            )


def needs(scope: KeyScope | None = None) -> Any:
    """A route's dependency: the caller's key has this scope (any key where None); the value is the Caller.

    Raises Forbidden where it has not.
    """

    async def check(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None
    ) -> Caller:
        caller: Caller = request.scope["state"]["caller"]
        if scope is not None and scope not in caller.scopes:
            raise Forbidden(
                f"the key {caller.id} has the scopes {', '.join(caller.scopes) or 'none'}, and this needs {scope!r}; "
                f"create one that has it: rlt keys create --key NAME --scopes {scope}"
            )
        return caller

    return Depends(check)


def _no_such_key(headers: Headers) -> Unauthenticated:
    if "authorization" not in headers:
        return Unauthenticated("no API key; send it as the header Authorization: Bearer KEY", code="missing_api_key")
    return Unauthenticated(
        "the API key is not known or was revoked; `rlt keys list` on the server shows those that are"
    )


def _refuse_foreign_name(host: str) -> None:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if not is_loopback(name):
        raise Forbidden(
            f"Host {host[:100]!r} is not this machine: without any API key only requests to localhost are answered; "
            "use http://localhost, or create a key (`rlt keys create`)",
            code="foreign_host",
        )


def _refuse_foreign_page(headers: Headers) -> None:
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Forbidden(
            f"a page of {origin[:100]!r} asks: without any API key programs and the service's own pages are answered; "
            "create a key (`rlt keys create`) and send it from a server of your own",
            code="foreign_page",
        )


def _refuse_nul(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise BadBody("the address holds a NUL character, which no name or id here does; leave it out")
