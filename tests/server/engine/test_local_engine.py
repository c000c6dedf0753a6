"""transformers for many callers: batches nobody notices, streams, stop texts, cancelled rows, new weights."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from server.engine.local_engine import LocalEngine, open_local
from server.engine.protocol import Generation, Piece
from server.errors import EngineRefused, EngineUnavailable
from student.configs import ModelSettings, SamplingSettings
from student.engine import Request, TransformersEngine
from student.models import load_pair, load_tokenizer

CPU = ModelSettings(device="cpu", threads=1)
PROMPTS = [[10 + number + place for place in range(5 + 3 * number)] for number in range(6)]


def asked(number: int = 0, max_tokens: int = 30, **changes: object) -> Generation:
    given = {"prompt_ids": PROMPTS[number], "seed": 2**62 + number, "max_tokens": max_tokens, "temperature": 0.9}
    return Generation(**(given | changes))  # type: ignore[arg-type]


def with_engine(folder: Path, scenario: Callable[[LocalEngine], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = await open_local(str(folder), CPU)
        try:
            await asyncio.wait_for(scenario(engine), 60)
        finally:
            await engine.close()

    asyncio.run(run())


async def exhaust(first: Awaitable[Piece], stream: AsyncIterator[Piece]) -> None:
    await first
    async for _ in stream:
        pass


def decoded(folder: Path, ids: list[int]) -> str:
    return str(load_tokenizer(str(folder)).decode(ids))


async def streamed(engine: LocalEngine, generation: Generation) -> list[Piece]:
    return [piece async for piece in engine.stream(generation)]


def test_rows_that_share_a_batch_are_those_of_rlt_explain_and_of_each_alone(tiny_model_folder: Path) -> None:
    sampling = SamplingSettings(temperature=0.9, max_tokens=30)
    requests = [Request(prompt, 2**62 + number) for number, prompt in enumerate(PROMPTS)]
    expected = TransformersEngine(*load_pair(str(tiny_model_folder), CPU)).sample(requests, sampling)

    async def scenario(engine: LocalEngine) -> None:
        together = await asyncio.gather(*(engine.generate(asked(number, logps=True)) for number in range(6)))
        assert [(row.token_ids, row.finished) for row in together] == [
            (sample.token_ids, sample.finished) for sample in expected
        ]
        for row, sample in zip(together, expected, strict=True):
            assert row.logps == pytest.approx(sample.logps, abs=1e-5)
            assert row.text == decoded(tiny_model_folder, row.token_ids)
        assert (await engine.generate(asked(3))).token_ids == together[3].token_ids

    with_engine(tiny_model_folder, scenario)


def test_requests_of_different_sampling_do_not_change_each_other(tiny_model_folder: Path) -> None:
    kinds = [asked(0), asked(0, temperature=0.0), asked(0, top_p=0.5), asked(0, max_tokens=7)]

    async def scenario(engine: LocalEngine) -> None:
        together = await asyncio.gather(*(engine.generate(kind) for kind in kinds))
        alone = [await engine.generate(kind) for kind in kinds]
        assert together == alone
        assert len({tuple(row.token_ids) for row in alone}) == len(kinds)
        assert alone[3].token_ids == alone[0].token_ids[:7]

    with_engine(tiny_model_folder, scenario)


def test_the_pieces_of_a_stream_joined_are_the_sample(tiny_model_folder: Path) -> None:
    async def scenario(engine: LocalEngine) -> None:
        streams = await asyncio.gather(*(streamed(engine, asked(number, 60)) for number in range(6)))
        for number, pieces in enumerate(streams):
            whole = await engine.generate(asked(number, 60))
            assert [token for piece in pieces for token in piece.token_ids] == whole.token_ids
            assert "".join(piece.text for piece in pieces) == whole.text
            assert [piece.finished for piece in pieces] == [None] * (len(pieces) - 1) + [whole.finished]
            assert len(pieces) > 10

    with_engine(tiny_model_folder, scenario)


def test_a_stop_text_ends_the_sample_and_is_no_part_of_the_text(tiny_model_folder: Path) -> None:
    async def scenario(engine: LocalEngine) -> None:
        free = await engine.generate(asked(1, 60))
        stop = decoded(tiny_model_folder, free.token_ids[20:23])
        assert len(stop) > 2
        assert "\ufffd" not in stop
        stopped = await engine.generate(asked(1, 60, stop=(stop, "never written")))
        assert stopped.finished
        assert stopped.text == free.text[: free.text.index(stop)]
        assert stopped.token_ids == free.token_ids[: len(stopped.token_ids)]
        assert stop in decoded(tiny_model_folder, stopped.token_ids)
        assert stop not in decoded(tiny_model_folder, stopped.token_ids[:-1])
        pieces = await streamed(engine, asked(1, 60, stop=(stop, "never written")))
        assert "".join(piece.text for piece in pieces) == stopped.text
        assert [token for piece in pieces for token in piece.token_ids] == stopped.token_ids

    with_engine(tiny_model_folder, scenario)


def test_the_end_of_text_ends_a_sample_and_stays_out_of_it(tiny_model_folder: Path) -> None:
    async def scenario(engine: LocalEngine) -> None:
        rows = await asyncio.gather(*(engine.generate(asked(0, 100, seed=seed)) for seed in range(48)))
        ended = [row for row in rows if row.finished]
        assert ended
        assert all(len(row.token_ids) == 100 for row in rows if not row.finished)
        end = load_tokenizer(str(tiny_model_folder)).eos_token_id
        assert all(end not in row.token_ids for row in rows)

    with_engine(tiny_model_folder, scenario)


def test_a_cancelled_request_stops_costing(tiny_model_folder: Path) -> None:
    steps = 0

    def count(*args: object) -> None:
        nonlocal steps
        steps += 1

    async def scenario(engine: LocalEngine) -> None:
        engine._engine.model.register_forward_hook(count)
        stream = engine.stream(asked(0, 900))
        await anext(stream)
        leaving = asyncio.create_task(engine.generate(asked(1, 900)))
        await asyncio.sleep(0)
        leaving.cancel()
        await stream.aclose()
        await engine.generate(asked(2, 3))

    with_engine(tiny_model_folder, scenario)
    assert 3 < steps < 900


def test_log_probabilities_are_those_of_a_plain_forward(tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).double()
    ids = torch.tensor([PROMPTS[5]])
    with torch.no_grad():
        expected = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]

    async def scenario(engine: LocalEngine) -> None:
        assert await engine.logps(PROMPTS[5]) == pytest.approx(expected.tolist(), abs=1e-5)

    with_engine(tiny_model_folder, scenario)


def test_a_prompt_that_fills_the_context_is_refused_and_one_before_it_gets_what_is_left(
    tiny_model_folder: Path,
) -> None:
    async def scenario(engine: LocalEngine) -> None:
        assert engine.context_tokens == 1024
        with pytest.raises(EngineRefused, match="1024 tokens and the teacher's context 1024"):
            await engine.generate(asked(prompt_ids=[5] * 1024))
        row = await engine.generate(asked(prompt_ids=[5] * 1020, temperature=0.0))
        assert len(row.token_ids) == 4
        assert not row.finished

    with_engine(tiny_model_folder, scenario)


def test_adapters_are_refused_with_the_remedy(tiny_model_folder: Path) -> None:
    async def scenario(engine: LocalEngine) -> None:
        with pytest.raises(EngineRefused, match="use engine 'vllm'"):
            await engine.load_adapter("mine", "folder")
        with pytest.raises(EngineRefused, match="adapter 'mine'"):
            await engine.generate(asked(adapter="mine"))

    with_engine(tiny_model_folder, scenario)


def test_new_weights_are_sampled_after_a_reload_and_others_that_do_not_fit_are_refused(
    tiny_model_folder: Path, servable_model_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "next"))
    torch.manual_seed(1)
    weights = {name: torch.randn_like(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    fresh = TransformersEngine(*load_pair(str(folder), CPU))
    greedy = SamplingSettings(temperature=0.0, max_tokens=30)
    expected = fresh.sample([Request(PROMPTS[0], 0)], greedy)[0].token_ids

    async def scenario(engine: LocalEngine) -> None:
        before = await engine.generate(asked(temperature=0.0))
        await engine.reload(str(folder))
        assert (await engine.generate(asked(temperature=0.0))).token_ids == expected != before.token_ids
        for other in (servable_model_folder, tmp_path / "nothing"):
            with pytest.raises(EngineRefused):
                await engine.reload(str(other))
        assert (await engine.generate(asked(temperature=0.0))).token_ids == expected

    with_engine(tiny_model_folder, scenario)


def test_a_closed_engine_is_not_well_and_lets_nobody_wait(tiny_model_folder: Path) -> None:
    async def scenario() -> None:
        engine = await open_local(str(tiny_model_folder), CPU)
        await engine.health()
        stream = engine.stream(asked(0, 900))
        await anext(stream)
        running = asyncio.ensure_future(anext(stream))
        waiting = asyncio.create_task(engine.generate(asked(0, temperature=0.0)))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EngineUnavailable):
            await waiting
        with pytest.raises(EngineUnavailable):
            await exhaust(running, stream)
        with pytest.raises(EngineUnavailable):
            await engine.health()
        with pytest.raises(EngineUnavailable):
            await engine.generate(asked())

    asyncio.run(asyncio.wait_for(scenario(), 60))
