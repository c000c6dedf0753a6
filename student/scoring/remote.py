"""A frozen student on vLLM servers elsewhere, asked for the log-probabilities of its prompt: ids in, numbers out.

    passages -> a queue -> `in_flight` workers a server -> POST /v1/completions -> per-token log-probabilities

A server takes the next passage as soon as it is done with one, so that each carries as much as it can. One that does
not answer is left alone for a while and its passages go to the others; before it counts again, and after every silence
in which it could have been started anew, it is asked for its model and tested again (self_test.py).

vLLM ignores the temperature for a prompt, so the servers hold a student whose temperature is in its weights
(temperature.py) and this scorer answers for that one alone. Left out: the exact KL, which needs all the logits, and
starting servers.
"""

import asyncio
import json
import math
import os
import ssl
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import torch

from student.configs import ScoringSettings
from student.errors import ModelError, ScoringError
from student.reading import Passage
from student.scoring.protocol import PassageLogps
from student.scoring.self_test import SelfTest

KEY_VARIABLE = "RLT_SCORING_KEY"
"""The servers' API key, where they have one."""
ANSWER_SECONDS = 600.0
"""How long an answer may take; a long passage waits in vLLM behind the others in flight."""
SAME_SECONDS = 10.0
"""vLLM takes longer than that to start: one that answered since then is still the same."""
LONGEST_PAUSE_SECONDS = 30.0
ATTEMPTS = 5
"""A passage fails for good after so many of them, each on a server that was well just before, and retry_seconds."""
_KEEP_ALIVE_SECONDS = 4.0  # vLLM closes an idle connection after 5
_LEAST_LOGP = -9999.0  # what vLLM writes for minus infinity, which JSON lacks
T = TypeVar("T")


class _Unwell(Exception):
    """The server may answer when it is asked again."""


@dataclass(eq=False)
class _Server:
    url: str
    slots: asyncio.Semaphore
    model: str = ""
    max_tokens: int | None = None
    well: bool = False
    heard: float = -math.inf
    """When it last answered, by the monotonic clock."""
    gap: float = math.nan
    """By how much it differed in the last test, nats a token."""
    pauses: int = 0
    """How often it was left alone since it last answered for a passage."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def known(self) -> bool:
        return self.well and time.monotonic() - self.heard < SAME_SECONDS

    @property
    def pause_seconds(self) -> float:
        return min(LONGEST_PAUSE_SECONDS, 0.25 * 2**self.pauses) if self.pauses else 0.0

    def answered(self) -> None:
        self.well, self.heard = True, time.monotonic()

    def failed(self, reason: str) -> None:
        if self.well:
            print(f"scoring: vLLM at {self.url} does not answer ({reason}); it is asked again", file=sys.stderr)
            self.well, self.pauses = False, self.pauses + 1


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
        self._servers = [_Server(url.rstrip("/"), asyncio.Semaphore(settings.in_flight)) for url in settings.urls]
        self._test: SelfTest | None = None
        self._client = _client(os.environ.get(KEY_VARIABLE))
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
            self._check_length(passage)
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

    def _check_length(self, passage: Passage) -> None:
        tokens = len(passage.input_ids)
        if self.max_tokens is not None and tokens > self.max_tokens:
            raise ScoringError(
                f"a passage takes {tokens} tokens, and the student on its servers reads at most {self.max_tokens}; "
                "start them with a larger --max-model-len or leave the row out"
            )

    async def _look_at_all(self) -> None:
        found = await asyncio.gather(*(self._look(server) for server in self._servers), return_exceptions=True)
        for server, error in zip(self._servers, found, strict=True):
            if isinstance(error, _Unwell):
                raise ModelError(
                    f"scoring.urls: vLLM at {server.url} does not answer ({error}); start it or mend the address"
                ) from error
            if error is not None:
                raise error

    async def _look(self, server: _Server) -> None:
        """Whether the server holds the student; raises _Unwell or ModelError."""
        served = _models(await self._ask(server, "GET", "/v1/models"), server.url)
        wanted = self.settings.model or next(iter(served))
        if wanted not in served:
            raise ModelError(
                f"scoring.model: vLLM at {server.url} has no model {wanted!r}; it serves {', '.join(map(repr, served))}"
            )
        server.model, server.max_tokens = wanted, served[wanted]
        if self.settings.max_tokens and server.max_tokens and self.settings.max_tokens > server.max_tokens:
            raise ModelError(
                f"scoring.max_tokens: {self.settings.max_tokens}, but vLLM at {server.url} reads at most "
                f"{server.max_tokens}; start it with --max-model-len {self.settings.max_tokens + 1} or ask for less"
            )
        if self._test is not None:
            server.gap = self._test.judge(
                [await self._score(server, passage) for passage in self._test.passages], server.url
            )
        server.answered()

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
        server: _Server,
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
                async with server.slots:
                    results[owed.number] = await self._score(server, passages[owed.number])
                server.answered()
                server.pauses = 0
            except _Unwell as error:
                server.failed(str(error))
                self._failed_again(owed, server, error)
                queue.put_nowait(owed)
            queue.task_done()

    def _failed_again(self, owed: _Owed, server: _Server, error: _Unwell) -> None:
        now = time.monotonic()
        owed.first_failed = owed.first_failed or now
        owed.attempts += 1
        if owed.attempts >= ATTEMPTS and now - owed.first_failed > self.settings.retry_seconds:
            raise ModelError(
                f"scoring.urls: vLLM at {server.url} fails at one passage again and again ({error}), and not at others;"
                " see its log"
            ) from error

    async def _until_known(self, server: _Server, began: float) -> None:
        """Returns when the server is well and holds the student; raises ModelError where every server is gone."""
        async with server.looking:
            while not server.known:
                await asyncio.sleep(server.pause_seconds)
                try:
                    await self._look(server)
                except _Unwell as error:
                    server.failed(str(error))
                    server.pauses += 1
                    self._check_patience(server, error, began)

    def _check_patience(self, server: _Server, error: _Unwell, began: float) -> None:
        last = max(began, *(each.heard for each in self._servers))
        if time.monotonic() - last > self.settings.retry_seconds:
            raise ModelError(
                f"scoring.urls: no vLLM server has answered for {self.settings.retry_seconds:g} s, last asked was "
                f"{server.url} ({error}); start it and run this again, or raise scoring.retry_seconds"
            ) from error

    async def _score(self, server: _Server, passage: Passage) -> PassageLogps:
        """One passage on one server; raises _Unwell, ModelError or ScoringError."""
        self._check_length(passage)
        body = {
            "model": server.model,
            "prompt": passage.input_ids,
            "max_tokens": 0,
            "echo": True,
            "return_token_ids": True,  # without this vLLM would write the prompt's text
            "prompt_logprobs": 0,
            "temperature": 1.0,
        }
        answer = await self._ask(server, "POST", "/v1/completions", body)
        try:
            return _numbers(answer["choices"][0]["prompt_logprobs"], passage)
        except (LookupError, TypeError) as error:
            raise ModelError(
                f"scoring.urls: {server.url} answers without the log-probability of every prompt token; "
                "it must be a vLLM server, 0.24 or newer"
            ) from error

    async def _ask(self, server: _Server, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON; raises _Unwell where asking again may help, else ModelError."""
        try:
            response = await self._client.request(method, server.url + path, json=body)
        except httpx.TransportError as error:
            raise _Unwell(str(error) or type(error).__name__) from error
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise _Unwell(f"{response.status_code}: {_message(response)}")
        if response.status_code in (401, 403):
            raise ModelError(f"scoring.urls: vLLM at {server.url} wants another API key; set {KEY_VARIABLE}")
        try:
            if response.status_code == 200:
                return response.json()
        except ValueError as error:
            raise _no_vllm(server.url, "no JSON") from error
        if path == "/v1/models":
            raise _no_vllm(server.url, str(response.status_code))
        raise ModelError(f"scoring.urls: vLLM at {server.url} refused, {response.status_code}: {_message(response)}")


