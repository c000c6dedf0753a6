"""Selection: which rows are kept, worked by hand, and each that is not says why."""

from typing import Any

import pytest

from server.datasets.selection import selected
from server.wire import DatasetRequest
from student.explanations import Explanation, Score


def row(sample: int, reward: float | None = None, rkl: float | None = None, **values: Any) -> Explanation:
    score = None if reward is None else Score(reward=reward, rss=2 * reward, ss_mean=0, ss_min=0, rkl=rkl)
    whole = {"explanation": "so", "closed": True, "finished": True} | values
    return Explanation(problem_id="p", sample=sample, question="q", solution="s", score=score, **whole)


def dropped(rows: list[Explanation], **asked: Any) -> dict[int, str]:
    request = DatasetRequest.model_validate({"source": "own/set", **asked})
    return {row.sample: row.dropped for row in selected(rows, request) if row.dropped is not None}


def test_without_best_of_and_filters_all_rows_are_kept() -> None:
    assert dropped([row(0, closed=False, finished=False), row(1)], n=2) == {}


def test_the_best_by_reward_are_kept_and_of_equals_the_first() -> None:
    rows = [row(0, -2.0), row(1, -1.0), row(2, -1.0), row(3, -1.0)]
    reason = "not among the best 2 of 4 by reward"
    assert dropped(rows, n=2, best_of=4) == {0: reason, 3: reason}


def test_of_rkl_the_lowest_is_the_best() -> None:
    rows = [row(0, -1.0, rkl=0.3), row(1, -1.0, rkl=0.1), row(2, -1.0, rkl=None)]
    assert list(dropped(rows, n=1, best_of=3, rank_by="rkl")) == [0, 2]


def test_filters_come_before_the_ranking_so_the_best_of_those_left_is_kept() -> None:
    rows = [row(0, -1.0, closed=False), row(1, -3.0), row(2, -2.0)]
    told = dropped(rows, n=1, best_of=3, filters={"closed": True})
    assert told == {0: "closed: its end tag was not reached", 1: "not among the best 1 of 3 by reward"}


def test_a_failed_row_is_not_dropped_and_takes_no_place() -> None:
    rows = [row(0, error="refused"), row(1, -3.0), row(2, -2.0)]
    assert dropped(rows, n=2, best_of=3, filters={"closed": True, "min_reward": -10}) == {}


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"min_reward": -1.5}, "min_reward: its reward is -2, the bound -1.5"),
        ({"min_rss": -3.5}, "min_rss: its rss is -4, the bound -3.5"),
        ({"max_rkl": 0.25}, "max_rkl: its rkl is 0.5, the bound 0.25"),
        ({"finished": True}, "finished: it was cut by max_tokens or the context"),
    ],
)
def test_a_row_that_misses_a_filter_says_which_and_by_how_much(filters: dict[str, Any], reason: str) -> None:
    good = row(1, -1.0, rkl=0.1)
    assert dropped([row(0, -2.0, rkl=0.5, finished=False), good], n=2, filters=filters) == {0: reason}


def test_a_row_without_a_score_misses_a_filter_on_one() -> None:
    rows = [row(0, unscored="too long for the student"), row(1, -1.0)]
    told = dropped(rows, filters={"min_reward": -5, "max_rkl": 1})
    assert told == {0: "min_reward: it has no reward (too long for the student)", 1: "max_rkl: it has no rkl"}


def test_what_was_dropped_in_an_earlier_round_may_be_kept_in_this_one() -> None:
    rows = [row(0, -1.0, dropped="not among the best 1 of 2 by reward"), row(1, error="refused")]
    assert dropped(rows, n=1, best_of=2) == {}
