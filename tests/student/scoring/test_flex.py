"""FlexAttention inside packs, as far as a CPU can tell: what is seen, block by block, and the others' result."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask, create_mask
from torch.nn.attention.flex_attention import flex_attention as torchs_own
from transformers import AutoModelForCausalLM, Qwen2Config

from student.configs import ScoringSettings
from student.reading import Passage, assemble
from student.scoring import attention
from student.scoring.attention import dense_attention, seen
from student.scoring.flex import BLOCK, block_mask, flex_attention, make_block_mask
from student.scoring.plan import Pack, packs
from student.scoring.scorer import Scorer

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

CPU = torch.device("cpu")
IDS = st.lists(st.integers(3, 9), max_size=9)
BEGINNINGS = st.sampled_from([[1], [1, 2], [2] * 5, [3] * 17, [3] * 19])
PASSAGES = st.lists(st.builds(assemble, BEGINNINGS, IDS, st.just([]), IDS), min_size=1, max_size=8)


def padded(pack: Pack, multiple: int = BLOCK) -> int:
    return -(-len(pack.ids) // multiple) * multiple


def random_pack(draw: random.Random, tokens: int) -> Pack:
    """Two problems with some explanations each, one explanation up to its steps, and a passage by itself."""
    groups = [
        assemble([problem] * draw.randint(1, tokens), [2] * draw.randint(0, tokens), [], [3] * draw.randint(0, 9))
        for problem in (4, 5)
        for _ in range(draw.randint(1, 4))
    ]
    steps = [assemble([7] * draw.randint(0, tokens), [], [], [8] * 3) for _ in range(3)]
    [pack] = packs([*groups, *steps, assemble([6] * 2, [5] * tokens, [], [])], 100_000)
    return pack


@given(PASSAGES, st.integers(0, 9), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_what_a_token_sees_and_which_blocks_hold_it_are_as_in_the_whole_mask(
    passages: list[Passage], padding: int, block: int
) -> None:
    for pack in packs(passages, 60):
        tokens = len(pack.ids) + padding
        ours = make_block_mask(pack, tokens, CPU, block)
        assert torch.equal(create_mask(ours.mask_mod, 1, 1, tokens, tokens, "cpu")[0, 0], seen(pack, tokens, CPU))
        theirs = create_block_mask(ours.mask_mod, 1, 1, tokens, tokens, "cpu", block)
        assert ours.shape == theirs.shape
        assert torch.equal(ours.to_dense(), theirs.to_dense())
        if tokens % block:  # torch calls nothing full that a last, shorter block of queries sees
            continue
        for kind in ("kv_num_blocks", "full_kv_num_blocks", "kv_indices", "full_kv_indices"):
            assert torch.equal(getattr(ours, kind), getattr(theirs, kind)), kind


def test_blocks_that_are_seen_whole_are_not_asked_about_score_by_score() -> None:
    [pack] = packs([assemble([1] * 256, [2] * 256, [], []), assemble([1] * 256, [3] * 128, [], [])], 10_000)
    mask = make_block_mask(pack, 640, CPU)
    # rows: prefix, prefix, first member, first member, second member
    assert mask.kv_num_blocks.tolist() == [[[1, 1, 1, 1, 1]]]
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_num_blocks.tolist() == [[[0, 1, 2, 3, 2]]]


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("tokens", [20, 200])
def test_flex_attention_equals_attention_through_a_mask(tokens: int, scale: float | None, key_heads: int) -> None:
    torch.manual_seed(0)
    pack = random_pack(random.Random(tokens), tokens)
    query, key, value = (torch.randn(1, heads, padded(pack), 16) for heads in (4, key_heads, key_heads))
    expected = dense_attention(query, key, value, pack, scale)
    torch.testing.assert_close(flex_attention(query, key, value, pack, scale), expected, atol=1e-5, rtol=0)


def test_layers_share_a_packs_mask_and_packs_do_not() -> None:
    one, other = (random_pack(random.Random(0), 20) for _ in range(2))
    assert one == other
    mask = block_mask(one, padded(one), CPU)
    assert block_mask(one, padded(one), CPU) is mask
    assert block_mask(other, padded(other), CPU) is not mask
    assert block_mask(other, padded(other) + BLOCK, CPU).shape[-1] == padded(other) + BLOCK


def test_packs_of_other_lengths_are_not_compiled_anew() -> None:
    counter = CompileCounterWithBackend("eager")  # torch's tracing, which decides on it, without a GPU's compiler
    kernel = torch.compile(torchs_own, dynamic=True, backend=counter)
    draw, compiled = random.Random(1), []
    for tokens in (100, 250, 130, 400, 60, 300):
        pack = random_pack(draw, tokens)
        query, key, value = (torch.randn(1, heads, padded(pack), 16) for heads in (4, 2, 2))
        mask = block_mask(pack, padded(pack), CPU)
        attended = kernel(query, key, value, block_mask=mask, enable_gqa=True)
        torch.testing.assert_close(attended, dense_attention(query, key, value, pack, None), atol=1e-5, rtol=0)
        compiled.append(counter.frame_count)
    assert compiled == [1] * 6


@torch.no_grad()
def test_a_model_that_attends_by_flex_scores_as_it_does_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    rows = [assemble([7] * 30, [8 + number] * 40, [9], [3] * 5) for number in range(6)]
    expected = Scorer(model, ScoringSettings()).logps(rows, 0.7)
    asked = []

    def by_flex(*arguments: object) -> torch.Tensor:
        asked.append(arguments)
        return flex_attention(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attention, "by_device", lambda device: by_flex)
    found = Scorer(model, ScoringSettings()).logps(rows, 0.7)
    assert len(asked) == 2 * 2  # layers, for the trial and for the pack: the model was not read in rows
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.explanation_E, theirs.explanation_E, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.solution_S, theirs.solution_S, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_compiled_kernel_equals_attention_through_a_mask(dtype: torch.dtype) -> None:
    draw = random.Random(2)
    for tokens in (100, 400, 250):
        pack = random_pack(draw, tokens)
        query, key, value = (torch.randn(1, heads, padded(pack), 128, device="cuda") for heads in (28, 4, 4))
        expected = dense_attention(query, key, value, pack, None)
        attended = flex_attention(query.to(dtype), key.to(dtype), value.to(dtype), pack, None)
        torch.testing.assert_close(attended.float(), expected, atol=3e-2, rtol=0)
