"""Which server gets a request: the least busy one, never more than its limit, and a failing one after a rest."""

import asyncio
from collections.abc import Awaitable

import pytest

from server.engine import vllm_pool
from server.engine.vllm_pool import NotNow, Pool, Server
from server.errors import EngineRefused, EngineUnavailable


def servers(count: int) -> list[Server]:
    return [Server(f"http://{number}") for number in range(count)]


def test_a_request_goes_to_the_server_with_the_least_in_flight() -> None:
    async def scenario() -> list[str]:
        pool = Pool(servers(3), 10)
        pool.servers[0].in_flight, pool.servers[2].in_flight = 2, 1
        taken = [await pool.ask(url_of) for _ in range(4)]
        return [url for _, url in taken]

    assert asyncio.run(scenario()) == ["http://1", "http://1", "http://2", "http://0"]


async def url_of(server: Server) -> str:
    return server.url


def test_no_server_is_given_more_than_its_limit_and_nobody_is_forgotten() -> None:
    most = 0

    async def work(server: Server) -> None:
        nonlocal most
        most = max(most, server.in_flight)
        await asyncio.sleep(0.001)

    async def scenario() -> int:
        pool = Pool(servers(2), 3)

        async def one() -> None:
            server, _ = await pool.ask(work)
            pool.leave(server)

        await asyncio.gather(*(one() for _ in range(50)))
        return sum(server.in_flight for server in pool.servers)

    assert asyncio.run(scenario()) == 0
    assert most == 3


def test_who_comes_first_is_served_first() -> None:
    order: list[int] = []

    async def scenario() -> None:
        pool = Pool(servers(1), 1)

        async def one(number: int) -> None:
            server, _ = await pool.ask(url_of)
            order.append(number)
            await asyncio.sleep(0)
            pool.leave(server)

        await asyncio.gather(*(one(number) for number in range(8)))

    asyncio.run(scenario())
    assert order == list(range(8))


def test_a_place_offered_to_one_who_has_left_goes_to_the_next() -> None:
    async def scenario() -> str:
        pool = Pool(servers(1), 1)
        first, _ = await pool.ask(url_of)
        leaving = asyncio.create_task(pool.ask(url_of))
        staying = asyncio.create_task(pool.ask(url_of))
        await asyncio.sleep(0)
        pool.leave(first)  # wakes the first of the two
        leaving.cancel()
        _, url = await asyncio.wait_for(staying, 5)
        return url

    assert asyncio.run(scenario()) == "http://0"


def test_a_failing_server_is_passed_over_until_its_rest_is_over() -> None:
    asked: list[str] = []

    async def attempt(server: Server) -> str:
        asked.append(server.url)
        if server.url == "http://0" and asked.count(server.url) == 1:
            raise NotNow("503")
        return server.url

    async def scenario() -> list[str]:
        pool = Pool(servers(2), 10)
        answers = [(await pool.ask(attempt))[1] for _ in range(2)]
        await asyncio.sleep(0.15)
        pool.servers[1].in_flight = 9
        return [*answers, (await pool.ask(attempt))[1]]

    assert asyncio.run(scenario()) == ["http://1", "http://1", "http://0"]
    assert asked == ["http://0", "http://1", "http://1", "http://0"]


def test_a_server_that_comes_back_in_time_is_waited_for() -> None:
    tries = 0

    async def attempt(server: Server) -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConnectionRefusedError("refused")
        return server.url

    async def scenario() -> str:
        pool = Pool(servers(1), 1)
        return (await pool.ask(attempt))[1]

    assert asyncio.run(scenario()) == "http://0"


def test_where_none_answers_for_a_while_the_engine_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_pool, "PATIENCE_SECONDS", 0.3)

    async def dead(server: Server) -> str:
        raise ConnectionRefusedError("refused")

    async def scenario() -> int:
        pool = Pool(servers(2), 1)
        results = await asyncio.gather(*(pool.ask(dead) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, EngineUnavailable) for result in results)
        return sum(server.in_flight for server in pool.servers)

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == 0


def test_a_refusal_is_told_at_once_and_harms_no_server() -> None:
    async def refused(server: Server) -> Awaitable[str]:
        raise EngineRefused("no such model")

    async def scenario() -> Server:
        pool = Pool(servers(1), 1)
        with pytest.raises(EngineRefused, match="no such model"):
            await pool.ask(refused)
        return pool.servers[0]

    server = asyncio.run(scenario())
    assert (server.in_flight, server.rests_until) == (0, 0)
