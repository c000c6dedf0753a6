"""What the tests of scores share: a trace with every oddity, a student's settings, and when two scores are the same."""

from pathlib import Path
from typing import Any

import pytest

from server.configs import ServiceConfig
from server.wire import ScoreRequest
from student.explanations import Explanation
from student.problems import Problem

TRACE = "She starts with 3 apples.\n\nShe buys 2 more: 3 + 2 = 5. café 😀\n\n\nSo 5."


def settings(folder: Path, **changes: Any) -> ServiceConfig:
    values = {"teacher": str(folder), "student": str(folder), "device": "cpu", "threads": 1}
    return ServiceConfig.model_validate({**values, **changes})


def trace(problem: Problem, text: str = TRACE, **changes: Any) -> ScoreRequest:
    values = {"question": problem.question, "solution": problem.solution, "explanation": text}
    return ScoreRequest.model_validate({**values, **changes})


def same_measures(ours: Explanation, theirs: Explanation) -> None:
    """Measured alike, but for the sixth digit."""
    assert (ours.measures is None) == (theirs.measures is None)
    if ours.measures is not None and theirs.measures is not None:
        one, other = ours.measures.model_dump(), theirs.measures.model_dump()
        steps, others = ([step["credit"] for step in measures.pop("steps") or ()] for measures in (one, other))
        assert steps == pytest.approx(others, abs=1e-5)
        for name in ("gain", "step_credit"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-5)
        assert one == other


def same(ours: Explanation, theirs: Explanation) -> None:
    """Equal but for the sixth digit of the numbers, and for what the service measures where it is asked to."""
    apart = {"score": None, "measures": None, "student": None, "student_digest": None}
    assert ours.model_copy(update=apart) == theirs.model_copy(update=apart)
    assert (ours.score is None) == (theirs.score is None)
    if ours.score is not None and theirs.score is not None:
        numbers = [score.model_dump(exclude={"notes"}) for score in (ours.score, theirs.score)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
        assert ours.score.notes == theirs.score.notes
