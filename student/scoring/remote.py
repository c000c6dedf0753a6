"""A frozen student on vLLM servers elsewhere, asked for the log-probabilities of its prompt: ids in, numbers out.

    passages -> a queue -> `in_flight` workers a server -> vllm_server.py -> per-token log-probabilities

A server takes the next passage as soon as it is done with one, so that each carries as much as it can. One that does
not answer is left alone for a while and its passages go to the others; before it counts again, and after every silence
in which it could have been started anew, it is asked for its model and tested again (self_test.py). What is held at a
time is the answers in flight, each cut down to its numbers as it comes.

vLLM ignores the temperature for a prompt, so the servers hold a student whose temperature is in its weights
(temperature.py) and this scorer answers for that one alone. Left out: the exact KL, which needs all the logits, and
starting servers.
"""

import asyncio
import os
import ssl
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from student.configs import ScoringSettings
from student.errors import ModelError
from student.reading import Passage
from student.scoring.protocol import PassageLogps
from student.scoring.self_test import SelfTest
from student.scoring.vllm_server import KEY_VARIABLE, StudentServer, Unwell, check_length

ANSWER_SECONDS = 600.0
"""How long an answer may take; a long passage waits in vLLM behind the others in flight."""
ATTEMPTS = 5
"""A passage fails for good after so many of them, each on a server that was well just before, and retry_seconds."""
_KEEP_ALIVE_SECONDS = 4.0  # vLLM closes an idle connection after 5
T = TypeVar("T")


@dataclass
class _Owed:
    """A passage that has no numbers yet."""

    number: int
    attempts: int = 0
    first_failed: float = 0.0


class VllmScorer:
    """Reads passages with the student of some vLLM servers, at the one temperature that is in its weights.

    `meet` the servers, and `examine` them, before use; may be called from many threads. What cannot be mended by asking
    again is a ModelError that names the server and the remedy.
    """

    def __init__(self, settings: ScoringSettings, temperature: float) -> None:
        self.settings = settings
        self.temperature = temperature
        self.max_tokens = settings.max_tokens
        """Longest passage; what `meet` finds, where the settings leave it open."""
        self._client = _client(os.environ.get(KEY_VARIABLE))
        self._servers = [StudentServer(url, settings, self._client) for url in settings.urls]
        self._test: SelfTest | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="scoring", daemon=True).start()

    def meet(self) -> None:
        """Asks every server for its model and its limit; raises ModelError for the first that cannot be used."""
        self._run(self._look_at_all())
        limits = (self.settings.max_tokens, *(server.max_tokens for server in self._servers))
        self.max_tokens = min((limit for limit in limits if limit is not None), default=None)

    def examine(self, test: SelfTest) -> None:
        """Has every server pass the test, now and whenever it was away; raises ModelError for one that does not."""
        self._test = test
        self._run(self._look_at_all())
        for server in self._servers:
            print(
                f"scoring: vLLM at {server.url} reads as the student here does, to {server.gap:.1g} nats a token "
                f"(tolerance {test.tolerance:g})",
                file=sys.stderr,
            )

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        """Per-token log-probabilities of each passage's spans, in the order given, logits divided by `temperature`.

        Raises ScoringError for a passage that is too long for the servers, and ModelError for another temperature than
        theirs, for a server that holds another student, and where none has answered for `retry_seconds`.
        """
        if temperature != self.temperature:
            raise ModelError(
                f"scoring.urls: the servers were opened for temperature {self.temperature:g}, and {temperature:g} is "
                "asked of them; their weights hold one temperature"
            )
        for passage in passages:
            check_length(passage, self.max_tokens)
        return self._run(self._read(passages))

    def close(self) -> None:
        """Ends the connections; the servers run on."""
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the scorer's own loop, since the caller's thread may have one; an interrupted caller ends the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _look_at_all(self) -> None:
        found = await asyncio.gather(*(server.look(self._test) for server in self._servers), return_exceptions=True)
        for server, error in zip(self._servers, found, strict=True):
            if isinstance(error, Unwell):
                raise ModelError(
                    f"scoring.urls: vLLM at {server.url} does not answer ({error}); start it or mend the address"
                ) from error
            if error is not None:
                raise error

    async def _read(self, passages: Sequence[Passage]) -> list[PassageLogps]:
        """All passages; the first error of a worker ends the others."""
        results: dict[int, PassageLogps] = {}
        queue: asyncio.Queue[_Owed] = asyncio.Queue()
        for number in range(len(passages)):
            queue.put_nowait(_Owed(number))
        began = time.monotonic()
        workers = [
            asyncio.create_task(self._work(server, passages, queue, results, began))
            for _ in range(min(self.settings.in_flight, len(passages)))
            for server in self._servers  # in turn, so that a few passages are shared too
        ]
        everything = asyncio.create_task(queue.join())
        try:
            done, _ = await asyncio.wait({everything, *workers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (everything, *workers):
                task.cancel()
            await asyncio.gather(everything, *workers, return_exceptions=True)
        return [results[number] for number in range(len(passages))]

    async def _work(
        self,
        server: StudentServer,
        passages: Sequence[Passage],
        queue: asyncio.Queue[_Owed],
        results: dict[int, PassageLogps],
        began: float,
    ) -> None:
        """One passage after another on one server, for ever; what fails there goes back to the queue."""
        while True:
            await self._until_known(server, began)
            owed = await queue.get()
            try:
                if server.known:  # as it may not be after a long wait
                    async with server.slots:
                        results[owed.number] = await server.score(passages[owed.number])
                    server.answered()
                    server.pauses = 0
                else:
                    queue.put_nowait(owed)
            except Unwell as error:
                server.failed(str(error))
                self._failed_again(owed, server, error)
                queue.put_nowait(owed)
            queue.task_done()

    def _failed_again(self, owed: _Owed, server: StudentServer, error: Unwell) -> None:
        now = time.monotonic()
        owed.first_failed = owed.first_failed or now
        owed.attempts += 1
        if owed.attempts >= ATTEMPTS and now - owed.first_failed > self.settings.retry_seconds:
            raise ModelError(
                f"scoring.urls: vLLM at {server.url} fails at one passage again and again ({error}), and not at others;"
                " see its log"
            ) from error

    async def _until_known(self, server: StudentServer, began: float) -> None:
        """Returns when the server is well and holds the student; raises ModelError where every server is gone."""
        async with server.looking:
            while not server.known:
                await asyncio.sleep(server.pause_seconds)
                try:
                    await server.look(self._test)
                except Unwell as error:
                    server.failed(str(error))
                    server.pauses += 1
                    self._check_patience(server, error, began)

    def _check_patience(self, server: StudentServer, error: Unwell, began: float) -> None:
        last = max(began, *(each.heard for each in self._servers))
        if time.monotonic() - last > self.settings.retry_seconds:
            raise ModelError(
                f"scoring.urls: no vLLM server has answered for {self.settings.retry_seconds:g} s, last asked was "
                f"{server.url} ({error}); start it and run this again, or raise scoring.retry_seconds"
            ) from error


def _client(key: str | None) -> httpx.AsyncClient:
    """As many connections as are asked for, kept a little less long than vLLM keeps them; no proxy."""
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=10, pool=None),
        limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE_SECONDS),
        verify=ssl.create_default_context(),
        trust_env=False,
    )
