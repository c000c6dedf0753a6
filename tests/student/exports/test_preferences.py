"""Preferences: pairs and labels by reward, worked by hand."""

from typing import Any

import pytest

from student.errors import ProblemError
from student.exports.sources import WholeProblems
from tests.student.exports.lessons import explained, exported, table

ROWS = [
    explained("a", 0, 0.1),
    explained("a", 1, 0.9),
    explained("a", 2, 0.5),
    explained("a", 3, 0.4),
    explained("b", 0, 0.3),
    explained("c", 0, 0.7),
    explained("c", 1, 0.7),
    explained("d", 0),
    explained("d", 1, 0.2),
]


def ids(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["rlt_chosen_id"], row["rlt_rejected_id"]) for row in rows]


def test_the_best_is_paired_with_the_worst_of_its_problem_and_nothing_else_is() -> None:
    rows, exporter = exported("trl-preference", ROWS)
    assert ids(rows) == [("a-1", "a-0")]
    assert (rows[0]["rlt_chosen_reward"], rows[0]["rlt_rejected_reward"], rows[0]["rlt_problem_id"]) == (0.9, 0.1, "a")
    assert "Way 1." in str(rows[0]["chosen"])
    assert "Way 0." in str(rows[0]["rejected"])
    assert exporter.counts.refused == {
        "its problem has its pairs": 2,
        "no partner with another reward within its problem and the margin": 4,  # b; both of c; d-1
        "no reward": 1,
    }


def test_more_pairs_go_inwards_and_no_row_is_in_two() -> None:
    rows, _ = exported("trl-preference", ROWS, pairs=5)
    assert ids(rows) == [("a-1", "a-0"), ("a-2", "a-3")]


@pytest.mark.parametrize(("margin", "pairs"), [(0.1, 2), (0.11, 1), (0.8, 1)])
def test_a_pair_has_at_least_the_margin(margin: float, pairs: int) -> None:
    # 0.9 - 0.1 = 0.8 and 0.5 - 0.4 = 0.09999999999999998 in binary: the margin is asked a little lower.
    rows, _ = exported("trl-preference", ROWS, pairs=2, margin=margin - 1e-9)
    assert len(rows) == pairs


def test_where_no_pair_is_wide_enough_the_reasons_are_told() -> None:
    with pytest.raises(ProblemError, match=r"none of 9 rows .* 8 no partner with another reward .* 1 no reward"):
        exported("trl-preference", ROWS, margin=0.81)


def test_kto_calls_what_is_above_the_median_of_its_problem_good() -> None:
    rows, exporter = exported("trl-kto", ROWS)
    # a: the median of 0.1 0.4 0.5 0.9 is 0.45
    assert {row["rlt_id"]: row["label"] for row in rows} == {"a-0": False, "a-1": True, "a-2": True, "a-3": False}
    assert all(type(row["label"]) is bool for row in rows)
    assert exporter.counts.refused == {"its reward is the median of its problem": 4, "no reward": 1}


def test_rows_at_the_median_do_not_move_it_when_they_are_left_out() -> None:
    rewards = [1.0, 2.0, 2.0, 2.0, 3.0, 4.0]
    rows, _ = exported("trl-kto", [explained("a", sample, reward) for sample, reward in enumerate(rewards)])
    assert [row["label"] for row in rows] == [False, True, True]


def test_kto_calls_what_is_above_a_threshold_good() -> None:
    rows, _ = exported("trl-kto", ROWS, threshold=0.4)
    assert [row["rlt_id"] for row in rows if row["label"]] == ["a-1", "a-2", "c-0", "c-1"]
    assert len(rows) == 8


@pytest.mark.parametrize("size", range(1, 9))
def test_a_problem_is_never_cut_by_the_size_of_a_table(size: int) -> None:
    whole = table(ROWS)
    cut = [whole.slice(start, size) for start in range(0, len(ROWS), size)]
    problems = WholeProblems()
    parts = [*(part for each in cut for part in problems.add(each)), *problems.rest()]
    assert [row["id"] for part in parts for row in part.to_pylist()] == [row.id for row in ROWS]
    owners = [set(part["problem_id"].to_pylist()) for part in parts]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 4


def test_rows_that_nobody_asked_to_tell_where_they_are_from_do_not() -> None:
    rows, _ = exported("trl-preference", ROWS, columns=("none",))
    assert set(rows[0]) == {"prompt", "chosen", "rejected"}
