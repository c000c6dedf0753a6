"""A problem: a question and its solution, known by its content. Reading files of them is problem_files.py."""

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator


def content_id(*parts: str) -> str:
    """16 hex digits that depend on the content alone, so the same problem has the same id tomorrow and elsewhere.

    >>> content_id("1 + 1?", "2") == content_id("1 + 1?", "2") != content_id("1 + 1?2", "")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", errors="surrogatepass")
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()[:16]


class Problem(BaseModel):
    """One question with the solution that a teacher may see and a student must reach.

    `solution` is the text whose likelihood the reward measures; `answer` is what grading compares (where there is none,
    grading reads it from the solution); `reasoning_trace` is an existing explanation, used to warm a teacher up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    solution: str = Field(min_length=1)
    reasoning_trace: str | None = None
    answer: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The hash of question and solution: what the row *is*; trace, answer and metadata may be added later."""
        return content_id(self.question, self.solution)

    @property
    def license(self) -> str | None:
        """What its source says in a column `license` or `licence`."""
        named = (self.metadata.get(name) for name in ("license", "licence"))
        return next((value for value in named if isinstance(value, str) and value.strip()), None)

    @model_validator(mode="before")
    @classmethod
    def _drop_stored_id(cls, values: Any) -> Any:
        """A row we wrote ourselves carries its id; it is computed again, never believed."""
        return {name: value for name, value in values.items() if name != "id"} if isinstance(values, dict) else values
