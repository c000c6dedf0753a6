"""Attention inside a pack on a GPU, by FlexAttention: one compiled kernel that skips the blocks nobody sees.

Which blocks those are is worked out from the pack's segments, some hundreds of numbers; no [T, T] mask is made, and
torch's own create_block_mask, which would make one, is not called. Blocks seen as a whole are told apart from those
seen in part: only in the latter does the kernel ask, score by score. On a CPU the kernel is torch's uncompiled one: the
tests', and nobody else's. Nothing here has been timed on a GPU yet: benchmarks/gpu_score.py does it.

T tokens of a pack, B tokens of a block, K blocks of T tokens, P pieces: what of a segment lies in one block.
Left out: the backward pass (the student is frozen), windows and soft caps (attention.py refuses them).
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask

from student.scoring.plan import Pack

BLOCK = 128
"""Tokens of a block, and what a pack is filled up to on a GPU: FlexAttention's own default."""


class Segment(NamedTuple):
    """Tokens in a row, each of which sees those before it in the segment, itself, and all of a prefix."""

    start: int
    stop: int
    prefix: range


def flex_attention(query: Tensor, key: Tensor, value: Tensor, packing: Pack, scaling: float | None) -> Tensor:
    """(1, heads, T, D): what each token attends to; key and value may have fewer heads, each for several of query's.

    Raises what FlexAttention raises where it cannot be compiled, or does not take such heads.
    """
    mask = block_mask(packing, query.shape[2], query.device)
    attended: Tensor = _kernel(query.device.type)(
        query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return attended


@cache
def _kernel(device: str) -> Callable[..., Any]:
    """Compiled once for all lengths: with a length of its own each, every pack would wait for the compiler."""
    kernel: Callable[..., Any] = flex.flex_attention
    return torch.compile(kernel, dynamic=True) if device == "cuda" else kernel


_latest: tuple[Pack, int, torch.device, BlockMask] | None = None
"""The mask made last and what it was made for: a pack's layers ask for the same one after another."""


def block_mask(packing: Pack, tokens: int, device: torch.device) -> BlockMask:
    """What each block of a pack of `tokens` sees, the padding behind the pack included; the same for every layer."""
    global _latest
    known = _latest  # read once: another thread may replace it
    if known is None or known[0] is not packing or known[1:3] != (tokens, device):
        known = _latest = (packing, tokens, device, make_block_mask(packing, tokens, device))
    return known[3]


def make_block_mask(packing: Pack, tokens: int, device: torch.device, block: int = BLOCK) -> BlockMask:
    """The same, made anew, of blocks of `block` tokens."""
    segments = list(_segments(packing, tokens))
    some_KK, whole_KK = _seen_blocks(segments, tokens, block)
    partial_count, partial_blocks = _in_order(some_KK & ~whole_KK, device)
    full_count, full_blocks = _in_order(whole_KK, device)
    return BlockMask.from_kv_blocks(
        partial_count,
        partial_blocks,
        full_count,
        full_blocks,
        BLOCK_SIZE=block,
        mask_mod=_token_sees(segments, device),
        seq_lengths=(tokens, tokens),
        compute_q_blocks=False,  # the backward pass's
    )


def _segments(packing: Pack, tokens: int) -> Iterator[Segment]:
    """In order and without a gap; each token of padding is a segment, and sees itself."""
    nothing = range(0)
    for group in packing.groups:
        parts = [(group.prefix, nothing), *((member.tokens, member.prefix or nothing) for member in group.members)]
        yield from (Segment(part.start, part.stop, prefix) for part, prefix in parts if part)
    yield from (Segment(place, place + 1, nothing) for place in range(len(packing.ids), tokens))


def _token_sees(segments: list[Segment], device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's mask_mod: whether the token at q sees the one at k."""
    lengths = torch.tensor([segment.stop - segment.start for segment in segments])
    bounds = torch.tensor([(segment.start, segment.prefix.start, segment.prefix.stop) for segment in segments])
    start_T, prefix_start_T, prefix_stop_T = bounds.int().repeat_interleave(lengths, 0).T.contiguous().to(device)

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen: Tensor = (k >= start_T[q]) & (k <= q) | (k >= prefix_start_T[q]) & (k < prefix_stop_T[q])
        return seen

    return sees


def _seen_blocks(segments: list[Segment], tokens: int, block: int) -> tuple[Tensor, Tensor]:
    """Of which blocks (columns) a block of queries (rows) sees a token, and which all its queries see whole, (K, K)."""
    pieces = torch.tensor([piece for segment in segments for piece in _pieces(segment, block)])
    row_P, start_P1, first_P1, last_P1, prefix_start_P1, prefix_stop_P1 = pieces.T.unsqueeze(-1)
    begin_K = torch.arange(0, tokens, block)
    end_K = begin_K + block
    in_own_PK = (begin_K <= last_P1) & (end_K > start_P1)
    in_prefix_PK = (begin_K < prefix_stop_P1) & (end_K > prefix_start_P1)
    # what all queries of a piece see: the prefix, and its segment up to the piece's first token; the two may adjoin
    begins_P1 = torch.where(prefix_stop_P1 == start_P1, prefix_start_P1, start_P1)
    whole_PK = (begin_K >= begins_P1) & (end_K <= first_P1 + 1)
    whole_PK |= (begin_K >= prefix_start_P1) & (end_K <= prefix_stop_P1)
    row_PK = row_P.expand_as(whole_PK)
    some_KK = torch.zeros(len(begin_K), len(begin_K), dtype=torch.uint8)
    some_KK.scatter_reduce_(0, row_PK, (in_own_PK | in_prefix_PK).byte(), "amax")
    whole_KK = torch.ones_like(some_KK).scatter_reduce_(0, row_PK, whole_PK.byte(), "amin")
    return some_KK.bool(), whole_KK.bool()


def _pieces(segment: Segment, block: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Row of blocks, the segment's start, the piece's first and last token, the prefix's start and stop."""
    for row in range(segment.start // block, (segment.stop - 1) // block + 1):
        first, last = max(segment.start, row * block), min(segment.stop, (row + 1) * block) - 1
        yield row, segment.start, first, last, segment.prefix.start, segment.prefix.stop


def _in_order(chosen_KK: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """As FlexAttention wants it: how many blocks of each row, (1, 1, K), and which, those first, (1, 1, K, K)."""
    count_K = chosen_KK.sum(-1)
    order_KK = chosen_KK.byte().argsort(dim=-1, descending=True, stable=True)
    return count_K.int()[None, None].to(device), order_KK.int()[None, None].to(device)
