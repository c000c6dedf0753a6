"""One request for explanations, from its limits through the gate to its rows; /v1/explanations and chat share it.

limits, student -> a place for each sample -> prompt -> teacher -> student

answering = Answering(request.app.state, body)
made, rows = await unless_gone(request, answering.whole())                   one answer, or
made, leave = await unless_gone(request, answering.begun())                  a stream: what is refused still has its
EventStream(request, events(answering.parts_of(made)), leave=leave, ...)     own status, since it is not begun
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from starlette.datastructures import State

from server.configs import ServeConfig
from server.errors import TimedOut, Unavailable
from server.service import Parts
from server.teaching.explaining import Delta, Prompt, asked, check_scoring, explain_prompt, prompt, stream_prompt
from server.teaching.teachers import Teachers
from server.web.gate import Gate
from server.web.metrics import Metrics
from server.wire import ExplanationRequest
from student.explanations import Explanation

T = TypeVar("T")


class Answering:
    """A request that is within the limits; raises Invalid, Unavailable or NotFound where it is not."""

    def __init__(self, state: State, request: ExplanationRequest) -> None:
        parts: Parts = state.parts
        assert isinstance(parts.config, ServeConfig)
        self._limits = parts.config.limits
        self._gate: Gate = state.gate
        self._metrics: Metrics = state.metrics
        self._teachers = the_teachers(parts)
        check_scoring(parts.student, request.scored, request.ranking)
        self._student = parts.student if request.scored else None
        self._ask = asked(request, self._limits)
        self._teachers.known(request.model)

    @property
    def seconds(self) -> float:
        """How long it may take, the waiting included."""
        return self._limits.request_seconds

    async def whole(self) -> tuple[Prompt, list[Explanation]]:
        """The prompt and a row a sample, scored where asked for; raises TooMany, TimedOut and what engines raise."""
        try:
            async with asyncio.timeout(self.seconds), self._gate.places(self._ask.samples):
                made = await prompt(self._teachers, self._ask)
                rows = await explain_prompt(self._teachers, made, self._student)
        except TimeoutError as error:
            raise timed_out(self.seconds) from error
        for row in rows:
            self._count(row)
        return made, rows

    async def begun(self) -> tuple[Prompt, Callable[[], Awaitable[None]]]:
        """The prompt, with the places taken until what comes back with it is called; raises as `whole` does."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.seconds):
                    await stack.enter_async_context(self._gate.places(self._ask.samples))
                    made = await prompt(self._teachers, self._ask)
            except TimeoutError as error:
                raise timed_out(self.seconds) from error
            return made, stack.pop_all().aclose

    async def parts_of(self, made: Prompt) -> AsyncIterator[Delta | Explanation]:
        """The text as it is written, and each row once it is whole; closing the iterator ends the engine's work."""
        async with aclosing(stream_prompt(self._teachers, made, self._student)) as parts:
            async for part in parts:
                if isinstance(part, Explanation):
                    self._count(part)
                yield part

    def _count(self, row: Explanation) -> None:
        self._metrics.explanations.inc()
        self._metrics.tokens.inc(len(row.token_ids or ()))
        self._metrics.scores.inc(row.score is not None)


async def in_time(state: State, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, as one explanation among those that are made; raises TooMany and TimedOut."""
    parts: Parts = state.parts
    assert isinstance(parts.config, ServeConfig)
    seconds = parts.config.limits.request_seconds
    gate: Gate = state.gate
    try:
        async with asyncio.timeout(seconds), gate.places():
            return await work
    except TimeoutError as error:
        raise timed_out(seconds) from error
    finally:
        work.close()


def the_teachers(parts: Parts) -> Teachers:
    """The service's teacher; raises Unavailable where it only scores."""
    if parts.teachers is None:
        raise Unavailable("this service has no teacher, it only scores; ask the one that explains", code="no_teacher")
    return parts.teachers


def timed_out(seconds: float) -> TimedOut:
    """The error for what was not ready after `seconds`."""
    return TimedOut(
        f"not ready within {seconds:g} s, the longest this service works on a request; ask for fewer tokens"
    )
