"""Browsers: a cookie that stands for a key once somebody signed in with it, and tokens that tie forms to a browser.

    visit      a random name that every browser gets; forms carry a token made of it, so no other site can send them
    session    handle of a key, when it ends, signature; never the key itself

Nothing is kept here: both are signed with the secret of the keys, so any process of the service reads them, and a
session ends with its key. The cookies' names hold a part of a signature, since two services on one machine share them.
"""

import hmac
import secrets
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from server.errors import Unauthenticated
from server.state.keys import Keys

SESSION_SECONDS = 12 * 3600
COOKIE_PATH = "/console"


class SignedOut(Unauthenticated):
    """A page that needs a key, and a browser that is not signed in."""

    code = "signed_out"


@dataclass(frozen=True)
class Visit:
    """A browser that asks for a page."""

    name: str
    """Random; the browser's own."""
    known: bool
    """It sent the name itself, and need not be given it."""
    handle: str | None
    """Of the key that it is signed in with, where its session has not ended; the key may be revoked meanwhile."""


class Sessions:
    """Reads and makes the cookies."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        mark = keys.signature("cookies", "")[:8]
        self._visit, self._session = f"rlt_visit_{mark}", f"rlt_session_{mark}"

    def visit(self, scope: Scope) -> Visit:
        """Who asks."""
        cookies = HTTPConnection(scope).cookies
        name = cookies.get(self._visit, "")
        return Visit(name or secrets.token_urlsafe(18), bool(name), self._handle(cookies.get(self._session, "")))

    def form_token(self, visit: Visit) -> str:
        """What forms carry that are sent to this browser."""
        return self._keys.signature("form", f"{visit.name} {visit.handle or ''}")

    def is_form_token(self, visit: Visit, token: str) -> bool:
        """Whether a form that carries this was sent to this browser, signed in as it is now."""
        return visit.known and _same(self.form_token(visit), token)

    def visiting(self, visit: Visit, scope: Scope) -> str:
        """The `set-cookie` header that gives a browser its name."""
        return _set_cookie(self._visit, visit.name, scope)

    def signed_in(self, key: str, scope: Scope) -> str:
        """The `set-cookie` header that signs a browser in with a key, given as plain text."""
        handle, until = self._keys.handle(key), int(time.time()) + SESSION_SECONDS
        value = f"{handle}.{until}.{self._keys.signature('session', f'{handle} {until}')}"
        return _set_cookie(self._session, value, scope, SESSION_SECONDS)

    def signed_out(self, scope: Scope) -> str:
        """The `set-cookie` header that signs it out."""
        return _set_cookie(self._session, "", scope, 0)

    def _handle(self, session: str) -> str | None:
        handle, _, rest = session.partition(".")
        until, _, signature = rest.partition(".")
        if not _same(self._keys.signature("session", f"{handle} {until}"), signature):
            return None
        return handle if int(until) > time.time() else None


def _same(signature: str, sent: str) -> bool:
    return hmac.compare_digest(signature.encode(), sent.encode(errors="replace"))


def _set_cookie(name: str, value: str, scope: Scope, seconds: int | None = None) -> str:
    """Only sent to the console, only by its own pages, never to their scripts; over https, only over that.

    A proxy that ends TLS says so by x-forwarded-proto; who lies there makes only their own cookie stricter.
    """
    cookie = [f"{name}={value}", f"Path={COOKIE_PATH}", "HttpOnly", "SameSite=Strict"]
    if "https" in (scope["scheme"], Headers(scope=scope).get("x-forwarded-proto")):
        cookie.append("Secure")
    return "; ".join(cookie if seconds is None else [*cookie, f"Max-Age={seconds}"])
