"""Server-sent events: a response that ends where the caller leaves or the service stops, and never falls silent."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from server.errors import ApiError, TimedOut, Unavailable
from server.web.problems import as_api_error, log, problem, request_id_of

PING_SECONDS = 15.0


def event(name: str | None, data: Any) -> bytes:
    """One event; `data` is JSON, in ASCII: a line separator in a text (U+2028) would end the event's line.

    >>> event("delta", {"text": "so\u2028"})
    b'event: delta\\ndata: {"text": "so\\\\u2028"}\\n\\n'
    """
    return format_sse_event(event=name, data_str=json.dumps(data))


class EventStream(StreamingResponse):
    """`events` as they come (each made by `event`), a ping every 15 s of silence between them.

    An error in the middle is an `error` event with the problem in it, and ends the stream; so does the service's stop
    (`app.state.stopping`), with `code: shutting_down`, and so do `seconds` that are over. However it ends, the iterator
    is closed and `leave` is called, even where the caller is gone before the first event.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        events: AsyncIterator[bytes],
        status_code: int = 200,  # FastAPI reads the default where this is a route's response_class
        *,
        seconds: float | None = None,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._events = events
        self._seconds = seconds
        self._leave = leave
        self._stopping: asyncio.Event = request.app.state.stopping
        self.request = request
        self._awaited: list[asyncio.Future[Any]] = []
        super().__init__(self._sent(), status_code, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    def failure(self, error: ApiError) -> bytes:
        """The last event, where something went wrong in the middle."""
        return event("error", problem(error, request_id_of(self.request.scope)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Here and not in _sent: where the caller leaves, Starlette cancels that over and over, at every await.
            await self._end()

    async def _sent(self) -> AsyncIterator[bytes]:
        try:
            async for sent in self._guarded():
                yield sent
        except Exception as error:  # noqa: BLE001  the boundary of a request whose answer has begun
            told = as_api_error(error)
            if told.status == 500:
                log.error("a stream failed unexpectedly", exc_info=error)
            yield self.failure(told)

    async def _guarded(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        until = math.inf if self._seconds is None else loop.time() + self._seconds
        ending = asyncio.ensure_future(self._stopping.wait())
        while True:
            coming = asyncio.ensure_future(anext(self._events, None))
            self._awaited = [ending, coming]
            while not coming.done():
                patience = max(0.0, min(PING_SECONDS, until - loop.time()))
                await asyncio.wait(self._awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    break
                if ending.done():
                    raise Unavailable("the service is stopping; ask again", code="shutting_down", retry_after=5)
                if loop.time() >= until:
                    raise TimedOut(f"not whole within {self._seconds:g} s, the longest this service works on a request")
                yield KEEPALIVE_COMMENT
            sent = coming.result()
            if sent is None:
                return
            yield sent

    async def _end(self) -> None:
        for future in self._awaited:
            future.cancel()
        await asyncio.gather(*self._awaited, return_exceptions=True)
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()
        if self._leave is not None:
            await self._leave()
