"""One vLLM server that holds a student: what is asked of it, and what its answers mean.

    GET  /v1/models        the names that it serves, and the longest sequence
    POST /v1/completions   a prompt of token ids, nothing sampled of it -> the log-probability of each

An answer that may be another one later raises Unwell; every other refusal is a ModelError with the server and the
remedy. Which server is asked, and when again, is remote.py's business.
"""

import asyncio
import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx
import torch

from student.configs import ScoringSettings
from student.errors import ModelError, ScoringError
from student.reading import Passage
from student.scoring.protocol import PassageLogps
from student.scoring.self_test import SelfTest

KEY_VARIABLE = "RLT_SCORING_KEY"
"""The servers' API key, where they have one."""
SAME_SECONDS = 10.0
"""vLLM takes longer than that to start: one that answered since then is still the same."""
LONGEST_PAUSE_SECONDS = 30.0
_LEAST_LOGP = -9999.0  # what vLLM writes for minus infinity, which JSON lacks


class Unwell(Exception):
    """The server may answer when it is asked again."""


class StudentServer:
    """A server at an address, and what is known of it."""

    def __init__(self, url: str, settings: ScoringSettings, client: httpx.AsyncClient) -> None:
        self.url = url.rstrip("/")
        self.slots = asyncio.Semaphore(settings.in_flight)
        """One for each passage that it may be given at a time."""
        self.looking = asyncio.Lock()
        """Held while it is looked at."""
        self.max_tokens: int | None = None
        """The longest passage that it reads."""
        self.heard = -math.inf
        """When it last answered, by the monotonic clock."""
        self.gap = math.nan
        """By how much it differed in the last test, nats a token."""
        self.pauses = 0
        """How often it was left alone since it last answered for a passage."""
        self._settings, self._client = settings, client
        self._model = ""
        self._well = False

    @property
    def known(self) -> bool:
        """It is well, and still the one that was looked at."""
        return self._well and time.monotonic() - self.heard < SAME_SECONDS

    @property
    def pause_seconds(self) -> float:
        """How long it is left alone before it is looked at again."""
        return float(min(LONGEST_PAUSE_SECONDS, 0.25 * 2 ** min(self.pauses, 7))) if self.pauses else 0.0

    def answered(self) -> None:
        """It did what it was asked."""
        self._well, self.heard = True, time.monotonic()

    def failed(self, reason: str) -> None:
        """It did not; of many requests that fail together, the first is told and counts."""
        if self._well:
            print(f"scoring: vLLM at {self.url} does not answer ({reason}); it is asked again", file=sys.stderr)
            self._well, self.pauses = False, self.pauses + 1

    async def look(self, test: SelfTest | None) -> None:
        """Asks for its model and its limit, and what it makes of the test; raises Unwell or ModelError."""
        served = _models(await self._ask("GET", "/v1/models"), self.url)
        wanted = self._settings.model or next(iter(served))
        if wanted not in served:
            raise ModelError(
                f"scoring.model: vLLM at {self.url} has no model {wanted!r}; it serves {', '.join(map(repr, served))}"
            )
        self._model, self.max_tokens = wanted, served[wanted]
        if self._settings.max_tokens and self.max_tokens and self._settings.max_tokens > self.max_tokens:
            raise ModelError(
                f"scoring.max_tokens: {self._settings.max_tokens}, but vLLM at {self.url} reads at most "
                f"{self.max_tokens}; start it with --max-model-len {self._settings.max_tokens + 1} or ask for less"
            )
        if test is not None:
            self.gap = test.judge([await self.score(passage) for passage in test.passages], self.url)
        self.answered()

    async def score(self, passage: Passage) -> PassageLogps:
        """Per-token log-probabilities of the passage's spans; raises Unwell, ModelError or ScoringError."""
        check_length(passage, self.max_tokens)
        body = {
            "model": self._model,
            "prompt": passage.input_ids,
            "max_tokens": 0,
            "echo": True,
            "return_token_ids": True,  # without this vLLM would write the prompt's text
            "prompt_logprobs": 0,
            "temperature": 1.0,
        }
        answer = await self._ask("POST", "/v1/completions", body)
        try:
            [choice] = answer["choices"]
            if choice.get("finish_reason") == "abort":
                raise Unwell("it gave a passage up")
            return _numbers(choice["prompt_logprobs"], passage)
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"scoring.urls: {self.url} answers without the log-probability of every prompt token, which vLLM "
                "gives; let vLLM serve the student"
            ) from error

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON; raises Unwell where asking again may help, else ModelError."""
        try:
            response = await self._client.request(method, self.url + path, json=body)
        except httpx.TransportError as error:
            raise Unwell(str(error) or type(error).__name__) from error
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise Unwell(f"{response.status_code}: {_message(response)}")
        if response.status_code in (401, 403):
            raise ModelError(f"scoring.urls: vLLM at {self.url} wants another API key; set {KEY_VARIABLE}")
        try:
            if response.status_code == 200:
                return response.json()
        except ValueError as error:
            raise _no_vllm(self.url, "no JSON") from error
        if path == "/v1/models":
            raise _no_vllm(self.url, str(response.status_code))
        raise ModelError(f"scoring.urls: vLLM at {self.url} refused, {response.status_code}: {_message(response)}")


def check_length(passage: Passage, max_tokens: int | None) -> None:
    """Raises ScoringError for a passage that is longer."""
    tokens = len(passage.input_ids)
    if max_tokens is not None and tokens > max_tokens:
        raise ScoringError(
            f"a passage takes {tokens} tokens, and the student on its servers reads at most {max_tokens}; "
            "start them with a larger --max-model-len or leave the row out"
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
