"""What can be asked of a selection: filters, copies, the best of each problem. Loads no torch."""

from pydantic import Field, FiniteFloat

from student.config import Config
from student.measures.results import Measure


class Filters(Config):
    """Filters that look at one row alone."""

    closed: bool = False
    """Drop explanations that never reached their end tag."""
    finished: bool = False
    """Drop explanations that were cut by max_tokens or the teacher's context."""
    verified: bool = False
    """Drop explanations after which the student answered wrong, or was not asked."""
    at_least: dict[Measure, FiniteFloat] = Field(default_factory=dict)
    """Least value of a measure, as measure=bound (`reward=-1`); a row without the measure is dropped."""
    at_most: dict[Measure, FiniteFloat] = Field(default_factory=dict)
    """Greatest value of a measure, as measure=bound (`leak=0.5`); a row without the measure is dropped."""


class Ranking(Config):
    """The best explanations of each problem."""

    keep: int | None = Field(None, gt=0)
    """Explanations to keep of each problem; unset keeps all that the filters kept."""
    by: Measure = "reward"
    """The measure to rank by; rkl, leak, repetition, tokens and context_share are better when lower."""


class Duplicates(Config):
    """Explanations that say what an earlier one says."""

    exact: bool = True
    """Drop copies of an earlier kept row, whatever their case, space and punctuation."""
