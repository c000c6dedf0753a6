"""Generation for many callers at once: token ids go in; ids, text and log-probabilities come out.

One protocol, three implementations: VllmServers (vllm_servers.py: vLLM over HTTP, one or many addresses), a vLLM that
the service starts and ends itself (vllm_child.py, spoken to by VllmServers too) and LocalEngine (local_engine.py:
transformers in this process). A request is one sample: n samples are n requests, each with its own seed, so that every
row can be made again alone; the prompt they share costs once where the engine caches prefixes. Cancelling the task
that awaits a request ends its work in the engine. Left out: prompts as text. They are rendered and tokenised by the
service, once.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import EngineRefused
from student.engine import token_limit


@dataclass(frozen=True)
class Generation:
    """One sample that is asked for."""

    prompt_ids: Sequence[int]
    seed: int
    """63 bits at most."""
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    """Texts that end the sample; what is generated up to and with them is in the ids."""
    adapter: str | None = None
    """A LoRA adapter that was loaded under this name."""
    logps: bool = False
    """Whether log-probabilities are wanted; they cost."""


@dataclass(frozen=True)
class Generated:
    """What was sampled."""

    token_ids: list[int]
    """Without the end of text."""
    text: str
    """The ids as text, special tokens included; the stop text left out."""
    logps: list[float]
    """Of each token at the sampling temperature; empty unless asked for."""
    finished: bool
    """The end of text or a stop text was reached; False: cut by max_tokens or the context."""


@dataclass(frozen=True)
class Piece:
    """A part of a sample that is streamed; the last one says how it ended."""

    token_ids: list[int]
    text: str
    """May be empty while a character or a stop text is incomplete."""
    finished: bool | None = None
    """None while more is to come; then as in Generated."""


@dataclass(frozen=True)
class ServerState:
    """How one of the engine's servers stands."""

    address: str
    unwell: str | None
    """Why it cannot serve; None where it can."""
    in_flight: int
    """Requests that it works on for this service."""


class TeacherEngine(Protocol):
    """Runs one teacher's weights. Methods raise EngineUnavailable (try again) or EngineRefused (do not)."""

    @property
    def name(self) -> str:
        """`vllm` or `transformers`."""

    @property
    def version(self) -> str:
        """Of the library that generates."""

    @property
    def context_tokens(self) -> int | None:
        """The longest sequence it can hold; None where it names no limit."""

    @property
    def places(self) -> int:
        """Samples that it works on at a time; the others wait."""

    async def generate(self, asked: Generation) -> Generated:
        """One sample, whole."""

    def stream(self, asked: Generation) -> AsyncGenerator[Piece]:
        """One sample as it is made; the pieces joined are what `generate` gives."""

    async def logps(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """log p of every token but the first given those before it, at temperature 1: one fewer than `token_ids`."""

    async def health(self) -> None:
        """Returns where a request could be served now; raises EngineUnavailable with the reason where not."""

    async def servers(self) -> list[ServerState]:
        """Each of its servers, and how it stands; one where it has none but this process."""

    async def reload(self, model: str) -> None:
        """Puts the weights of the folder `model`, same architecture, in place of the present ones, everywhere.

        The caller lets no request run meanwhile. Raises EngineRefused where they do not fit; the old ones stay.
        """

    async def load_adapter(self, name: str, folder: str) -> None:
        """Makes the LoRA adapter in `folder` available under `name`; raises EngineRefused where that cannot be."""

    async def unload_adapter(self, name: str) -> None:
        """Forgets an adapter; one that is not loaded is no error."""

    async def close(self) -> None:
        """Gives back what the engine holds; a process it started is ended."""


def room_for(prompt_tokens: int, max_tokens: int, context_tokens: int | None) -> int:
    """How many tokens may be sampled; raises EngineRefused where there is room for none."""
    room = token_limit(prompt_tokens, max_tokens, context_tokens)
    if not room:
        raise EngineRefused(
            f"the prompt has {prompt_tokens} tokens and the teacher's context {context_tokens}: "
            "there is no room for an answer; shorten the prompt"
        )
    return room
