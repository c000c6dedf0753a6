"""The gate: so many places, a line in the order of arrival, and 429 where the line is full."""

import asyncio

import pytest

from server.errors import TooMany
from server.web.gate import Gate


async def hold(gate: Gate, places: int, until: asyncio.Event, entered: list[int]) -> None:
    """Takes places, notes that it has them, and keeps them until the event."""
    async with gate.places(places):
        entered.append(places)
        await until.wait()


async def settled() -> None:
    """Every task that can go on has done so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_finds_places_enters_and_the_rest_wait_in_the_order_of_arrival() -> None:
    async def scenario() -> None:
        gate, entered = Gate(running=4, waiting=8), []  # type: ignore[var-annotated]
        ends = [asyncio.Event() for _ in range(4)]
        tasks = [
            asyncio.create_task(hold(gate, places, end, entered))
            for places, end in zip((3, 2, 1, 1), ends, strict=True)
        ]
        await settled()
        # One place is free, and the third wants one; but the second came before it and wants two.
        assert (entered, gate.running, gate.waiting) == ([3], 3, 3)
        ends[0].set()
        await settled()
        assert (entered, gate.running, gate.waiting) == ([3, 2, 1, 1], 4, 0)
        for end in ends:
            end.set()
        await asyncio.gather(*tasks)
        assert gate.running == 0

    asyncio.run(scenario())


def test_one_more_than_the_line_holds_is_turned_away_at_once_and_told_when_to_come_again() -> None:
    async def scenario() -> None:
        gate, end = Gate(running=1, waiting=1), asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, 1, end, [])) for _ in range(2)]
        await settled()
        with pytest.raises(TooMany, match="1 explanations and scores are being made and 1 requests wait") as refused:
            async with gate.places():
                pass
        assert refused.value.code == "overloaded"
        assert refused.value.retry_after
        end.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_a_request_for_more_places_than_there_are_takes_all() -> None:
    async def scenario() -> None:
        gate = Gate(running=2, waiting=0)
        async with gate.places(64):
            assert gate.running == 2
        assert gate.running == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("turns_before", [0, 1, 2, 3])
def test_a_place_is_not_lost_where_its_taker_is_cancelled_at_any_moment(turns_before: int) -> None:
    async def scenario() -> None:
        gate, end, entered = Gate(running=1, waiting=4), asyncio.Event(), []  # type: ignore[var-annotated]
        first = asyncio.create_task(hold(gate, 1, end, []))
        second = asyncio.create_task(hold(gate, 1, asyncio.Event(), []))
        third = asyncio.create_task(hold(gate, 1, end, entered))
        await settled()
        end.set()
        for _ in range(turns_before):  # the second is called, or has entered, or neither yet
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        assert entered == [1]
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(scenario())


def test_places_come_back_where_the_work_fails() -> None:
    async def scenario() -> None:
        gate = Gate(running=1, waiting=0)
        with pytest.raises(ZeroDivisionError):
            async with gate.places():
                raise ZeroDivisionError
        assert gate.running == 0

    asyncio.run(scenario())
