"""What can be asked of a selection: filters, test sets to keep away from, duplicates. Loads no torch."""

from typing import Literal

from pydantic import Field, FiniteFloat

from student.config import Config
from student.measures.results import Measure

Compared = Literal["explanation", "question", "both", "nothing"]


class Filters(Config):
    """Rows that miss one of these are dropped, with the reason; a row without the measure misses its bound."""

    closed: bool = False
    """Only explanations that reached their end tag."""
    finished: bool = False
    """Only explanations that were not cut by max_tokens or the context."""
    verified: bool = False
    """Only explanations after which the student answered right (rlt score --measures.verified)."""
    at_least: dict[Measure, FiniteFloat] = Field(default_factory=dict)
    """Lowest value of a measure, as measure=bound (reward=-1); any number of them."""
    at_most: dict[Measure, FiniteFloat] = Field(default_factory=dict)
    """Highest value of a measure, as measure=bound (leak=0.4); any number of them."""

    @property
    def measures(self) -> set[Measure]:
        """What must have been measured to apply them."""
        asked: set[Measure] = {*self.at_least, *self.at_most}
        return asked | {"verified"} if self.verified else asked


class Ranking(Config):
    """The best explanations of each problem, and the measure by which one of several copies is the best."""

    keep: int | None = Field(None, gt=0)
    """Explanations to keep of each problem; unset keeps all that are left."""
    by: Measure = "reward"
    """The measure to rank by; rkl, leak, repetition, tokens and context_share are better when lower."""


class Duplicates(Config):
    """Texts that repeat another; of each cluster the best by `ranking.by` stays."""

    compare: Compared = "explanation"
    """What may not repeat: the explanation, the question (whole problems are dropped), both as one text, or nothing."""
    similarity: float = Field(0.85, ge=0.8, le=1)
    """Share of words that two texts have in common from which one is a copy of the other; 1 is word by word."""


class Contamination(Config):
    """Questions that hold a passage of a test set, case, punctuation and LaTeX spacing aside."""

    files: tuple[str, ...] = ()
    """Test sets to keep away from: files of problems, as every verb reads them."""
    words: int = Field(13, ge=8)
    """Length of the passage that betrays a test question; a shorter question is matched whole."""
    explanations: bool = False
    """Search the explanations too, not only the questions."""
