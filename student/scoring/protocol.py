"""What the reward asks of a student, wherever its model is: passages in, per-token log-probabilities out.

scorer.py answers for a model in this process. What only such a model can give, the states behind its numbers and so the
exact KL, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from student.reading import Passage


@dataclass(frozen=True)
class PassageLogps:
    """log p of each explanation token, shape (E,), and of each solution token, shape (S,); nats, fp32, on the CPU."""

    explanation_E: Tensor
    solution_S: Tensor


class PassageScorer(Protocol):
    """A frozen causal LM that reads passages."""

    @property
    def max_tokens(self) -> int | None:
        """The longest passage it reads, in tokens; None where it names no limit."""

    def logps(self, passages: Sequence[Passage], temperature: float) -> list[PassageLogps]:
        """Per-token log-probabilities of each passage's spans, in the order given, logits divided by `temperature`."""
