"""From a causal LM's last hidden states to log-probabilities, a tile of rows and columns at a time.

    z = cap(scale (h W^T + b)),   log p(y) = z_y / T - logsumexp(z / T),   cap(z) = c tanh(z / c) or z

N positions, H hidden size, V vocabulary, C columns of a tile. A tile is all that is ever held of the logits; each adds
its part to a running log-sum-exp (online softmax: Milakov and Gimelshein, 2018). Products and sums are fp32 whatever
the weights' precision: logits rounded to bfloat16 are off by up to 0.1 nat.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from student.scoring.kernels import Fallback, Projection, chosen_logps, exact_kl
from student.scoring.linear import linear

TILE_COLUMNS = 1024
"""On a CPU 256 rows of them, 1 MB, stay in its cache between the product and the sum."""


class CausalHead:
    """The output layer of one model.

    Applies what architectures put after the projection: Gemma's soft cap, Cohere's and Granite's scales. The scorer
    holds the result against the model's own logits, so an architecture that does something else is refused.
    """

    def __init__(self, model: PreTrainedModel, rows_at_once: int) -> None:
        projection = model.get_output_embeddings()
        text_config = model.config.get_text_config()
        self._weight_VH: Tensor = projection.weight
        self._bias_V: Tensor | None = getattr(projection, "bias", None)
        self.rows_at_once = rows_at_once
        self._soft_cap: float | None = getattr(text_config, "final_logit_softcapping", None)
        self._scale = float(getattr(text_config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(text_config, "logits_scaling", None) or 1.0)

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self._weight_VH)

    @property
    def projection(self) -> Projection:
        """The same as kernels.py takes it."""
        return Projection(self._weight_VH, self._bias_V, self._scale, self._soft_cap)

    def logits(self, hidden_NH: Tensor, columns: slice = slice(None), temperature: float = 1.0) -> Tensor:
        """z / temperature of those columns, fp32, shape (N, C)."""
        bias_C = None if self._bias_V is None else self._bias_V[columns].float()
        return self._finished(_product(hidden_NH, self._weight_VH[columns], bias_C), temperature)

    def chosen_logps(self, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        """log p of each position's target, fp32, shape (N,): by a fused kernel on CUDA, tile by tile elsewhere."""
        compute = _FUSED_LOGPS if hidden_NH.is_cuda else CausalHead.tiled_logps
        return compute(self, hidden_NH, targets_N, temperature)

    def tiled_logps(self, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        """The same in plain torch."""
        rows = self.rows_at_once
        pieces = [
            self.target_logits(states, targets, temperature) - self.log_sum_exp(states, temperature)
            for states, targets in zip(hidden_NH.split(rows), targets_N.split(rows), strict=True)
        ]
        return torch.cat(pieces) if pieces else hidden_NH.new_zeros(0, dtype=torch.float32)

    def log_sum_exp(self, hidden_NH: Tensor, temperature: float, start: int = 0) -> Tensor:
        """logsumexp of z / temperature over the columns from `start` on, fp32, shape (N,); -inf of none."""
        total_N = hidden_NH.new_full((len(hidden_NH),), -torch.inf, dtype=torch.float32)
        for columns in tiles(start, self.vocabulary):
            total_N = torch.logaddexp(total_N, _log_sum_exp(self.logits(hidden_NH, columns, temperature)))
        return total_N

    def target_logits(self, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        """z / temperature of each position's target, fp32, shape (N,)."""
        products_N = (hidden_NH.float() * self._weight_VH[targets_N].float()).sum(-1)
        if self._bias_V is not None:
            products_N += self._bias_V[targets_N].float()
        return self._finished(products_N, temperature)

    def _finished(self, products: Tensor, temperature: float) -> Tensor:
        """What follows the projection, in place."""
        if self._soft_cap is None:
            return products if self._scale == temperature else products.mul_(self._scale / temperature)
        return products.mul_(self._scale / self._soft_cap).tanh_().mul_(self._soft_cap / temperature)


def kl_and_logps(
    teacher: CausalHead,
    teacher_NH: Tensor,
    student: CausalHead,
    student_NH: Tensor,
    targets_N: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """At each position the exact KL( teacher || student ) of the next-token distributions, and the student's log p of
    its target, which the same tiles give; nats, fp32, both of shape (N,).

    With p the teacher's and q the student's logits, both divided by the temperature, summed tile by tile:
    KL = E_p[p - q] - logsumexp(p) + logsumexp(q). Where the vocabularies are padded to different sizes, the KL is over
    the columns that both have.
    """
    compute = _FUSED_KL if student_NH.is_cuda else tiled_kl_and_logps
    return compute(teacher, teacher_NH, student, student_NH, targets_N, temperature)


def tiled_kl_and_logps(
    teacher: CausalHead,
    teacher_NH: Tensor,
    student: CausalHead,
    student_NH: Tensor,
    targets_N: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    kls, logps = [teacher_NH.new_zeros(0, dtype=torch.float32)], [student_NH.new_zeros(0, dtype=torch.float32)]
    rows = student.rows_at_once
    for theirs, ours, targets in zip(
        teacher_NH.split(rows), student_NH.split(rows), targets_N.split(rows), strict=True
    ):
        kl_N, lse_N = _kl_of_rows(teacher, theirs, student, ours.to(theirs.device), temperature)
        kls.append(kl_N)
        logps.append(student.target_logits(ours, targets, temperature) - lse_N.to(ours.device))
    return torch.cat(kls), torch.cat(logps)


def _kl_of_rows(
    teacher: CausalHead, teacher_NH: Tensor, student: CausalHead, student_NH: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The KL of some rows, and the log-sum-exp of the student's logits, over all its columns."""
    shared = min(teacher.vocabulary, student.vocabulary)
    lse_p = teacher_NH.new_full((len(teacher_NH),), -torch.inf, dtype=torch.float32)
    lse_q, gap = lse_p.clone(), torch.zeros_like(lse_p)
    for columns in tiles(0, shared):
        p_NC = teacher.logits(teacher_NH, columns, temperature)
        q_NC = student.logits(student_NH, columns, temperature)
        tile_p, tile_q = _log_sum_exp(p_NC), _log_sum_exp(q_NC)
        total_p = torch.logaddexp(lse_p, tile_p)
        tile_gap = torch.linalg.vecdot((p_NC - tile_p.unsqueeze(-1)).exp_(), p_NC.sub_(q_NC))
        gap = gap * (lse_p - total_p).exp() + tile_gap * (tile_p - total_p).exp()
        lse_p, lse_q = total_p, torch.logaddexp(lse_q, tile_q)
    return gap - lse_p + lse_q, torch.logaddexp(lse_q, student.log_sum_exp(student_NH, temperature, shared))


def tiles(start: int, stop: int) -> Iterator[slice]:
    """The columns from `start` to `stop`, some at a time.

    >>> list(tiles(0, 1500))
    [slice(0, 1024, None), slice(1024, 1500, None)]
    """
    for first in range(start, stop, TILE_COLUMNS):
        yield slice(first, min(first + TILE_COLUMNS, stop))


def _log_sum_exp(z_NC: Tensor) -> Tensor:
    """logsumexp of each row, by log_softmax: torch computes that in one pass, and its own logsumexp in several."""
    return z_NC[:, 0] - z_NC.log_softmax(-1)[:, 0]


def _product(hidden_NH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> Tensor:
    """fp32 whatever the inputs are, shape (N, C)."""
    if weight_CH.is_cuda and weight_CH.dtype in (torch.float16, torch.bfloat16):
        product_NC = torch.mm(hidden_NH, weight_CH.T, out_dtype=torch.float32)
        return product_NC if bias_C is None else product_NC + bias_C
    return linear(hidden_NH.float(), weight_CH.float(), bias_C)


def _fused_logps(head: CausalHead, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
    return chosen_logps(hidden_NH, targets_N, head.projection, temperature)


def _fused_kl_and_logps(
    teacher: CausalHead,
    teacher_NH: Tensor,
    student: CausalHead,
    student_NH: Tensor,
    targets_N: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The student's product is made twice: of 2 x 15 GFLOP a token at 7B that is one more."""
    kl_N = exact_kl(teacher_NH, teacher.projection, student_NH, student.projection, temperature)
    return kl_N, chosen_logps(student_NH, targets_N, student.projection, temperature)


_FUSED_LOGPS = Fallback("the fused log-probability kernel", _fused_logps, CausalHead.tiled_logps)
_FUSED_KL = Fallback("the fused divergence kernel", _fused_kl_and_logps, tiled_kl_and_logps)
