"""Three ways to attend inside a pack, and one result."""

import pytest
import torch

from student.reading import assemble
from student.scoring import attention
from student.scoring.attention import Attend, dense_attention, in_blocks, seen, split_attention
from student.scoring.plan import Pack, packs


def some_pack() -> Pack:
    shared = [assemble([1] * 7, [2] * length, [], [3] * 3) for length in (0, 5, 9)]
    nested = [assemble([6] * length, [], [7], [8] * 2) for length in (0, 3, 3, 290)]
    alone = assemble([4] * 2, [5] * 300, [], [])
    [pack] = packs([*shared, *nested, alone], 1000)
    return pack


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("run", [attention._flash, in_blocks])
def test_split_attention_equals_attention_through_a_mask(
    run: Attend, scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(attention, "_has_flash", lambda query, value: run is attention._flash)
    pack = some_pack()
    tokens = len(pack.ids)
    query, key, value = (torch.randn(1, heads, tokens, 8) for heads in (4, 2, 2))
    expected = dense_attention(query, key, value, pack, scale)
    torch.testing.assert_close(split_attention(query, key, value, pack, scale), expected, atol=1e-5, rtol=0)


def test_a_token_sees_its_passage_and_the_prefix_and_nothing_else() -> None:
    [pack] = packs([assemble([1], [2], [], [3]), assemble([1], [4], [], [])], 100)
    assert pack.ids == [1, 2, 3, 4]
    visible = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert seen(pack, 5, torch.device("cpu")).int().tolist() == visible


def test_a_token_sees_as_much_of_the_prefix_as_its_passage_begins_with() -> None:
    [pack] = packs([assemble([1], [], [], [3]), assemble([1, 2], [], [], [4])], 100)
    assert pack.ids == [1, 2, 4, 3]
    visible = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    assert seen(pack, 4, torch.device("cpu")).int().tolist() == visible
