"""How much is made at a time: places for running work, a line of those who wait, and 429 where the line is full."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.errors import TooMany

RETRY_SECONDS = 1.0
"""What is told to come again: about the time in which a place becomes free."""


class Gate:
    """`running` places and a line of `waiting` requests, served in the order of arrival.

    A request takes as many places as it has samples, so 64 requests of one and one of 64 weigh the same; one that
    wants more than there are takes all.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._places = running
        self._free = running
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._longest = waiting

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    @asynccontextmanager
    async def places(self, wanted: int = 1) -> AsyncIterator[None]:
        """Holds `wanted` places; raises TooMany at once where the line is full."""
        taken = min(wanted, self._places)
        await self._take(taken)
        try:
            yield
        finally:
            self._free += taken
            self._call_next()

    async def _take(self, wanted: int) -> None:
        if not self._line and wanted <= self._free:
            self._free -= wanted
            return
        if len(self._line) >= self._longest:
            raise TooMany(
                f"{self.running} explanations and scores are being made and {self.waiting} requests wait, which is all "
                f"that this service takes on; come again in {RETRY_SECONDS:g} s",
                retry_after=RETRY_SECONDS,
            )
        turn = asyncio.get_running_loop().create_future()
        entry = (wanted, turn)
        self._line.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            self._leave(entry)
            raise

    def _leave(self, entry: tuple[int, "asyncio.Future[None]"]) -> None:
        wanted, turn = entry
        if turn.done() and not turn.cancelled():  # called in the very moment it was cancelled: it holds the places
            self._free += wanted
        elif entry in self._line:
            self._line.remove(entry)
        self._call_next()

    def _call_next(self) -> None:
        while self._line and self._line[0][0] <= self._free:
            wanted, turn = self._line.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)
