"""The scorer's numbers are those of the model's own logits, in float64, for every architecture and every batching."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from student.configs import ScoringSettings
from student.errors import ModelError
from student.reading import Passage, assemble
from student.scoring.scorer import Scorer, logps_and_exact_kl

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "qwen2, tied head": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "llama, untied head": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "mistral, sliding window": MistralConfig(**SIZES, sliding_window=8),
    "mistral, no window": MistralConfig(**SIZES, sliding_window=None),
    "mistral, window of 40": MistralConfig(**SIZES, sliding_window=40),
    "gemma, tied and scaled embeddings": GemmaConfig(**SIZES, head_dim=8),
    "gemma2, soft cap": Gemma2Config(**SIZES, head_dim=8, sliding_window=8, final_logit_softcapping=2.0),
    "gemma2, no cap in attention": Gemma2Config(
        **SIZES, head_dim=8, sliding_window=64, attn_logit_softcapping=None, final_logit_softcapping=2.0
    ),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=32),
    "phi, biased head": PhiConfig(**SIZES),
    "cohere, logit scale": CohereConfig(**SIZES, logit_scale=0.25),
}
PACKED = set(ARCHITECTURES) - {"mistral, sliding window", "gemma2, soft cap"}
"""Those whose attention has neither a soft cap nor a window of 8 tokens."""


def tiny(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    # Eager, which knows what sdpa leaves out (Gemma 2's cap), is the oracle's.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    for parameter in model.parameters():  # spread the logits, so that temperature, soft cap and scale all matter
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def passages(count: int, seed: int, vocabulary: int = 61, before: int = 5) -> list[Passage]:
    draw = random.Random(seed)
    lengths = [(before, draw.randint(0, 40), draw.randint(1, 4), draw.randint(0, 6)) for _ in range(count)]
    return [assemble(*([draw.randrange(3, vocabulary) for _ in range(n)] for n in row)) for row in lengths]


def groups(count: int, size: int, seed: int) -> list[Passage]:
    """`count` problems with `size` explanations each, mixed up."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        before = [draw.randrange(3, 61) for _ in range(draw.randint(1, 30))]
        for _ in range(size):
            row = [[draw.randrange(3, 61) for _ in range(n)] for n in (draw.randint(0, 40), 2, draw.randint(0, 6))]
            made.append(assemble(before, *row))
    draw.shuffle(made)
    return made


def oracle(model: PreTrainedModel, passage: Passage, positions: Sequence[int], temperature: float) -> Tensor:
    """log p of each token in float64, one sequence at a time, from the model's own full logits, shape (N,)."""
    model = model.double()
    logits_TV = model(torch.tensor([passage.input_ids])).logits[0].double() / temperature
    model.float()
    logp_TV = logits_TV.log_softmax(-1)
    return torch.stack([logp_TV[i - 1, passage.input_ids[i]] for i in positions]) if positions else torch.zeros(0)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_log_probs_equal_a_float64_oracle(name: str) -> None:
    model = tiny(ARCHITECTURES[name])
    rows = passages(24, seed=1)
    scored = Scorer(model, ScoringSettings(tokens_per_batch=160, head_rows=7)).logps(rows, temperature=0.7)
    for passage, logps in zip(rows, scored, strict=True):
        explanation = oracle(model, passage, passage.explanation, 0.7)
        solution = oracle(model, passage, passage.solution, 0.7)
        torch.testing.assert_close(logps.explanation_E.double(), explanation.double(), atol=1e-5, rtol=5e-6)
        torch.testing.assert_close(logps.solution_S.double(), solution.double(), atol=1e-5, rtol=5e-6)


