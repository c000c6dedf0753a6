"""A teacher sampled by transformers inside this process: the engine where vLLM does not install, and for tests.

One thread owns the model. Requests that arrive within a few milliseconds of each other, with the same sampling, go
through it as one batch; the next batch begins when the last row of this one has ended. So a long sample keeps later
ones waiting: this engine is for few callers. What a request yields does not depend on its batch. Left out: adapters.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from server.engine.protocol import Generated, Generation, Piece, ServerState, room_for
from server.engine.weights import misfit
from server.errors import EngineRefused, EngineUnavailable
from student.configs import ModelSettings, SamplingSettings
from student.engine import Request, Sample, TransformersEngine
from student.errors import ModelError
from student.models import load_pair

BATCH_ROWS = 64
GATHER_SECONDS = 0.004

T = TypeVar("T")


@dataclass(eq=False)
class _Row:
    """A request on its way through the engine."""

    asked: Generation
    max_tokens: int
    done: asyncio.Future[Generated]
    text: "_Text"
    pieces: asyncio.Queue[Piece] | None = None
    """Where a stream reads; None where the sample is wanted whole."""
    cancelled: bool = False

    @property
    def kind(self) -> tuple[float, float, int]:
        """Rows of one kind may share a batch."""
        return (self.asked.temperature, self.asked.top_p, self.max_tokens)

    def generated(self, ids: list[int], logps: list[float], finished: bool) -> Generated:
        """The row's result, of all it sampled but the end of text."""
        text, stopped = self.text.of(ids)
        return Generated(ids, text, logps[: len(ids)] if self.asked.logps else [], finished or stopped)


