"""What is noted while sampling is what a pass over the finished rows gives, and sampling goes as it went."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from student.models import load_model
from teacher.sampled_logps import sampled_logps
from tests.teacher.rl import CPU

PAD = 0
ENDS = list(range(0, 400, 5))
"""A fifth of the vocabulary ends a text, so that rows end at many lengths."""
PROMPTS = ([7, 8, 9, 10, 11, 12], [21, 22], [30, 31, 32, 33], [44])


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> PreTrainedModel:
    loaded = load_model(str(tiny_model_folder), CPU)
    for parameter in loaded.parameters():  # far from uniform: a wrong token's log-probability is another number
        parameter.data *= 3
    return loaded


def generate(model: PreTrainedModel, **settings: Any) -> list[list[int]]:
    """12 tokens after each of the prompts, set flush right, twice each; rows are cut after their end of text."""
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask_BT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    config = GenerationConfig(
        **{"do_sample": True, "max_new_tokens": 12, "top_k": 0, "eos_token_id": ENDS, "pad_token_id": PAD} | settings
    )
    torch.manual_seed(0)
    generator: Any = model
    sampled_BT: Tensor = generator.generate(input_ids=ids_BT, attention_mask=mask_BT, generation_config=config)
    return [_cut(row) for row in sampled_BT[:, width:].tolist()]


def _cut(row: list[int]) -> list[int]:
    end = next((position for position, token in enumerate(row) if token in ENDS), len(row))
    return row[: end + 1]


def forward(model: PreTrainedModel, completions: list[list[int]], temperature: float) -> list[list[float]]:
    """The log-probabilities of the sampled tokens by one unpadded pass a row, in float64."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    found = []
    for number, completion in enumerate(completions):
        prompt = PROMPTS[number // 2]
        with torch.no_grad():
            logits_TV = double(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        logp_TV = (logits_TV / temperature).log_softmax(-1)
        found.append([logp_TV[position, token].item() for position, token in enumerate(completion)])
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.7},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 1.3, "top_k": 20, "min_p": 0.01},
        {"temperature": 1.0, "repetition_penalty": 1.5, "suppress_tokens": [17, 18]},
        {"temperature": 0.7, "use_cache": False},
    ],
)
def test_what_is_noted_is_the_policy_s_own_whatever_shapes_the_choice(
    model: PreTrainedModel, settings: dict[str, Any]
) -> None:
    with sampled_logps(model, settings["temperature"]) as noted:
        completions = generate(model, **settings)
    lengths = {len(completion) for completion in completions}
    assert len(lengths) > 2  # rows that end early, with their end of text, beside longer ones
    logps = noted.of(completions)
    assert logps is not None
    assert all(logps_T.dtype == torch.float32 for logps_T in logps)
    expected = forward(model, completions, settings["temperature"])
    for logps_T, row in zip(logps, expected, strict=True):
        assert logps_T.tolist() == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_same_tokens_are_drawn_as_without_and_the_model_is_left_as_it_was(
    model: PreTrainedModel, temperature: float
) -> None:
    attributes = set(vars(model))
    without = generate(model, temperature=temperature)
    state_without = torch.get_rng_state()
    with sampled_logps(model, temperature):
        assert generate(model, temperature=temperature) == without
    assert torch.equal(torch.get_rng_state(), state_without)
    assert set(vars(model)) == attributes


def test_a_failed_generation_leaves_the_model_as_it_was(model: PreTrainedModel) -> None:
    attributes = set(vars(model))
    with pytest.raises(ValueError, match="temperature"), sampled_logps(model, 1.0):
        generate(model, temperature=-1.0)
    assert set(vars(model)) == attributes


def test_an_engine_that_samples_elsewhere_has_noted_nothing(model: PreTrainedModel) -> None:
    with sampled_logps(model, 1.0) as noted:
        pass
    assert noted.of([[5, 6], [7]]) is None
    assert noted.of([[5], [7]]) is None


def test_tokens_that_nobody_saw_being_sampled_get_no_number(model: PreTrainedModel) -> None:
    with sampled_logps(model, 1.0) as noted:
        completions = generate(model)
    longer = [[*completion, 5, 5] for completion in completions]
    assert noted.of(longer) is None


def test_in_bfloat16_it_is_the_log_probability_that_the_sampler_drew_from(model: PreTrainedModel) -> None:
    with torch.autocast("cpu", torch.bfloat16), sampled_logps(model, 1.0) as noted:
        completions = generate(model)
    logps = noted.of(completions)
    assert logps is not None
    expected = [logp for row in forward(model, completions, 1.0) for logp in row]
    error = torch.cat(logps) - torch.tensor(expected)
    assert 0 < error.abs().mean() < 0.02  # bfloat16 of body and head; a wrong token would be nats off
