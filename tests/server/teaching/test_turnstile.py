"""Many together or one alone, whoever is cancelled on the way."""

import asyncio

from server.teaching.turnstile import Turnstile


def test_who_is_alone_waits_for_those_inside_and_newcomers_wait_for_it() -> None:
    async def run() -> list[str]:
        turnstile, told, leave = Turnstile(), list[str](), asyncio.Event()

        async def visit(name: str, until: asyncio.Event | None = None) -> None:
            async with turnstile.shared():
                told.append(name)
                if until is not None:
                    await until.wait()
                    told.append(f"{name} leaves")

        async def be_alone() -> None:
            async with turnstile.alone():
                told.append("alone")
                await asyncio.sleep(0)
                told.append("alone leaves")

        tasks = [asyncio.create_task(visit(name, leave)) for name in ("a", "b")]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(be_alone()), asyncio.create_task(be_alone())]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(visit("newcomer")))
        for _ in range(5):
            await asyncio.sleep(0)
        told.append("waited")
        leave.set()
        await asyncio.gather(*tasks)
        return told

    told = asyncio.run(run())
    assert told[:5] == ["a", "b", "waited", "a leaves", "b leaves"]
    assert told.count("alone") == 2
    assert all(told[i + 1] == "alone leaves" for i, each in enumerate(told) if each == "alone")
    assert "newcomer" in told[6:]


def test_one_who_gives_up_waiting_to_be_alone_lets_the_others_in_again() -> None:
    async def run() -> bool:
        turnstile = Turnstile()
        async with turnstile.shared():
            with_patience = asyncio.create_task(_alone(turnstile))
            await asyncio.sleep(0)
            with_patience.cancel()
            await asyncio.gather(with_patience, return_exceptions=True)
            async with asyncio.timeout(10), turnstile.shared():
                return True

    assert asyncio.run(run())


async def _alone(turnstile: Turnstile) -> None:
    async with turnstile.alone():
        raise AssertionError("somebody is inside")
