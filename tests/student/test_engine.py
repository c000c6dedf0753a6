"""The transformers engine on a tiny model, and vLLM against it."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from student.configs import ModelSettings, SamplingSettings, ScratchConfig
from student.engine import (
    Request,
    Sample,
    SeededChoice,
    TransformersEngine,
    engine_choice,
    open_engine,
    plan_batches,
    sample_seed,
)
from student.errors import ModelError
from student.models import load_pair, load_tokenizer, save_pair
from student.problems import Problem
from student.scratch import make_scratch

CPU = ModelSettings(device="cpu", threads=1)
GREEDY = SamplingSettings(temperature=0, max_tokens=16, engine="transformers")
WARM = SamplingSettings(temperature=0.7, max_tokens=16, engine="transformers")


@pytest.fixture(scope="module")
def lively_folder(tmp_path_factory: pytest.TempPathFactory, tiny_problems: list[Problem]) -> Path:
    """A random model of a shape that vLLM has kernels for (head size 32), its weights scaled so that tokens differ."""
    folder = tmp_path_factory.mktemp("lively_model")
    config = ScratchConfig(
        problems="unused", out=str(folder), vocabulary=400, hidden_size=128, layers=2, heads=4, key_value_heads=2,
        intermediate_size=128, max_tokens=64,
    )  # fmt: skip
    model, tokenizer = make_scratch(config, tiny_problems)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:
                weights.mul_(6)
    save_pair(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def engine(lively_folder: Path) -> TransformersEngine:
    return TransformersEngine(*load_pair(str(lively_folder), CPU))


@pytest.fixture(scope="module")
def requests(lively_folder: Path, tiny_problems: list[Problem]) -> list[Request]:
    """Eight prompts of different lengths, not in order of length."""
    tokenizer = load_tokenizer(str(lively_folder))
    texts = [problem.question[: 12 + 9 * (number * 5 % 8)] for number, problem in enumerate(tiny_problems[:8])]
    return [Request(tokenizer(text)["input_ids"], sample_seed(0, text, 0)) for text in texts]


def forward_logps(engine: TransformersEngine, request: Request, sample: Sample, temperature: float) -> list[float]:
    """The oracle: one unpadded forward in float64 over prompt and sample."""
    model = engine.model
    ids = torch.tensor([request.prompt_ids + sample.token_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(request.prompt_ids) - 1 : -1].double()
    logps = (logits / temperature).log_softmax(-1)
    return logps.gather(-1, torch.tensor(sample.token_ids)[:, None]).squeeze(-1).tolist()


def test_a_sample_does_not_depend_on_the_rows_beside_it(engine: TransformersEngine, requests: list[Request]) -> None:
    together = engine.sample(requests, WARM)
    alone = [engine.sample([request], WARM)[0] for request in requests]
    backwards = engine.sample(requests[::-1], WARM.model_copy(update={"batch_size": 3}))[::-1]
    assert [sample.token_ids for sample in together] == [sample.token_ids for sample in alone]
    assert [sample.token_ids for sample in together] == [sample.token_ids for sample in backwards]
    assert len({tuple(sample.token_ids) for sample in together}) == len(requests)


def test_another_seed_gives_another_sample_and_the_same_seed_the_same(engine: TransformersEngine) -> None:
    prompt = [7, 8, 9]
    first, second, again = engine.sample([Request(prompt, 1), Request(prompt, 2), Request(prompt, 1)], WARM)
    assert first.token_ids != second.token_ids
    assert first.token_ids == again.token_ids


def test_sampling_leaves_torchs_own_generator_alone(engine: TransformersEngine, requests: list[Request]) -> None:
    before = torch.get_rng_state()
    engine.sample(requests, WARM)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sampling", [GREEDY, WARM, WARM.model_copy(update={"top_p": 0.5})])
def test_logps_are_those_of_a_plain_forward_at_the_sampling_temperature_before_top_p(
    engine: TransformersEngine, requests: list[Request], sampling: SamplingSettings
) -> None:
    for request, sample in zip(requests, engine.sample(requests, sampling), strict=True):
        expected = forward_logps(engine, request, sample, sampling.temperature or 1.0)
        assert sample.logps == pytest.approx(expected, abs=2e-5)


def test_logps_can_be_left_out(lively_folder: Path, requests: list[Request], engine: TransformersEngine) -> None:
    without = TransformersEngine(*load_pair(str(lively_folder), CPU), logps=False)
    samples = without.sample(requests, WARM)
    assert all(sample.logps == [] for sample in samples)
    assert [sample.token_ids for sample in samples] == [sample.token_ids for sample in engine.sample(requests, WARM)]


def test_seeded_choice_draws_from_the_softmax_at_the_temperature() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).log_softmax(-1)
    rows = 20_000
    choice = SeededChoice(range(rows), WARM, torch.device("cpu"), logps=True)
    chosen = choice(torch.zeros(rows, 1), logits.expand(rows, 4)).argmax(-1)
    shares = torch.bincount(chosen, minlength=4) / rows
    # standard error of a share is at most sqrt(.25 / 20000) = .0035
    torch.testing.assert_close(shares, (logits / 0.7).softmax(-1), atol=0.014, rtol=0)


def test_top_p_keeps_only_the_nucleus() -> None:
    # softmax is (.5, .3, .15, .05) at temperature 1; .5 alone is below .6, .5 + .3 is not
    sampling = SamplingSettings(temperature=1.0, top_p=0.6)
    rows = 4000
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(rows, 4)
    choice = SeededChoice(range(rows), sampling, torch.device("cpu"), logps=False)
    chosen = choice(torch.zeros(rows, 1), logits).argmax(-1)
    shares = (torch.bincount(chosen, minlength=4) / rows).tolist()
    assert shares[2:] == [0, 0]
    assert shares[0] == pytest.approx(0.5 / 0.8, abs=0.03)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.full((8, 50_000), -40.0)
    logits[:, 3] = 0.0
    choice = SeededChoice(range(8), SamplingSettings(temperature=1.0), torch.device("cpu"), logps=False)
    for _ in range(100):  # 40 million draws: enough to meet the smallest noise that fp32 can draw
        assert choice(torch.zeros(8, 1), logits).argmax(-1).eq(3).all()


def test_sampling_stops_at_any_end_token_of_tokenizer_or_model(lively_folder: Path, requests: list[Request]) -> None:
    model, tokenizer = load_pair(str(lively_folder), CPU)
    plain = TransformersEngine(model, tokenizer).sample(requests[:1], GREEDY)[0]
    end = plain.token_ids[3]
    first = plain.token_ids.index(end)
    model.generation_config = GenerationConfig(eos_token_id=[end, tokenizer.eos_token_id])
    stopped = TransformersEngine(model, tokenizer).sample(requests[:1], GREEDY)[0]
    assert stopped == Sample(plain.token_ids[:first], plain.logps[:first], finished=True)
    assert not plain.finished


def test_a_checkpoints_own_sampling_defaults_are_ignored_and_put_back(
    lively_folder: Path, requests: list[Request]
) -> None:
    model, tokenizer = load_pair(str(lively_folder), CPU)
    model.train()
    expected = TransformersEngine(model, tokenizer).sample(requests, WARM)
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=1, repetition_penalty=5.0, temperature=0.01, min_new_tokens=9, suppress_tokens=[5, 6, 7]
    )
    samples = TransformersEngine(model, tokenizer).sample(requests, WARM)
    assert [sample.token_ids for sample in samples] == [sample.token_ids for sample in expected]
    assert model.generation_config.repetition_penalty == 5.0
    assert model.training


def test_a_prompt_near_the_end_of_the_context_gets_what_is_left_and_cuts_no_other(
    engine: TransformersEngine, requests: list[Request]
) -> None:
    assert engine.context_tokens == 64
    long_rows = [Request([5] * length, 1) for length in (60, 63, 64, 200)]
    samples = engine.sample([*long_rows, *requests], WARM)
    assert [len(sample.token_ids) for sample in samples[:4]] == [4, 1, 0, 0]
    assert not any(sample.finished for sample in samples[:4])
    assert samples[4:] == engine.sample(requests, WARM)


def test_a_model_with_learned_positions_is_never_asked_for_one_it_lacks(lively_folder: Path) -> None:
    config = GPT2Config(vocab_size=400, n_positions=24, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    engine = TransformersEngine(GPT2LMHeadModel(config).eval(), load_tokenizer(str(lively_folder)))
    samples = engine.sample([Request([5] * 3, 1), Request([5] * 22, 2), Request([5] * 24, 3)], WARM)
    assert [len(sample.token_ids) for sample in samples[1:]] == [2, 0]


def test_every_row_is_planned_once_and_a_batch_shares_its_limit() -> None:
    lengths = [int(length) for length in torch.randint(1, 40, (100,), generator=torch.Generator().manual_seed(0))]
    sampling = SamplingSettings(max_tokens=10, batch_size=8)
    plan = list(plan_batches(lengths, sampling, context=32))
    planned = sorted(row for _, rows in plan for row in rows)
    assert planned == [row for row, length in enumerate(lengths) if length < 32]
    assert all(len(rows) <= 8 for _, rows in plan)
    assert all(limit == min(10, 32 - lengths[row]) for limit, rows in plan for row in rows)


def test_seeds_are_63_bits_and_differ() -> None:
    seeds = {sample_seed(seed, f"problem{number}", number) for seed in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_auto_is_transformers_without_a_gpu_and_open_engine_gives_it(lively_folder: Path) -> None:
    assert engine_choice(CPU, SamplingSettings()) == "transformers"
    opened = open_engine(str(lively_folder), CPU, SamplingSettings(), 10)
    assert (opened.name, opened.precision, opened.context_tokens) == ("transformers", "float32", 64)


def test_vllm_asked_for_but_not_installed_is_one_line_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("student.engine.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="vllm is not installed; install it, or set engine to 'transformers'"):
        engine_choice(CPU, SamplingSettings(engine="vllm"))


@pytest.fixture(scope="module")
def vllm_engine(lively_folder: Path) -> Iterator[object]:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    opened = open_engine(str(lively_folder), CPU, WARM.model_copy(update={"engine": "vllm"}), 64)
    yield opened
    opened.close()


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_vllm_writes_what_transformers_writes_with_the_same_logps(
    vllm_engine: TransformersEngine, engine: TransformersEngine, requests: list[Request]
) -> None:
    assert (vllm_engine.name, vllm_engine.precision, vllm_engine.context_tokens) == ("vllm", "float32", 64)
    ours, theirs = engine.sample(requests, GREEDY), vllm_engine.sample(requests, GREEDY)
    assert max(len(set(sample.token_ids)) for sample in ours) > 5  # texts worth comparing
    for mine, other in zip(ours, theirs, strict=True):
        assert other.token_ids == mine.token_ids
        assert other.finished == mine.finished
        assert other.logps == pytest.approx(mine.logps, abs=1e-4)
    for request, sample in zip(requests, vllm_engine.sample(requests, WARM), strict=True):
        assert sample.logps == pytest.approx(forward_logps(engine, request, sample, 0.7), abs=1e-4)
    # a seeded request is the same alone; top-p has no log-probabilities; the context cuts as it does in transformers
    assert vllm_engine.sample(requests[2:3], WARM)[0].token_ids == vllm_engine.sample(requests, WARM)[2].token_ids
    assert vllm_engine.sample(requests[:1], WARM.model_copy(update={"top_p": 0.9}))[0].logps == []
    cut = vllm_engine.sample([Request([5] * length, 1) for length in (60, 64, 200)], GREEDY)
    assert [len(sample.token_ids) for sample in cut] == [4, 0, 0]
    assert all(math.isfinite(logp) for logp in cut[0].logps)
    # more prompt tokens (18,000) than vLLM takes at once: on a CPU it dies where it cuts a seeded prompt into chunks
    many = [Request([5 + number % 300] * 60, number) for number in range(300)]
    assert all(len(sample.token_ids) == 4 or sample.finished for sample in vllm_engine.sample(many, WARM))
