"""The fused kernels' numbers are those of the head in plain torch, and TRL's inner parts are as we call them."""

import inspect
import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    LlamaConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
)
from trl.kernels import chunked_divergence, chunked_logprob
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from student.scoring import kernels
from student.scoring.heads import CausalHead
from student.scoring.kernels import Fallback, Projection, chosen_logps, exact_kl

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
HEADS: dict[str, PretrainedConfig] = {
    "qwen2, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "llama, untied": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "gemma2, soft cap": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0),
    "phi, bias": PhiConfig(**SIZES),
    "cohere, scale": CohereConfig(**SIZES, logit_scale=0.25),
}


def head(config: PretrainedConfig, seed: int = 0) -> CausalHead:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return CausalHead(model, rows_at_once=7)


def projection_of(some: CausalHead) -> Projection:
    return Projection(some._weight_VH, some._bias_V, some._scale, some._soft_cap)


def oracle(hidden_NH: Tensor, projection: Projection, temperature: float) -> Tensor:
    """All log-probabilities in float64, shape (N, V)."""
    bias_V = 0 if projection.bias_V is None else projection.bias_V.double()
    z_NV = projection.scale * (hidden_NH.double() @ projection.weight_VH.double().T + bias_V)
    cap = projection.soft_cap
    return ((z_NV if cap is None else cap * (z_NV / cap).tanh()) / temperature).log_softmax(-1)


@pytest.fixture(params=["one tile", "many tiles"])
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many tiles":
        monkeypatch.setattr(kernels, "TILE_ROWS", 5)
        monkeypatch.setattr(kernels, "TILE_COLUMNS", 16)
        monkeypatch.setattr(chunked_divergence, "TOKEN_CHUNK_SIZE", 5)
        monkeypatch.setattr(chunked_divergence, "VOCAB_CHUNK_SIZE", 16)


@pytest.mark.usefixtures("tiling")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_log_probs_equal_the_heads_and_a_float64_oracle(name: str, temperature: float) -> None:
    some = head(HEADS[name])
    hidden_NH, targets_N = torch.randn(23, 32), torch.randint(0, 61, (23,))
    found = chosen_logps(hidden_NH, targets_N, projection_of(some), temperature)
    expected = oracle(hidden_NH, projection_of(some), temperature).gather(1, targets_N[:, None])[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=2e-6)
    torch.testing.assert_close(found, some.chosen_logps(hidden_NH, targets_N, temperature), atol=1e-5, rtol=2e-6)


@pytest.mark.usefixtures("tiling")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("student_name", HEADS)
@pytest.mark.parametrize("teacher_name", ["qwen2, tied", "gemma2, soft cap", "phi, bias"])
@torch.no_grad()
def test_exact_kl_equals_a_float64_oracle(teacher_name: str, student_name: str, temperature: float) -> None:
    teacher, student = projection_of(head(HEADS[teacher_name], 1)), projection_of(head(HEADS[student_name], 2))
    theirs_NH, ours_NH = torch.randn(23, 32), torch.randn(23, 32)
    p_NV, q_NV = oracle(theirs_NH, teacher, temperature), oracle(ours_NH, student, temperature)
    expected_N = (p_NV.exp() * (p_NV - q_NV)).sum(-1)
    found_N = exact_kl(theirs_NH, teacher, ours_NH, student, temperature)
    torch.testing.assert_close(found_N.double(), expected_N, atol=1e-5, rtol=2e-6)


@torch.no_grad()
def test_kl_over_vocabularies_of_two_sizes_is_over_what_both_have() -> None:
    teacher, student = (projection_of(head(HEADS["phi, bias"], seed)) for seed in (1, 2))
    theirs_NH, ours_NH = torch.randn(9, 32), torch.randn(9, 32)
    cut = exact_kl(theirs_NH, teacher.first(50), ours_NH, student.first(50), 0.7)
    assert torch.equal(exact_kl(theirs_NH, teacher.first(50), ours_NH, student, 0.7), cut)
    assert torch.equal(exact_kl(theirs_NH, teacher, ours_NH, student.first(50), 0.7), cut)
    assert not torch.allclose(exact_kl(theirs_NH, teacher, ours_NH, student, 0.7), cut)


def test_of_no_positions_there_are_no_numbers() -> None:
    some, nothing = projection_of(head(HEADS["qwen2, tied"])), torch.zeros(0, 32)
    assert chosen_logps(nothing, torch.zeros(0, dtype=torch.long), some, 1.0).shape == (0,)
    assert exact_kl(nothing, some, nothing, some, 1.0).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_weights_have_fp32_logits_which_trls_own_function_rounds(dtype: torch.dtype) -> None:
    """Where the last assertion fails, TRL keeps fp32 tiles, and its function can be called in place of its parts."""
    torch.manual_seed(0)
    hidden_NH, some = torch.randn(64, 128).to(dtype), Projection(torch.randn(5000, 128).to(dtype))
    targets_N = torch.randint(0, 5000, (64,))
    expected_N = oracle(hidden_NH, some, 0.7).gather(1, targets_N[:, None])[:, 0]
    found_N = chosen_logps(hidden_NH, targets_N, some, 0.7)
    assert found_N.dtype == torch.float32
    torch.testing.assert_close(found_N.double(), expected_N, atol=5e-5, rtol=0)
    kl_N = exact_kl(hidden_NH, some, hidden_NH.flip(0), some, 0.7)
    p_NV, q_NV = oracle(hidden_NH, some, 0.7), oracle(hidden_NH.flip(0), some, 0.7)
    torch.testing.assert_close(kl_N.double(), (p_NV.exp() * (p_NV - q_NV)).sum(-1), atol=0, rtol=1e-5)
    rounded_N = ChunkedLogProbFunction.apply(hidden_NH, some.weight_VH, None, targets_N, 0.7, 32_768, None, 1.0, ())[0]
    assert (rounded_N - expected_N).abs().max() > 2e-3


