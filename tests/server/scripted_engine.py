"""An engine whose samples a test writes: for what depends on the text, on timing or on LoRA, not on a model."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from transformers import PreTrainedTokenizerBase

from server.engine.protocol import Generated, Generation, Piece, ServerState
from server.errors import EngineRefused, EngineUnavailable
from server.teaching.spans import pieces
from student.chat import encode


class ScriptedEngine:
    """Samples `text(asked)`; a test that clears `may_go` holds it, and sees in `running` what is under way.

    It has whole models in `good` folders and adapters in any: what is loaded is in `model` and `adapters`.
    """

    name = "scripted"
    version = "0"
    places = 64

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, text: Callable[[Generation], str], context_tokens: int | None = None
    ) -> None:
        self.context_tokens = context_tokens
        self.running = 0
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.adapters: set[str] = set()
        self.reloads: list[str] = []
        self.bad: dict[str, Exception] = {}
        """Folders that cannot be loaded, and what happens then."""
        self.text = text
        self._tokenizer = tokenizer

    async def generate(self, asked: Generation) -> Generated:
        """One sample, whole."""
        made = [piece async for piece in self.stream(asked)]
        ids = [token for piece in made for token in piece.token_ids]
        return Generated(ids, "".join(piece.text for piece in made), [], bool(made[-1].finished))

    async def stream(self, asked: Generation) -> AsyncGenerator[Piece]:
        """One token at a time, and its stop text too, which a careless engine might hand out."""
        if asked.adapter is not None and asked.adapter not in self.adapters:
            raise EngineRefused(f"no adapter {asked.adapter!r}")
        self.running += 1
        try:
            written = self.text(asked)
            ids = encode(self._tokenizer, written)
            texts = pieces(self._tokenizer, ids, written)
            for token, text in list(zip(ids, texts, strict=True))[: asked.max_tokens]:
                await self.may_go.wait()
                await asyncio.sleep(0)
                yield Piece([token], text)
            yield Piece([], "", finished=len(ids) <= asked.max_tokens)
        finally:
            self.running -= 1

    async def logps(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Nobody asks."""
        raise NotImplementedError

    async def health(self) -> None:
        """Well."""

    async def servers(self) -> list[ServerState]:
        """One, which is well."""
        return [ServerState("in the test", None, self.running)]

    async def reload(self, model: str) -> None:
        """Notes the folder; fails where the test said so."""
        assert not self.running, "nothing may run while weights are exchanged"
        self.reloads.append(model)
        if model in self.bad:
            raise self.bad[model]

    async def load_adapter(self, name: str, folder: str) -> None:
        """Loads what is not bad."""
        if folder in self.bad:
            raise self.bad[folder]
        self.adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        """Forgets it."""
        self.adapters.discard(name)

    async def close(self) -> None:
        """Nothing to give back."""


UNAVAILABLE = EngineUnavailable("no answer")
REFUSED = EngineRefused("these do not fit")
