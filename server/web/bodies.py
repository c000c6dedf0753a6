"""How long a request's body may be and how long it may take to arrive; what is more is refused before it is held."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.configs import Limits
from server.errors import BadBody, TooLarge, TooSlow

UPLOAD_PATHS = ("/v1/files", "/console/files")
MULTIPART = "multipart/form-data"
"""What an upload comes as: its file goes to disk while it arrives. Other forms are held in memory."""
MULTIPART_BYTES = 64 * 1024
"""What the form around an uploaded file may take."""
UPLOAD_PATIENCE = 10
"""An upload may take this many times as long as another body."""


class BodyLimits:
    """Raises TooLarge, TooSlow or BadBody while the body is read, or at once where its header says enough."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries the request out."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        upload = scope["path"] in UPLOAD_PATHS and headers.get("content-type", "").lower().startswith(MULTIPART)
        longest = self.limits.upload_bytes + MULTIPART_BYTES if upload else self.limits.body_bytes
        seconds = self.limits.body_seconds * (UPLOAD_PATIENCE if upload else 1)
        _refuse_announced(headers.get("content-length"), longest)
        return await self.app(scope, _Body(receive, longest, seconds).receive, send)


class _Body:
    """A `receive` that counts and looks at the clock until the body is whole."""

    def __init__(self, receive: Receive, longest: int, seconds: float) -> None:
        self._receive = receive
        self._longest = longest
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise TooSlow(
                f"body: did not arrive within {self._seconds:g} s; send it faster, or as an uploaded file"
            ) from error
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._longest:
            raise too_large(self._longest)
        self._whole = not message.get("more_body", False)
        return message


def _refuse_announced(length: str | None, longest: int) -> None:
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise BadBody(f"content-length: must be a whole number, got {length[:40]!r}")
    if int(length) > longest:
        raise too_large(longest)


def too_large(longest: int) -> TooLarge:
    """The error for a body of more than `longest` bytes."""
    return TooLarge(
        f"body: longer than {longest:,} bytes, the most that this route takes; send less, or upload a file (/v1/files)"
    )