def test_trls_parts_take_what_they_are_given_here() -> None:
    places = list(inspect.signature(chunked_logprob._forward_tile).parameters)
    assert places[2:] == [
        "targets",
        "running_max",
        "sum_exp",
        "x_sum_exp",
        "sq_sum_exp",
        "z_sum",
        "max_before_target",
        "target_logit",
        "vocab_start",
        "n_cols",
        "logit_scale",
        "softcap",
        "inv_t",
        "HAS_SOFTCAP",
        "HAS_ENTROPY",
        "HAS_LOG_SUM_SQ_PROBS",
        "HAS_MEAN_LOGITS",
        "HAS_IS_TOP1",
        "BLOCK_SIZE",
    ]
    compiled = getattr(chunked_logprob._forward_kernel, "fn", chunked_logprob._forward_kernel)
    assert len(inspect.signature(compiled).parameters) == len(places)
    assert list(inspect.signature(chunked_divergence._project).parameters) == [
        *("tile", "hidden_chunk", "weight", "bias", "start", "end", "dtype"),
    ]
    assert list(inspect.signature(ChunkedDivergenceFunction.forward).parameters)[1:] == [
        *("student_hidden", "student_weight", "student_bias", "teacher_hidden", "teacher_weight", "teacher_bias"),
        *("beta", "temperature", "student_logit_scale", "student_final_logit_softcapping"),
        *("teacher_logit_scale", "teacher_final_logit_softcapping"),
    ]


BY_TRITON = """
import torch
from trl.kernels import chunked_divergence, chunked_logprob
from student.scoring.kernels import Projection, chosen_logps, exact_kl

torch.manual_seed(0)
hidden_NH, targets_N = torch.randn(6, 32), torch.randint(0, 2500, (6,))
heads = [
    Projection(torch.randn(2500, 32), torch.randn(2500), 0.5, 3.0),
    Projection(torch.randn(2500, 32), None, 1.0, None),
]

def numbers():
    logps = [chosen_logps(hidden_NH, targets_N, head, 0.7) for head in heads]
    return torch.stack([*logps, exact_kl(hidden_NH, heads[0], hidden_NH.flip(0), heads[1], 0.7)])

by_torch = numbers()
for module in (chunked_logprob, chunked_divergence):
    module._use_triton = lambda device: True
torch.testing.assert_close(numbers(), by_torch, atol=1e-5, rtol=2e-6)
calls = [chunked_logprob._forward_kernel, chunked_divergence._stats_kernel]
print(*{type(call).__name__ for call in calls})
"""


@pytest.mark.slow
@pytest.mark.skipif(not chunked_logprob._TRITON_AVAILABLE, reason="Triton is not installed")
def test_triton_folds_a_tile_as_torch_does() -> None:
    """TRL's own Triton kernels on fp32 tiles, run by Triton's interpreter on a CPU."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", BY_TRITON]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "InterpretedFunction", result.stderr


def test_trl_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, student.scoring.kernels; print('trl' in sys.modules, 'vllm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_what_fails_once_is_not_tried_again_and_one_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def fast(number: int) -> int:
        tried.append(number)
        if number > 1:
            raise RuntimeError("no kernel image\nand forty lines more")
        return number

    fallback = Fallback("a kernel", fast, lambda number: -number)
    with caplog.at_level(logging.WARNING):
        assert [fallback(number) for number in (1, 2, 3, 1)] == [1, -2, -3, -1]
    assert tried == [1, 2]
    [record] = caplog.records
    assert record.getMessage() == (
        "a kernel cannot be used here (RuntimeError: no kernel image): scoring goes on without it, slower"
    )


def test_running_out_of_memory_is_not_taken_for_a_missing_kernel() -> None:
    def fast() -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    fallback = Fallback("a kernel", fast, lambda: 0)
    with pytest.raises(torch.OutOfMemoryError):
        fallback()
    assert not fallback.failed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_gpus_numbers_equal_a_float64_oracle(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden_NH = torch.randn(5000, 256, device="cuda", dtype=dtype)
    one, other = (Projection(torch.randn(40_000, 256, device="cuda", dtype=dtype) / 8) for _ in range(2))
    targets_N = torch.randint(0, 40_000, (5000,), device="cuda")
    rows = slice(4000, 4200)
    p_NV, q_NV = oracle(hidden_NH[rows], one, 0.7), oracle(hidden_NH[rows], other, 0.7)
    logps_N = chosen_logps(hidden_NH, targets_N, one, 0.7)[rows]
    kl_N = exact_kl(hidden_NH, one, hidden_NH, other, 0.7)[rows]
    torch.testing.assert_close(logps_N.double(), p_NV.gather(1, targets_N[rows, None])[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(kl_N.double(), (p_NV.exp() * (p_NV - q_NV)).sum(-1), atol=1e-4, rtol=0)
