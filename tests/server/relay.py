"""A second address for a server: a TCP relay that counts what it carries, and that can die as a server does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Made by `relay`."""

    def __init__(self, url: str, port: int) -> None:
        self.url = ""
        self._port = port
        self.connections = 0
        self.requests = 0
        self.most_at_a_time = 0
        self.cut_after: int | None = None
        """Bytes of an answer after which its connection breaks."""
        self._target = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()
        self._busy = 0
        self._dead = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def die(self) -> None:
        """Refuses connections from now on and breaks those there are."""
        self._dead = True
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there_reader, there = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._open |= {writer, there}
        with suppress(OSError):
            if self._dead:  # while it connected
                raise ConnectionAbortedError
            await asyncio.gather(self._requests(reader, there), self._answers(there_reader, writer))
        for each in (writer, there):
            each.close()
            self._open.discard(each)

    async def _requests(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if data.startswith((b"POST", b"GET")):
                self.requests += 1
                self._busy += 1
                self.most_at_a_time = max(self.most_at_a_time, self._busy)
            there.write(data)
            await there.drain()
        there.close()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        while data := await there.read(65536):
            self._busy -= data.startswith(b"HTTP/1.1")
            rest = len(data) if self.cut_after is None else max(0, self.cut_after - carried)
            carried += len(data)
            writer.write(data[:rest])
            await writer.drain()
            if rest < len(data):
                break
        writer.close()


@asynccontextmanager
async def relay(url: str, port: int = 0) -> AsyncIterator[Relay]:
    """A relay to the server at `url`, on a port of its own."""
    made = Relay(url, port)
    await made.start()
    try:
        yield made
    finally:
        await made.die()
