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

from student.scoring.linear import linear

TILE_COLUMNS = 2048
"""On a CPU 1024 rows of them, 8 MB, stay in its cache between the product and the sum."""


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
        self._rows = rows_at_once
        self._soft_cap: float | None = getattr(text_config, "final_logit_softcapping", None)
        self._scale = float(getattr(text_config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(text_config, "logits_scaling", None) or 1.0)

    @property
    def vocabulary(self) -> int:
        """V."""
        return len(self._weight_VH)

    def logits(self, hidden_NH: Tensor, columns: slice = slice(None), temperature: float = 1.0) -> Tensor:
        """z / temperature of those columns, fp32, shape (N, C)."""
        bias_C = None if self._bias_V is None else self._bias_V[columns].float()
        return self._finished(_product(hidden_NH, self._weight_VH[columns], bias_C), temperature)

    def chosen_logps(self, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        """log p of each position's target, fp32, shape (N,)."""
        pieces = [
            self._target_logits(states, targets, temperature) - self._log_sum_exp(states, temperature)
            for states, targets in zip(hidden_NH.split(self._rows), targets_N.split(self._rows), strict=True)
        ]
        return torch.cat(pieces) if pieces else hidden_NH.new_zeros(0, dtype=torch.float32)

    def tiles(self, vocabulary: int | None = None) -> Iterator[slice]:
        """The columns of the first `vocabulary` tokens (all), some at a time."""
        stop = self.vocabulary if vocabulary is None else vocabulary
        for start in range(0, stop, TILE_COLUMNS):
            yield slice(start, min(start + TILE_COLUMNS, stop))

    def _log_sum_exp(self, hidden_NH: Tensor, temperature: float) -> Tensor:
        total_N = hidden_NH.new_full((len(hidden_NH),), -torch.inf, dtype=torch.float32)
        for columns in self.tiles():
            total_N = torch.logaddexp(total_N, _log_sum_exp(self.logits(hidden_NH, columns, temperature)))
        return total_N

    def _target_logits(self, hidden_NH: Tensor, targets_N: Tensor, temperature: float) -> Tensor:
        products_N = (hidden_NH.float() * self._weight_VH[targets_N].float()).sum(-1)
        if self._bias_V is not None:
            products_N += self._bias_V[targets_N].float()
        return self._finished(products_N, temperature)

    def _finished(self, products: Tensor, temperature: float) -> Tensor:
        """What follows the projection, in place."""
        if self._soft_cap is None:
            return products if self._scale == temperature else products.mul_(self._scale / temperature)
        return products.mul_(self._scale / self._soft_cap).tanh_().mul_(self._soft_cap / temperature)


def kl_of_states(
    teacher: CausalHead, teacher_NH: Tensor, student: CausalHead, student_NH: Tensor, temperature: float
) -> Tensor:
    """Exact KL( teacher || student ) of the two next-token distributions at each position, nats, fp32, shape (N,).

    With p the teacher's and q the student's logits, both divided by the temperature, summed tile by tile:
    KL = E_p[p - q] - logsumexp(p) + logsumexp(q). Where the vocabularies are padded to different sizes, the columns
    that both have are compared.
    """
    shared = min(teacher.vocabulary, student.vocabulary)
    pieces = [
        _kl_of_rows(teacher, theirs, student, ours.to(theirs.device), temperature, shared)
        for theirs, ours in zip(teacher_NH.split(student._rows), student_NH.split(student._rows), strict=True)
    ]
    return torch.cat(pieces) if pieces else teacher_NH.new_zeros(0, dtype=torch.float32)


def _kl_of_rows(
    teacher: CausalHead, teacher_NH: Tensor, student: CausalHead, student_NH: Tensor, temperature: float, shared: int
) -> Tensor:
    lse_p = teacher_NH.new_full((len(teacher_NH),), -torch.inf, dtype=torch.float32)
    lse_q, gap = lse_p.clone(), torch.zeros_like(lse_p)
    for columns in teacher.tiles(shared):
        p_NC = teacher.logits(teacher_NH, columns, temperature)
        q_NC = student.logits(student_NH, columns, temperature)
        tile_p, tile_q = _log_sum_exp(p_NC), _log_sum_exp(q_NC)
        total_p = torch.logaddexp(lse_p, tile_p)
        tile_gap = torch.linalg.vecdot((p_NC - tile_p.unsqueeze(-1)).exp_(), p_NC.sub_(q_NC))
        gap = gap * (lse_p - total_p).exp() + tile_gap * (tile_p - total_p).exp()
        lse_p, lse_q = total_p, torch.logaddexp(lse_q, tile_q)
    return gap - lse_p + lse_q


def _log_sum_exp(z_NC: Tensor) -> Tensor:
    """logsumexp of each row, by log_softmax: torch computes that in one pass, and its own logsumexp in several."""
    return z_NC[:, 0] - z_NC.log_softmax(-1)[:, 0]


def _product(hidden_NH: Tensor, weight_CH: Tensor, bias_C: Tensor | None) -> Tensor:
    """fp32 whatever the inputs are, shape (N, C)."""
    if weight_CH.is_cuda and weight_CH.dtype in (torch.float16, torch.bfloat16):
        product_NC = torch.mm(hidden_NH, weight_CH.T, out_dtype=torch.float32)
        return product_NC if bias_C is None else product_NC + bias_C
    return linear(hidden_NH.float(), weight_CH.float(), bias_C)
