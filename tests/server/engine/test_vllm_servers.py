"""A real vLLM over HTTP: the samples of the engines inside a process, load shared, dead servers passed over."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from server.engine import vllm_pool
from server.engine.protocol import Generation, Piece
from server.engine.vllm_servers import VllmServers
from server.errors import EngineRefused, EngineUnavailable, ServerError
from student.configs import ModelSettings, SamplingSettings
from student.engine import Request, TransformersEngine
from student.models import load_pair, load_tokenizer
from tests.server.conftest import free_port
from tests.server.relay import relay

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPTS = [[10 + number + place for place in range(20 + 3 * number)] for number in range(8)]


def asked(number: int = 0, max_tokens: int = 40, **changes: object) -> Generation:
    whole = Generation(PROMPTS[number], 2**62 + number, max_tokens, 0.9)
    return replace(whole, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def engine_on(
    *urls: str, end: int = 2, concurrency: int = 64, key: str | None = None
) -> AsyncIterator[VllmServers]:
    engine = VllmServers(urls, [end], concurrency, key)
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 120))  # type: ignore[arg-type]


async def streamed(engine: VllmServers, generation: Generation) -> list[Piece]:
    return [piece async for piece in engine.stream(generation)]


async def collect(stream: AsyncIterator[Piece], pieces: list[Piece]) -> None:
    async for piece in stream:
        pieces.append(piece)


def decoded(folder: Path, ids: list[int]) -> str:
    return str(load_tokenizer(str(folder)).decode(ids))


def test_samples_are_those_of_the_engine_inside_a_process(vllm_url: str, servable_model_folder: Path) -> None:
    requests = [Request(prompt, 2**62 + number) for number, prompt in enumerate(PROMPTS)]
    settings = ModelSettings(device="cpu", threads=1)
    inside = TransformersEngine(*load_pair(str(servable_model_folder), settings))
    expected = inside.sample(requests, SamplingSettings(temperature=0.9, max_tokens=40))

    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            assert (engine.name, engine.model, engine.context_tokens) == ("vllm", "teacher", 1024)
            assert re.fullmatch(r"\d+\.\d+.*", engine.version)
            together = await asyncio.gather(*(engine.generate(asked(number, logps=True)) for number in range(8)))
            assert [row.token_ids for row in together] == [sample.token_ids for sample in expected]
            assert [row.finished for row in together] == [sample.finished for sample in expected]
            for row, sample in zip(together, expected, strict=True):
                assert row.logps == pytest.approx(sample.logps, abs=1e-4)
            assert (await engine.generate(asked(3))).token_ids == together[3].token_ids
            assert (await engine.generate(asked(3))).logps == []

    run(scenario)


def test_samples_are_those_of_rlt_explain_with_vllm(vllm_url: str, servable_model_folder: Path) -> None:
    from student.engine_vllm import VllmEngine

    requests = [Request(prompt, 2**62 + number) for number, prompt in enumerate(PROMPTS)]
    name, settings = str(servable_model_folder), ModelSettings(device="cpu", threads=1)
    offline = VllmEngine(name, load_tokenizer(name), settings, 512, logps=False)
    expected = offline.sample(requests, SamplingSettings(temperature=0.7, top_p=0.9, max_tokens=200))
    offline.close()

    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            rows = [asked(number, 200, temperature=0.7, top_p=0.9) for number in range(8)]
            together = await asyncio.gather(*map(engine.generate, rows))
            assert [(row.token_ids, row.finished) for row in together] == [
                (sample.token_ids, sample.finished) for sample in expected
            ]

    run(scenario)


def test_an_end_token_ends_a_sample_and_stays_out_of_it(vllm_url: str, servable_model_folder: Path) -> None:
    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            free = await engine.generate(asked())
        end = free.token_ids[11]
        first = free.token_ids.index(end)
        async with engine_on(vllm_url, end=end) as engine:
            row = await engine.generate(asked(logps=True))
            assert row.token_ids == free.token_ids[:first]
            assert row.finished
            assert len(row.logps) == first
            assert row.text == decoded(servable_model_folder, row.token_ids)
            pieces = await streamed(engine, asked())
            assert [token for piece in pieces for token in piece.token_ids] == row.token_ids
            assert pieces[-1].finished is True

    run(scenario)


def test_the_pieces_of_a_stream_joined_are_the_sample_with_a_stop_text_too(
    vllm_url: str, servable_model_folder: Path
) -> None:
    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            free = await engine.generate(asked(1))
            stop = decoded(servable_model_folder, free.token_ids[20:22])
            assert len(stop.strip("\ufffd")) == len(stop) > 1
            for wanted in (asked(1), asked(1, stop=(stop,))):
                whole, pieces = await engine.generate(wanted), await streamed(engine, wanted)
                assert [token for piece in pieces for token in piece.token_ids] == whole.token_ids
                assert "".join(piece.text for piece in pieces) == whole.text
                assert [piece.finished for piece in pieces] == [None] * (len(pieces) - 1) + [whole.finished]
                assert len(pieces) > 10
            assert whole.finished
            assert whole.text == free.text[: free.text.index(stop)]
            assert stop in decoded(servable_model_folder, whole.token_ids)
            assert stop not in decoded(servable_model_folder, whole.token_ids[:-1])

    run(scenario)


def test_log_probabilities_are_those_of_a_plain_forward(vllm_url: str, servable_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(servable_model_folder).double()
    ids = torch.tensor([PROMPTS[5]])
    with torch.no_grad():
        expected = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]

    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            assert await engine.logps(PROMPTS[5]) == pytest.approx(expected.tolist(), abs=1e-5)

    run(scenario)


def test_what_vllm_will_not_do_is_refused_in_its_own_words(vllm_url: str) -> None:
    async def scenario() -> None:
        async with engine_on(vllm_url) as engine:
            with pytest.raises(EngineRefused, match="`mine` does not exist"):
                await engine.generate(asked(adapter="mine"))
            with pytest.raises(EngineRefused, match="out of vocabulary"):
                await engine.generate(asked(prompt_ids=[5, 4000]))
            with pytest.raises(EngineRefused, match="1024 tokens and the teacher's context 1024"):
                await engine.generate(asked(prompt_ids=[5] * 1024))
            with pytest.raises(EngineRefused, match="needs adapters > 0"):
                await engine.load_adapter("mine", "folder")
            row = await engine.generate(asked(prompt_ids=[5] * 1020, temperature=0.0))
            assert (len(row.token_ids), row.finished) == (4, False)

    run(scenario)


def test_a_wrong_key_is_told_with_the_variable_to_set(vllm_url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ServerError, match="set RLT_ENGINE_KEY"):
            async with engine_on(vllm_url, key="wrong"):
                pass

    run(scenario)


def test_a_server_that_is_not_there_at_the_start_is_named() -> None:
    async def scenario() -> None:
        with pytest.raises(
            ServerError, match=r"vLLM at http://127\.0\.0\.1:\d+ does not answer \(connection refused\)"
        ):
            async with engine_on(f"http://127.0.0.1:{free_port()}"):
                pass

    run(scenario)


def test_one_server_of_two_is_enough_for_a_start_and_the_other_is_met_when_it_comes(vllm_url: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with engine_on(f"http://127.0.0.1:{port}", vllm_url) as engine:
            expected = await engine.generate(asked(0))
            async with relay(vllm_url, port) as late:
                await asyncio.sleep(0.2)
                assert await asyncio.gather(*(engine.generate(asked(0)) for _ in range(8))) == [expected] * 8
                assert late.requests >= 4
                assert engine.model == "teacher"

    run(scenario)


def test_two_servers_share_the_load_and_none_gets_more_than_its_limit(vllm_url: str) -> None:
    async def scenario() -> None:
        async with relay(vllm_url) as one, relay(vllm_url) as two, engine_on(one.url, two.url, concurrency=4) as engine:
            await asyncio.gather(*(engine.generate(asked(number % 8, 20)) for number in range(40)))
            assert one.requests + two.requests == 40 + 4  # each was met with two questions
            assert min(one.requests, two.requests) > 10
            assert max(one.most_at_a_time, two.most_at_a_time) <= 4
            assert max(one.connections, two.connections) <= 5  # they are kept

    run(scenario)


def test_no_request_is_lost_when_one_of_two_servers_dies(vllm_url: str) -> None:
    async def scenario() -> None:
        async with relay(vllm_url) as one, relay(vllm_url) as two, engine_on(one.url, two.url) as engine:
            expected = [await engine.generate(asked(number, 200)) for number in range(8)]
            rows = [asyncio.create_task(engine.generate(asked(number, 200))) for number in range(8)]
            while not (one.requests > 2 and two.requests > 2):
                await asyncio.sleep(0)
            await two.die()
            assert await asyncio.gather(*rows) == expected
            before = one.requests
            assert await asyncio.gather(*(engine.generate(asked(number, 200)) for number in range(8))) == expected
            assert one.requests == before + 8
            await engine.health()

    run(scenario)


def test_a_stream_that_breaks_is_told_and_not_begun_again(vllm_url: str) -> None:
    async def scenario() -> None:
        async with relay(vllm_url) as one, engine_on(one.url) as engine:
            one.cut_after = 4000
            pieces: list[Piece] = []
            with pytest.raises(EngineUnavailable, match="broke off a sample"):
                await collect(engine.stream(asked(0, 400)), pieces)
            assert one.requests == 3
            begun = [token for piece in pieces for token in piece.token_ids]
            assert begun
            one.cut_after = None
            assert (await engine.generate(asked(0, 400))).token_ids[: len(begun)] == begun

    run(scenario)


def test_without_any_server_the_engine_is_unavailable(vllm_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_pool, "PATIENCE_SECONDS", 0.3)

    async def scenario() -> None:
        async with relay(vllm_url) as one, engine_on(one.url) as engine:
            await one.die()
            with pytest.raises(EngineUnavailable, match="connection refused"):
                await engine.generate(asked())
            with pytest.raises(EngineUnavailable, match="connection refused"):
                await engine.health()

    run(scenario)


def test_a_cancelled_request_is_aborted_in_vllm(vllm_url: str) -> None:
    async def scenario() -> None:
        async with engine_on(vllm_url) as engine, httpx.AsyncClient() as client:

            async def count(name: str) -> float:
                text = (await client.get(f"{vllm_url}/metrics")).text
                return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(name, line))

            running, tokens = r"vllm:num_requests_running\b", r"vllm:generation_tokens_total\b"
            seen, task = 0.0, None
            while seen < 2:  # again, where a busy machine showed us the two only when one had ended
                before = await count(tokens)
                task = asyncio.create_task(engine.generate(asked(0, 1000, temperature=0.0)))
                stream = engine.stream(asked(1, 1000, temperature=0.0))
                await anext(stream)
                while (seen := await count(running)) < 2 and not task.done():
                    await asyncio.sleep(0.01)
                if seen < 2:
                    await stream.aclose()
            assert task is not None
            assert not task.done()
            task.cancel()
            await stream.aclose()
            while await count(running):
                await asyncio.sleep(0.01)
            assert await count(tokens) < before + 2000 - len(PROMPTS[0]) - len(PROMPTS[1])
            assert len((await engine.generate(asked(0, 1000, temperature=0.0))).token_ids) > 900  # had it been let

    run(scenario)