def _client(key: str | None) -> httpx.AsyncClient:
    """As many connections as are asked for, kept a little less long than vLLM keeps them; no proxy."""
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=10, pool=None),
        limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE_SECONDS),
        verify=ssl.create_default_context(),
        trust_env=False,
    )


def _models(answer: Any, url: str) -> dict[str, int | None]:
    """Served names, each with its longest prompt: vLLM keeps a token for an answer. Adapters come last."""
    try:
        cards = sorted(answer["data"], key=lambda card: bool(card.get("parent")))
        lengths = {str(card["id"]): card.get("max_model_len") for card in cards}
    except (LookupError, TypeError, AttributeError) as error:
        raise _no_vllm(url, "no list of models") from error
    if not lengths:
        raise _no_vllm(url, "an empty list of models")
    return {name: None if length is None else length - 1 for name, length in lengths.items()}


def _no_vllm(url: str, seen: str) -> ModelError:
    return ModelError(f"scoring.urls: {url} is no vLLM server: /v1/models answers with {seen}; mend the address")


def _numbers(entries: Sequence[dict[str, dict[str, float]]], passage: Passage) -> PassageLogps:
    """The spans' log-probabilities; raises LookupError or TypeError where the answer belongs to other tokens.

    >>> entries = [None, {"5": {"logprob": -1.0}}, {"6": {"logprob": -2.0}}, {"7": {"logprob": -9999.0}}]
    >>> _numbers(entries, Passage([4, 5, 6, 7], range(1, 2), range(3, 4)))
    PassageLogps(explanation_E=tensor([-1.]), solution_S=tensor([-inf]))
    """
    if len(entries) != len(passage.input_ids):
        raise LookupError(f"{len(entries)} entries for {len(passage.input_ids)} tokens")
    explanation, solution = (
        [entries[place][str(passage.input_ids[place])]["logprob"] for place in span]
        for span in (passage.explanation, passage.solution)
    )
    return PassageLogps(_logps(explanation), _logps(solution))


def _logps(values: Sequence[float]) -> torch.Tensor:
    finite = [-math.inf if value <= _LEAST_LOGP else value for value in values]
    return torch.tensor(finite, dtype=torch.float32)


def _message(response: httpx.Response) -> str:
    """vLLM's own words in an error's body."""
    try:
        message = json.loads(response.text)
        for member in ("error", "message"):
            message = message.get(member, message) if isinstance(message, dict) else message
    except ValueError:
        message = response.text
    return " ".join(str(message).split())[:300]