def test_results_come_in_the_order_asked_for_and_do_not_depend_on_the_batching() -> None:
    model, rows = tiny(ARCHITECTURES["qwen2, tied head"]), passages(30, seed=2)
    one_by_one = Scorer(model, ScoringSettings(tokens_per_batch=1)).logps(rows, 1.0)
    together = Scorer(model, ScoringSettings(tokens_per_batch=100_000)).logps(rows, 1.0)
    for passage, alone, batched in zip(rows, one_by_one, together, strict=True):
        assert len(alone.explanation_E) == len(passage.explanation)
        torch.testing.assert_close(alone.explanation_E, batched.explanation_E, atol=1e-5, rtol=5e-6)
        torch.testing.assert_close(alone.solution_S, batched.solution_S, atol=1e-5, rtol=5e-6)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_passages_that_share_a_beginning_are_scored_as_if_they_did_not(name: str, pack: bool) -> None:
    model, rows = tiny(ARCHITECTURES[name]), groups(3, 6, seed=5)
    scored = Scorer(model, ScoringSettings(tokens_per_batch=130, head_rows=7, pack=pack)).logps(rows, temperature=0.7)
    for passage, logps in zip(rows, scored, strict=True):
        whole = torch.cat([logps.explanation_E, logps.solution_S])
        expected = oracle(model, passage, [*passage.explanation, *passage.solution], 0.7)
        torch.testing.assert_close(whole.double(), expected.double(), atol=1e-5, rtol=5e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_has_plain_attention_is_packed_and_what_has_not_is_read_in_rows(name: str) -> None:
    packed: list[int] = []
    model = tiny(ARCHITECTURES[name])
    scorer = Scorer(model, ScoringSettings())
    model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: packed.append("packing" in kwargs), with_kwargs=True
    )
    scorer.logps([Passage([*range(1, 8)], range(4, 6), range(6, 7))], 1.0)
    assert packed == [name in PACKED]


@torch.no_grad()
def test_exact_kl_equals_a_float64_oracle_and_sampled_kl_is_unbiased_for_it() -> None:
    teacher, student = tiny(ARCHITECTURES["qwen2, tied head"], 1), tiny(ARCHITECTURES["qwen2, tied head"], 2)
    settings = ScoringSettings(tokens_per_batch=120, head_rows=5)
    ours, theirs = passages(8, seed=4), passages(8, seed=4, before=9)
    exact = logps_and_exact_kl(Scorer(teacher, settings), theirs, Scorer(student, settings), ours, 0.7)
    for (_, kl_E), mine, their in zip(exact, ours, theirs, strict=True):
        student_EV = student.double()(torch.tensor([mine.input_ids])).logits[0][[i - 1 for i in mine.explanation]] / 0.7
        teacher_EV = (
            teacher.double()(torch.tensor([their.input_ids])).logits[0][[i - 1 for i in their.explanation]] / 0.7
        )
        expected_E = torch.nn.functional.kl_div(
            student_EV.log_softmax(-1), teacher_EV.log_softmax(-1), log_target=True, reduction="none"
        ).sum(-1)
        student.float(), teacher.float()
        torch.testing.assert_close(kl_E.double(), expected_E, atol=1e-5, rtol=5e-6)
        assert (kl_E > -1e-6).all()


@pytest.mark.parametrize("teacher_vocabulary", [61, 50, 70])
def test_the_log_probs_beside_an_exact_kl_are_those_without_it(teacher_vocabulary: int) -> None:
    settings = ScoringSettings(tokens_per_batch=120, head_rows=5)
    student = Scorer(tiny(ARCHITECTURES["qwen3"], 2), settings)
    teacher = Scorer(tiny(Qwen3Config(**SIZES | {"vocab_size": teacher_vocabulary}, head_dim=8), 1), settings)
    ours = groups(2, 4, seed=6)
    theirs = [assemble([5], [token % 50 for token in passage.explanation_ids], [], []) for passage in ours]
    both = logps_and_exact_kl(teacher, theirs, student, ours, 0.7)
    for (beside, kl_E), alone in zip(both, student.logps(ours, 0.7), strict=True):
        assert len(kl_E) == len(alone.explanation_E)
        torch.testing.assert_close(beside.explanation_E, alone.explanation_E, atol=1e-5, rtol=5e-6)
        torch.testing.assert_close(beside.solution_S, alone.solution_S, atol=1e-5, rtol=5e-6)


def test_an_architecture_whose_head_we_misread_is_refused() -> None:
    model = tiny(ARCHITECTURES["qwen2, tied head"])
    model.lm_head.register_forward_hook(lambda module, inputs, output: output)
    original = model.forward

    def forward(*inputs: object, **options: object) -> object:
        result = original(*inputs, **options)
        result.logits = result.logits * 2
        return result

    model.forward = forward  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="cannot be scored"):
        Scorer(model, ScoringSettings())
