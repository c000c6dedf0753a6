"""Event streams end, and give back what they hold, however they end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request

from server.errors import EngineUnavailable
from server.web.events import EventStream, event

Messages = list[dict[str, Any]]


def streamed(
    events: Callable[[list[str]], AsyncIterator[bytes]],
    leaves_after: float | None = None,
    stops: bool = False,
    seconds: float | None = None,
) -> tuple[str, list[str]]:
    """What is sent of `events`, and the notes that were taken on the way; the caller may leave, the service stop."""
    notes: list[str] = []
    sent: Messages = []

    async def leave() -> None:
        notes.append("left")

    async def run() -> None:
        app = FastAPI()
        app.state.stopping = asyncio.Event()
        if stops:
            asyncio.get_running_loop().call_later(0.05, app.state.stopping.set)
        scope: dict[str, Any] = {"type": "http", "app": app, "method": "GET", "path": "/", "headers": [], "state": {}}

        async def receive() -> dict[str, Any]:
            if leaves_after is None:
                await asyncio.Event().wait()
            await asyncio.sleep(leaves_after or 0)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        response = EventStream(Request(scope), events(notes), seconds=seconds, leave=leave)
        await response(scope, receive, send)

    asyncio.run(asyncio.wait_for(run(), 10))
    return b"".join(message.get("body", b"") for message in sent).decode(), notes


async def two(notes: list[str]) -> AsyncIterator[bytes]:
    yield event("one", 1)
    yield event("two", 2)
    notes.append("closed")


async def endless(notes: list[str]) -> AsyncIterator[bytes]:
    try:
        yield event("one", 1)
        await asyncio.Event().wait()
    finally:
        notes.append("closed")


async def broken(notes: list[str]) -> AsyncIterator[bytes]:
    yield event("one", 1)
    raise EngineUnavailable("vLLM does not answer")


async def buggy(notes: list[str]) -> AsyncIterator[bytes]:
    yield event("one", 1)
    raise KeyError("secret")


def error_of(text: str) -> dict[str, Any]:
    """The problem in the last event."""
    name, data = text.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    found: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return found


def test_events_are_sent_as_they_come_and_the_stream_ends_with_them() -> None:
    assert streamed(two) == ("event: one\ndata: 1\n\nevent: two\ndata: 2\n\n", ["closed", "left"])


def test_a_caller_who_leaves_ends_it_even_before_the_first_event() -> None:
    _, notes = streamed(endless, leaves_after=0)
    assert notes in (["left"], ["closed", "left"])  # an iterator that was never begun has nothing to close


def test_a_caller_who_leaves_later_ends_what_is_being_waited_for() -> None:
    _, notes = streamed(endless, leaves_after=0.05)
    assert notes == ["closed", "left"]


def test_the_services_stop_ends_it_with_an_event_that_says_so() -> None:
    text, notes = streamed(endless, stops=True)
    assert text.startswith("event: one")
    assert error_of(text)["error"]["code"] == "shutting_down"
    assert notes == ["closed", "left"]


def test_a_time_that_is_over_ends_it_with_an_event_that_says_so() -> None:
    text, notes = streamed(endless, seconds=0.05)
    assert (error_of(text)["status"], error_of(text)["error"]["code"]) == (504, "generation_timeout")
    assert notes == ["closed", "left"]


@pytest.mark.parametrize(("events", "status"), [(broken, 503), (buggy, 500)])
def test_a_failure_on_the_way_is_an_event(events: Callable[[list[str]], AsyncIterator[bytes]], status: int) -> None:
    text, notes = streamed(events)
    assert text.startswith("event: one")
    assert error_of(text)["status"] == status
    assert "secret" not in text
    assert notes == ["left"]


def test_an_event_without_a_name_and_a_text_with_line_ends_are_one_event_each() -> None:
    assert event(None, {"text": "a\nb"}) == b'data: {"text": "a\\nb"}\n\n'
