"""Further samples: who is due, worked by hand, and how far a unit's share goes. On a service: test_datasets.py."""

from typing import Any

import pytest

from server.datasets.further import FurtherSamples, check_share, share
from server.jobs.jobs import JobRejected
from server.wire import DatasetRequest
from student.explanations import Explanation, Score
from student.problems import Problem

PROBLEMS = [Problem(question=f"{number}?", solution="s") for number in range(4)]


def request(**changes: Any) -> DatasetRequest:
    further = {"threshold": -1, "samples": 2, "budget_tokens": 100} | changes
    return DatasetRequest.model_validate({"source": "a/b", "further": further, "sampling": {"max_tokens": 20}})


def row(problem: int, sample: int, reward: float | None, tokens: int = 5, **values: Any) -> Explanation:
    score = None if reward is None else Score(reward=reward, rss=reward, ss_mean=0, ss_min=0)
    whole = {"explanation": "so", "closed": True, "finished": True, "token_ids": (1,) * tokens} | values
    question = PROBLEMS[problem]
    return Explanation(
        problem_id=question.id, sample=sample, question=question.question, solution="s", score=score, **whole
    )


FIRST = [[row(0, 0, -2)], [row(1, 0, -0.5)], [row(2, 0, -3)], [row(3, 0, None, error="refused")]]


def test_the_worst_problem_comes_first_and_good_or_failed_ones_get_nothing() -> None:
    assert FurtherSamples(request(), PROBLEMS, 100).due(FIRST) == [(2, 1), (0, 1)]


def test_a_problem_is_looked_at_again_once_its_further_row_is_scored() -> None:
    more = FurtherSamples(request(), PROBLEMS, 100)
    second = [[*FIRST[0], row(0, 1, -0.9)], FIRST[1], [*FIRST[2], row(2, 1, -9)], FIRST[3]]
    assert more.due(second) == [(2, 2)]
    third = [second[0], second[1], [*second[2], row(2, 2, -9)], second[3]]
    assert more.due(third) == []  # two further samples are all it may have


def test_only_what_surely_fits_is_begun() -> None:
    more = FurtherSamples(request(), PROBLEMS, 39)
    assert more.due(FIRST) == [(2, 1)]  # a second of at most 20 tokens might not fit into 39
    more.spend([row(2, 1, -9, tokens=19)])
    assert more.due(FIRST) == [(2, 1)]
    more.spend([row(2, 1, -9, tokens=1)])
    assert more.due(FIRST) == []


def test_without_the_field_nothing_is_due() -> None:
    plain = DatasetRequest.model_validate({"source": "a/b"})
    assert FurtherSamples(plain, PROBLEMS, 100).due(FIRST) == []
    assert share(plain, 2, 4) == 0
    assert plain.most_samples == 1


def test_a_unit_has_its_share_and_one_that_holds_nothing_is_refused() -> None:
    assert [share(request(), problems, 7) for problems in (3, 3, 1)] == [42, 42, 14]
    check_share(request(), 2, 7)
    with pytest.raises(JobRejected, match=r"14 fall to a unit of 1, and one explanation may take 20"):
        check_share(request(), 1, 7)
