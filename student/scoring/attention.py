"""Attention inside a pack: every token sees its own passage up to itself, with the part of a prefix that begins it.

    split   (CPU)   prefix and members apart, by torch's flash kernel, joined by their log-sum-exps: no mask at all
    flex    (CUDA)  one compiled kernel that skips what is not seen (flex.py); split where it cannot be compiled
    dense           scaled_dot_product_attention with a [T, T] mask: the others' reference, and for every other device

Registered with transformers under NAME; the model is called with `packing=`, which reaches every layer's attention.
Left out: windows, soft caps and sinks inside attention. A model that has them is read in padded rows (bodies.py).
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from student.scoring.flex import flex_attention
from student.scoring.kernels import Fallback
from student.scoring.plan import Group, Pack

NAME = "rlt_packed"
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias")
"""Arguments of attentions that this one is not."""
QUERIES_AT_ONCE = 256

Attend = Callable[[Tensor, Tensor, Tensor, bool, float | None], tuple[Tensor, Tensor]]
"""(query, key, value, causal, scale) -> what is attended to, and the log-sum-exp of each query's scores."""


class CannotPack(Exception):
    """The model's attention does something that packs do not know."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Pack | None = None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: query (1, heads, T, D), key and value (1, key heads, T, D) -> (1, T, heads, D)."""
    unknown = [name for name in UNKNOWN if more.get(name) is not None]
    if packing is None or unknown or attention_mask is not None:
        raise CannotPack(f"{type(module).__name__}: {', '.join(unknown) or 'a mask, or no packing'}")
    return by_device(query.device)(query, key, value, packing, scaling).transpose(1, 2), None


AttentionInterface.register(NAME, attend)


def by_device(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Pack, float | None], Tensor]:
    """The attention for tensors that live there."""
    return _ON_CUDA if device.type == "cuda" else {"cpu": split_attention}.get(device.type, dense_attention)


def split_attention(query: Tensor, key: Tensor, value: Tensor, packing: Pack, scaling: float | None) -> Tensor:
    """(1, heads, T, D): what each token attends to, without a mask."""
    result = value.new_zeros(*query.shape[:-1], value.shape[-1])
    run = _flash if _has_flash(query, value) else in_blocks
    for group in packing.groups:
        _attend_group(result, query, key, value, group, run, scaling)
    return result


# split and not dense: with a mask and heads that share keys, CUDA materialises [heads, T, T] scores
_ON_CUDA = Fallback("FlexAttention", flex_attention, split_attention)


def _attend_group(
    result: Tensor, query: Tensor, key: Tensor, value: Tensor, group: Group, run: Attend, scaling: float | None
) -> None:
    within_lse = query.new_zeros(query.shape[:-1], dtype=torch.float32)
    for member in group.members:
        if not member.tokens:
            continue
        own = _slice(member.tokens)
        result[:, :, own], within_lse[:, :, own] = run(
            query[:, :, own], key[:, :, own], value[:, :, own], True, scaling
        )
    if not group.prefix:
        return
    prefix = _slice(group.prefix)
    result[:, :, prefix], _ = run(query[:, :, prefix], key[:, :, prefix], value[:, :, prefix], True, scaling)
    for seen, following in _seen_alike(group):
        of_prefix, of_prefix_lse = run(
            query[:, :, following], key[:, :, _slice(seen)], value[:, :, _slice(seen)], False, scaling
        )
        # softmax over both parts = each part's own softmax, weighted by its share of the sum of exponentials
        share = torch.sigmoid(within_lse[:, :, following] - of_prefix_lse).unsqueeze(-1).to(result.dtype)
        result[:, :, following] = torch.lerp(of_prefix, result[:, :, following], share)


def _seen_alike(group: Group) -> Iterator[tuple[range, slice]]:
    """Each part of the prefix that members see, and where those members stand, one after another."""
    for seen, members in groupby(group.members, key=lambda member: member.prefix):
        alike = list(members)
        start, stop = alike[0].tokens.start, alike[-1].tokens.stop
        if seen and start < stop:
            yield seen, slice(start, stop)


def _slice(tokens: range) -> slice:
    return slice(tokens.start, tokens.stop)


def _has_flash(query: Tensor, value: Tensor) -> bool:
    known = hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
    return known and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]


def _flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float | None) -> tuple[Tensor, Tensor]:
    """By the kernel behind scaled_dot_product_attention, which alone does not return the log-sum-exp."""
    result, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, scale=scaling
    )
    return result, lse


def in_blocks(query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float | None) -> tuple[Tensor, Tensor]:
    """The same from public functions, some queries at a time."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    results, lses = [], []
    for start in range(0, query.shape[2], QUERIES_AT_ONCE):
        scores = (query[:, :, start : start + QUERIES_AT_ONCE] @ key.transpose(2, 3)).float() * scale
        if causal:
            rows = torch.arange(start, start + scores.shape[2], device=scores.device)
            later = torch.arange(key.shape[2], device=scores.device) > rows.unsqueeze(1)
            scores = scores.masked_fill(later, -torch.inf)
        results.append(scores.softmax(-1).to(value.dtype) @ value)
        lses.append(scores.logsumexp(-1))
    return torch.cat(results, 2), torch.cat(lses, 2)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, packing: Pack, scaling: float | None) -> Tensor:
    """(1, heads, T, D), through a mask of T x T."""
    return scaled_dot_product_attention(
        query, key, value, attn_mask=seen(packing, query.shape[2], query.device), scale=scaling, enable_gqa=True
    )


def seen(packing: Pack, tokens: int, device: torch.device) -> Tensor:
    """Whether the token of each row sees that of each column, shape (T, T); padding behind the pack sees itself."""
    mask_TT = torch.eye(tokens, dtype=torch.bool, device=device)
    for group in packing.groups:
        for part in (group.prefix, *(member.tokens for member in group.members)):
            own = _slice(part)
            mask_TT[own, own] = torch.ones(len(part), len(part), dtype=torch.bool, device=device).tril()
        for member in group.members:
            mask_TT[_slice(member.tokens), _slice(member.prefix)] = True
    return mask_TT
