"""The policy's log-probabilities of the tokens it samples, noted while transformers' `generate` samples them.

    log p(t_j) = log softmax(z_j / T)[t_j],   z_j the logits that the model itself made

Those logits are at hand at every sampled token, so that nobody has to run the policy again over what it just wrote.
They are noted before top-p, penalties and whatever else shapes the choice: the number is the one that a pass over the
finished row gives, and the choice, drawn after, stays the same. Left out: engines with log-probabilities of their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel


class SampledLogps(LogitsProcessor):
    """Called once a token for a batch of B rows; notes, and changes nothing."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._logits_BV: Tensor | None = None
        """Those from which the next token of each row is being chosen."""
        self._logps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (B, V) as they are; `input_ids` (B, T) end with the tokens chosen from the scores before."""
        self._note(input_ids[:, -1])
        self._logits_BV = scores
        return scores

    def of(self, completions: Sequence[Sequence[int]]) -> list[Tensor] | None:
        """log p of each token of each completion, its end of text included; shape (E,) a row, fp32.

        `completions` are all that was sampled, cut after the end of text. None where not every token went past here,
        as with an engine that samples in another way.
        """
        longest = max(map(len, completions))
        if len(self._logps) == longest - 1:  # no token was chosen after the last, which would have shown it
            last = [row[-1] if row else 0 for row in completions]
            self._note(torch.tensor(last, device=None if self._logits_BV is None else self._logits_BV.device))
        if not longest or len(self._logps) < longest:
            return None
        logps_BT = torch.stack(self._logps, dim=1)
        return [logps_T[: len(row)] for logps_T, row in zip(logps_BT, completions, strict=True)]

    def _note(self, tokens_B: Tensor) -> None:
        if self._logits_BV is not None:
            logps_BV = (self._logits_BV.float() / self._temperature).log_softmax(dim=-1)
            self._logps.append(logps_BV.gather(-1, tokens_B.unsqueeze(-1)).squeeze(-1))
            self._logits_BV = None


@contextmanager
def sampled_logps(model: PreTrainedModel, temperature: float) -> Iterator[SampledLogps]:
    """Notes what `model.generate` samples inside; the model is left as it was.

    `generate` puts a processor that it is given behind penalties, and has no way to put one first; hence its own list
    of processors is opened. Where a `generate` of another kind never asks for the list, nothing is noted.
    """
    noted = SampledLogps(temperature)
    hooked: Any = model
    processors = hooked._get_logits_processor

    def noted_first(*args: Any, **options: Any) -> LogitsProcessorList:
        return LogitsProcessorList([noted, *processors(*args, **options)])

    hooked._get_logits_processor = noted_first
    try:
        yield noted
    finally:
        del hooked._get_logits_processor
