"""What the comparison of cold starts makes of its runs: ranks, digits, the table."""

from typing import Any

import pytest

from benchmarks.coldstart import RANKS, STARTS, digits_right, each_seed, rank_name, ranked, table
from student.evaluate import Generation
from tests.toy_rows import scored_row


def test_the_explanations_of_each_problem_are_ranked_by_their_reward() -> None:
    rewards = {"x": [-2.0, -1.0, -3.0], "y": [-1.0, -2.0, -3.0]}
    rows = [scored_row(name, number, reward) for name, each in rewards.items() for number, reward in enumerate(each)]
    assert [[row.sample for row in rank] for rank in ranked(rows)] == [[1, 0], [0, 1], [2, 2]]


@pytest.mark.parametrize(
    ("solution", "share"), [("a 9 b 7 c 0 d 1 e 4", 1.0), ("a 9 b 1 c 0 d 1", 0.6), ("9 7 0 1 4", 0.0), (None, 0.0)]
)
def test_a_solution_has_the_share_of_digits_that_are_right_under_their_label(
    solution: str | None, share: float
) -> None:
    row = Generation(
        id="", problem_id="", sample=0, digest="", seed=0, question="", answer="a 9 b 7 c 0 d 1 e 4", text="",
        solution=solution, correct=False, finished=True, tokens=1,
    )  # fmt: skip
    assert digits_right(row) == pytest.approx(share)


def result(after: float) -> dict[str, Any]:
    names = ["base", *STARTS, "alone_rl", *(f"{start}_rl" for start in STARTS), *map(rank_name, range(1, RANKS + 1))]
    return {
        "cpu_seconds": 1.0,
        "solutions": {name: after if name == "rlt_teacher_rl" else 0.0 for name in names},
        "digits": dict.fromkeys(names, 0.5),
        "right_answers_seen": dict.fromkeys(("alone", *STARTS), 3.0),
        "spearman": {"solutions": 0.5, "digits": 1.0},
    }


def test_the_table_has_means_and_intervals_over_seeds() -> None:
    # t(0.975, 1) = 12.706; the standard error of 0.5 and 0.7 is 0.1.
    lines = table([result(0.5), result(0.7)]).splitlines()
    assert "| rlt_teacher | 0.000 ± 0.000 | 0.600 ± 1.271 | 0.500 ± 0.000 | 0.500 ± 0.000 | 3 ± 0 |" in lines
    assert lines[-1] == "| Spearman | 0.50 ± 0.00 | 1.00 ± 0.00 |"


def test_each_seed_has_a_column_and_the_difference_is_paired() -> None:
    lines = each_seed([result(0.5), result(0.7)], [3, 4]).splitlines()
    assert lines[0] == "| RL begins at | seed 3 | seed 4 |"
    assert "| rlt_teacher | 0.000 → 0.500 (3) | 0.000 → 0.700 (3) |" in lines
    # As above: t(0.975, 1) = 12.706 times a standard error of 0.1.
    assert lines[-1] == "rlt_teacher less alone after RL: +.600 (-.671 to +1.871)"
