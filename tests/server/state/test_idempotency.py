"""Idempotency-Key: the same request makes one thing however often and at once it comes; another body is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from server.errors import Invalid, KeyReused
from server.jobs.jobs import Jobs
from server.state import idempotency
from server.state.database import Database
from server.state.idempotency import Claim
from server.state.ids import new_id
from server.state.tables import Idempotency, Job

ROUTE = "POST /v1/datasets"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await Database.open(url, Path("unused"))
    try:
        yield database
    finally:
        await database.close()


def claim(key: str | None = "a", body: bytes = b"{}", caller: str = "key_1", route: str = ROUTE) -> Claim | None:
    return Claim.of(route, caller, key, body)


async def create(database: Database, once: Claim | None) -> str:
    return (await Jobs(database).create("dataset", {}, new_id("ds_"), once=once)).id


async def jobs(database: Database) -> int:
    async with database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(Job)) or 0)


def test_requests_with_one_key_at_once_make_one_job_and_all_hear_of_it(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as one, opened(database_url) as other:  # as two processes would
            made = await asyncio.gather(*(create(database, claim()) for database in (one, other) for _ in range(10)))
            assert len(set(made)) == 1
            assert await create(one, claim()) == made[0]
            assert await jobs(one) == 1

    asyncio.run(run())


def test_another_body_under_the_same_key_is_refused_and_makes_nothing(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            await create(database, claim())
            with pytest.raises(KeyReused, match="used with another body") as caught:
                await create(database, claim(body=b'{"n": 2}'))
            assert (caught.value.status, caught.value.param) == (422, "Idempotency-Key")
            assert await jobs(database) == 1

    asyncio.run(run())


def test_other_callers_routes_and_keys_and_requests_without_one_are_apart(database_url: str) -> None:
    claims = [claim(), claim("b"), claim(caller="key_2"), claim(route="POST /v1/batches"), claim(None), claim(None)]

    async def run() -> None:
        async with opened(database_url) as database:
            assert len({await create(database, each) for each in claims}) == 6

    asyncio.run(run())


async def fail_after_the_claim(database: Database) -> None:
    once = claim()
    assert once is not None
    async with database.session() as session:
        assert await once.earlier(session, "ds_0") is None
        raise ZeroDivisionError


def test_a_request_that_failed_gives_its_key_back(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            with pytest.raises(ZeroDivisionError):
                await fail_after_the_claim(database)
            await create(database, claim(body=b"mended"))
            assert await jobs(database) == 1

    asyncio.run(run())


def test_a_key_is_forgotten_after_a_day(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with opened(database_url) as database:
            first = await create(database, claim())
            assert await create(database, claim()) == first
            monkeypatch.setattr(idempotency, "REMEMBERED_SECONDS", 0)  # as if so much time had passed
            assert await create(database, claim(body=b"another")) != first
            async with database.reading() as session:
                assert await session.scalar(select(func.count()).select_from(Idempotency)) == 1

    asyncio.run(run())


@pytest.mark.parametrize("key", ["", "a\nb", "ü", "a" * 256])
def test_a_key_that_is_empty_long_or_odd_is_refused(key: str) -> None:
    with pytest.raises(Invalid, match="must be 1 to 255 printable ASCII characters") as caught:
        claim(key)
    assert caught.value.param == "Idempotency-Key"