class LocalEngine:
    """Samples by transformers in a thread; made by `open_local`."""

    name: Literal["transformers"] = "transformers"
    places = BATCH_ROWS

    def __init__(
        self,
        engine: TransformersEngine,
        tokenizer: PreTrainedTokenizerBase,
        model: str,
        settings: ModelSettings,
        thread: ThreadPoolExecutor,
    ) -> None:
        self.version = transformers.__version__
        self.context_tokens = engine.context_tokens
        self._engine = engine
        self._tokenizer = tokenizer
        self._model = model
        self._settings = settings
        self._thread = thread
        self._rows: list[_Row] = []
        self._running: list[_Row] = []
        self._arrived = asyncio.Event()
        self._batches = asyncio.create_task(self._run())

    async def generate(self, asked: Generation) -> Generated:
        """One sample, whole; see server.engine.protocol.TeacherEngine."""
        row = self._enter(asked)
        try:
            return await row.done
        finally:
            row.cancelled = True

    async def stream(self, asked: Generation) -> AsyncGenerator[Piece]:
        """One sample as it is made."""
        row = self._enter(asked)
        row.pieces = asyncio.Queue()
        try:
            while not row.done.done() or not row.pieces.empty():
                reading = asyncio.ensure_future(row.pieces.get())
                either: list[asyncio.Future[Any]] = [reading, row.done]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    yield reading.result()
                reading.cancel()
            whole = await row.done
            yield Piece(whole.token_ids[row.text.tokens_sent :], whole.text[row.text.sent :], whole.finished)
        finally:
            row.cancelled = True

    async def logps(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """log p of every token but the first given those before it, at temperature 1."""
        _refuse_adapter(adapter)
        room_for(len(token_ids) - 1, 1, self.context_tokens)
        return await self._in_thread(lambda: _logps(self._engine, token_ids))

    async def health(self) -> None:
        """Raises EngineUnavailable where the engine was closed."""
        self._refuse_closed()

    async def servers(self) -> list[ServerState]:
        """This process."""
        unwell = None
        try:
            self._refuse_closed()
        except EngineUnavailable as error:
            unwell = str(error)
        in_flight = sum(not row.done.done() for row in [*self._rows, *self._running])
        return [ServerState("in this process", unwell, in_flight)]

    async def reload(self, model: str) -> None:
        """Loads the model in the folder `model` and lets it take over; raises EngineRefused where it does not fit."""
        error = await asyncio.to_thread(misfit, self._model, model)
        if error:
            raise EngineRefused(error)
        try:
            self._engine = await self._in_thread(lambda: TransformersEngine(*load_pair(model, self._settings)))
        except ModelError as failure:
            raise EngineRefused(str(failure)) from failure
        self._model = model

    async def load_adapter(self, name: str, folder: str) -> None:
        """Raises EngineRefused."""
        _refuse_adapter(name)

    async def unload_adapter(self, name: str) -> None:
        """Nothing to forget."""

    async def close(self) -> None:
        """Ends the thread, in the middle of a batch too."""
        self._batches.cancel()
        for row in [*self._rows, *self._running]:
            row.cancelled = True
            _settle(row, EngineUnavailable("engine 'transformers' is closing; ask again later"))
        with suppress(asyncio.CancelledError):
            await self._batches
        await asyncio.to_thread(self._thread.shutdown)

    def _refuse_closed(self) -> None:
        if self._batches.done():
            raise EngineUnavailable("engine 'transformers' was closed; start the service again")

    def _enter(self, asked: Generation) -> _Row:
        self._refuse_closed()
        _refuse_adapter(asked.adapter)
        max_tokens = room_for(len(asked.prompt_ids), asked.max_tokens, self.context_tokens)
        done: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        row = _Row(asked, max_tokens, done, _Text(self._tokenizer, asked.stop))
        self._rows.append(row)
        self._arrived.set()
        return row

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        """Batch after batch, for ever."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._running = batch = self._next_batch()
            if not batch:
                continue
            try:
                samples = await self._in_thread(lambda batch=batch: self._sample(batch))  # type: ignore[misc]
            except RuntimeError as error:  # the boundary: out of memory is the usual one
                for row in batch:
                    _settle(row, EngineUnavailable(f"transformers failed ({str(error)[:200]}); ask for less at a time"))
            else:
                for row, sample in zip(batch, samples, strict=True):
                    _settle(row, sample)

    def _next_batch(self) -> list[_Row]:
        self._rows = [row for row in self._rows if not row.cancelled]
        batch = [row for row in self._rows if row.kind == self._rows[0].kind][:BATCH_ROWS]
        self._rows = [row for row in self._rows if row not in batch]
        if not self._rows:
            self._arrived.clear()
        return batch

    def _sample(self, batch: list[_Row]) -> list[Generated]:
        temperature, top_p, max_tokens = batch[0].kind
        sampling = SamplingSettings(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        requests = [Request(list(row.asked.prompt_ids), row.asked.seed) for row in batch]
        watch = _Watch(batch, self._engine.end_ids, self._batches.get_loop())
        samples = self._engine.sample_batch(requests, max_tokens, sampling, watch)
        return [watch.generated(row, sample) for row, sample in zip(batch, samples, strict=True)]


async def open_local(model: str, settings: ModelSettings) -> LocalEngine:
    """An engine on the model in a folder or of a hub name; raises ModelError where it cannot be loaded."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="rlt-engine")
    try:
        pair = await asyncio.get_running_loop().run_in_executor(thread, load_pair, model, settings)
    except BaseException:
        thread.shutdown(wait=False)
        raise
    return LocalEngine(TransformersEngine(*pair), pair[1], model, settings, thread)


class _Text:
    """A row's text while it grows, decoded a few tokens at a time: what may be sent, and if a stop text is in it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...]) -> None:
        self.sent = 0
        """Characters that were sent."""
        self.tokens_sent = 0
        self._tokenizer = tokenizer
        self._stop = stop
        self._text = ""
        self._first, self._read = 0, 0  # _text holds all tokens before _read; those from _first on are decoded with new

    def of(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of all ids, before the first stop text, and whether there is one."""
        text = self._decode(ids)
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        return (text[: min(found)], True) if found else (text, False)

    def stopped(self, ids: Sequence[int]) -> bool:
        """Whether the ids, one more than at the last call, hold a stop text now."""
        known, new = (self._decode(ids[self._first : end]) for end in (self._read, len(ids)))
        if new.endswith("\ufffd"):  # the middle of a character
            return False
        self._first, self._read = self._read, len(ids)
        before, self._text = len(self._text), self._text + new[len(known) :]
        return any(self._text.find(stop, max(0, before - len(stop))) >= 0 for stop in self._stop)

    def next(self, ids: list[int]) -> Piece:
        """What may be sent now: no part of a character, and nothing that may be the beginning of a stop text."""
        safe = len(self._text) - max((_overlap(self._text, stop) for stop in self._stop), default=0)
        piece = Piece(ids[self.tokens_sent :], self._text[self.sent : safe])
        self.tokens_sent, self.sent = len(ids), max(self.sent, safe)
        return piece

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` may be the beginning of `stop`.

    >>> _overlap("the <", "</end>"), _overlap("the end", "</end>")
    (1, 0)
    """
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class _Watch(StoppingCriteria):
    """Ends rows at their stop texts and where their caller has left; hands over what is ready before the batch is."""

    def __init__(self, batch: list[_Row], end_ids: Sequence[int], loop: asyncio.AbstractEventLoop) -> None:
        self._batch, self._end_ids, self._loop = batch, set(end_ids), loop
        self._tokens: list[list[int]] = [[] for _ in batch]
        self._over = [False] * len(batch)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Whether each row is over, shape (B,)."""
        for number, token in enumerate(input_ids[:, -1].tolist()):
            if not self._over[number]:
                self._over[number] = self._add(self._batch[number], self._tokens[number], token)
        return torch.tensor(self._over, device=input_ids.device)

    def generated(self, row: _Row, sample: Sample) -> Generated:
        """The result of a row whose batch has ended."""
        ids = self._tokens[self._batch.index(row)]
        return row.generated(ids, sample.logps, sample.finished and len(sample.token_ids) == len(ids))

    def _add(self, row: _Row, ids: list[int], token: int) -> bool:
        """Whether the row is over with this token."""
        finished = token in self._end_ids
        if not finished:
            ids.append(token)
            watched = row.pieces is not None or row.asked.stop
            if not (row.cancelled or (watched and row.text.stopped(ids))):
                if row.pieces is not None:
                    self._loop.call_soon_threadsafe(row.pieces.put_nowait, row.text.next(ids))
                return False
        if not row.asked.logps:
            self._loop.call_soon_threadsafe(_settle, row, row.generated(ids, [], finished))
        return True


def _settle(row: _Row, result: Generated | EngineUnavailable) -> None:
    if row.done.done():
        return
    if isinstance(result, Generated):
        row.done.set_result(result)
    else:
        row.done.set_exception(result)


def _refuse_adapter(name: str | None) -> None:
    if name is not None:
        raise EngineRefused(f"adapter {name!r}: engine 'transformers' serves none; use engine 'vllm' with adapters > 0")


@torch.inference_mode()
def _logps(engine: TransformersEngine, token_ids: Sequence[int]) -> list[float]:
    ids = torch.tensor([list(token_ids)], device=engine.model.device)
    model: Any = engine.model
    logps = model(input_ids=ids[:, :-1]).logits.float().log_softmax(dim=-1)
    chosen: list[float] = logps.gather(-1, ids[:, 1:, None])[0, :, 0].tolist()
    return chosen
