"""What the measures found in one explanation, as a part of its row; and every measure by its name, for filters.

Left out: how each is computed, see the files beside this one; the reward, which is student/explanations.Score.
"""

from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

LeakKind = Literal["verbatim", "reference", "early_answer", "jump"]
"""The solution copied; a phrase that refers to a given solution; the answer before it is derived; the answer suddenly
likely at a step that derives nothing."""


class Leak(BaseModel):
    """The passage of an explanation that gives the solution away instead of deriving it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: LeakKind
    score: float = Field(ge=0, le=1)
    start: int = Field(ge=0)
    """Where it begins in the explanation, in characters."""
    stop: int
    """Where it ends."""


class Step(BaseModel):
    """A piece of the explanation and what it is worth to the student."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    """Where it begins in the explanation, in characters."""
    stop: int
    credit: float
    """Nats a solution token, at temperature 1, that the solution gains by this step."""


class Measures(BaseModel):
    """What was measured of one explanation; None is what was not asked for, or cannot be said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gain: float | None = None
    step_credit: float | None = None
    """The lowest credit among `steps`."""
    leak: float | None = None
    """The highest score among `leaks`; 0 where there is none."""
    repetition: float | None = None
    tokens: int | None = None
    """Student tokens of the whole row, from the system message to the end of the solution."""
    context_share: float | None = None
    """`tokens` as a share of what the student can read; above 1 the row would be cut."""
    verified: bool | None = None
    student_answer: str | None = None
    """What the student answered after the explanation, greedily; `verified` is its grade."""
    leaks: tuple[Leak, ...] | None = None
    steps: tuple[Step, ...] | None = None


Measure = Literal[
    "reward", "rss", "rkl", "gain", "step_credit", "leak", "repetition", "tokens", "context_share", "verified"
]
"""A number of a row that filters bound and rankings sort by."""
LOWER_IS_BETTER: frozenset[Measure] = frozenset({"rkl", "leak", "repetition", "tokens", "context_share"})

_LEAK = pa.struct([("kind", pa.string()), ("score", pa.float64()), ("start", pa.int32()), ("stop", pa.int32())])
_STEP = pa.struct([("start", pa.int32()), ("stop", pa.int32()), ("credit", pa.float64())])
MEASURES_SCHEMA = pa.struct(
    [
        *((name, pa.float64()) for name in ("gain", "step_credit", "leak", "repetition")),
        ("tokens", pa.int64()),
        ("context_share", pa.float64()),
        ("verified", pa.bool_()),
        ("student_answer", pa.string()),
        ("leaks", pa.list_(_LEAK)),
        ("steps", pa.list_(_STEP)),
    ]
)
"""The columns of Measures in Parquet."""
