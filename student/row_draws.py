"""Each sample's tokens drawn from a random stream of its own, while transformers' `generate` samples.

    argmax_v (log p_v - log E_v),  E_v ~ Exp(1) from the row's generator   is distributed as   p

`generate` draws a whole batch from the process's one generator, so what is sampled depends on the rows beside it, and
on the number of processes between which a step is divided. With a seed a row it depends on neither. Left out: vLLM.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from student.engine import log_exponential


class RowDraws(LogitsProcessor):
    """The last of `generate`'s processors: of each row it leaves the token that the row's generator chooses."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V), 0 for the chosen token of each row and minus infinity for the others."""
        chosen = (scores.float() - log_exponential(scores, self._generators)).argmax(dim=-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)


@contextmanager
def drawing(model: PreTrainedModel, draws: RowDraws) -> Iterator[None]:
    """Has `draws` choose the tokens that `model.generate` samples inside; the model is left as it was."""
    hooked: Any = model
    before, processors = vars(model).get("_get_logits_processor"), hooked._get_logits_processor

    def drawn_last(*args: Any, **options: Any) -> LogitsProcessorList:
        return LogitsProcessorList([*processors(*args, **options), draws])

    hooked._get_logits_processor = drawn_last
    try:
        yield
    finally:
        if before is None:
            del hooked._get_logits_processor
        else:
            hooked._get_logits_processor = before
