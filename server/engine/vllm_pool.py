"""Which of some servers gets the next request: the one with the least in flight, and no server more than its limit.

A server that fails rests for a moment, at first a tenth of a second; requests go to the others meanwhile, or wait. Who
comes first is served first.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from server.errors import EngineUnavailable

PATIENCE_SECONDS = 3.0
"""How long a request looks for a server that answers, from its first failure on."""
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.1, 1.0

Answer = TypeVar("Answer")


class NotNow(Exception):
    """Something is wrong with the server, not with the request."""


FAILURES = (NotNow, aiohttp.ClientError, TimeoutError, OSError)
"""What makes a request go to another server."""


@dataclass(eq=False)
class Server:
    """One vLLM server, and what is known of it."""

    url: str
    model: str = ""
    """The name under which it serves the teacher."""
    in_flight: int = 0
    fresh: bool = False
    """A connection was made since it was last looked at: it may have been started again."""
    starts: int = 0
    """How often it was found to have been started again."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    rest_seconds: float = 0.0
    rests_until: float = 0.0

    def succeeded(self) -> None:
        """Ends its rest."""
        self.rest_seconds = self.rests_until = 0.0

    def failed(self) -> None:
        """Begins a rest, twice as long as the one before; one that has begun stays as it is."""
        if now() >= self.rests_until:  # others that failed with it are no second failure
            self.rest_seconds = min(max(_FIRST_REST_SECONDS, 2 * self.rest_seconds), _LONGEST_REST_SECONDS)
            self.rests_until = now() + self.rest_seconds


class Pool:
    """Servers, and the requests that wait for a place on one of them."""

    def __init__(self, servers: Sequence[Server], concurrency: int) -> None:
        self.servers = servers
        self._concurrency = concurrency
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def ask(self, attempt: Callable[[Server], Awaitable[Answer]]) -> tuple[Server, Answer]:
        """What the first server to answer says, and which it is; the caller gives its place back with `leave`.

        Raises EngineUnavailable where none has answered for PATIENCE_SECONDS.
        """
        deadline = None
        while True:
            server = await self._place(deadline)
            try:
                answer = await attempt(server)
            except FAILURES as error:
                self.leave(server)
                server.failed()
                deadline = deadline or now() + PATIENCE_SECONDS
                if now() >= deadline:
                    raise EngineUnavailable(
                        f"vLLM at {server.url} does not answer ({reason(error)}); try again later"
                    ) from error
            except BaseException:
                self.leave(server)
                raise
            else:
                server.succeeded()
                return server, answer

    def leave(self, server: Server) -> None:
        """Gives a place back."""
        server.in_flight -= 1
        self._wake_next()

    async def _place(self, deadline: float | None) -> Server:
        """The server with the least in flight, one more now; waits while all are full or resting."""
        waited = False
        while True:
            up = [server for server in self.servers if server.rests_until <= now()]
            free = [server for server in up if server.in_flight < self._concurrency]
            if free and (waited or not self._waiting):
                server = min(free, key=lambda server: server.in_flight)
                server.in_flight += 1
                return server
            if not up and deadline is not None and now() >= deadline:
                urls = ", ".join(server.url for server in self.servers)
                raise EngineUnavailable(f"no vLLM server answers ({urls}); try again later")
            await self._wait(self._next_end_of_rest(), at_head=waited)
            waited = True

    def _next_end_of_rest(self) -> float | None:
        """Seconds until a server's rest is over; None where none rests."""
        rests = [server.rests_until - now() for server in self.servers if server.rests_until]
        return min((rest for rest in rests if rest > 0), default=None)

    async def _wait(self, seconds: float | None, *, at_head: bool) -> None:
        """Until a place is free or `seconds` are over."""
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if at_head else self._waiting.append)(freed)
        try:
            await asyncio.wait([freed], timeout=seconds)
        except asyncio.CancelledError:
            if freed.done():
                self._wake_next()
            raise
        finally:
            if not freed.done():
                self._waiting.remove(freed)

    def _wake_next(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)


def reason(error: BaseException) -> str:
    """An error in words."""
    if isinstance(error, aiohttp.ClientConnectorError) and (error.os_error.errno or 0) > 0:
        return os.strerror(error.os_error.errno or 0).lower()
    return str(error) or type(error).__name__


def now() -> float:
    """The running loop's clock, in seconds."""
    return asyncio.get_running_loop().time()
