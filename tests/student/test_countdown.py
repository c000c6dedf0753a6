"""Countdown problems are unique, solvable and drawn the same twice; the verifier takes every right expression only."""

import json
from collections import Counter
from pathlib import Path

import pytest

from student.cli import main as rlt
from student.configs import CountdownConfig
from student.countdown import draw_problems
from student.errors import ConfigError
from student.expressions import solves, worked
from student.grading import grade


def test_every_problem_is_solved_by_its_own_solution_and_asks_what_it_says() -> None:
    problems = draw_problems(CountdownConfig(out="unused", count=300, most=5))
    assert len({problem.id for problem in problems}) == len({problem.question for problem in problems}) == 300
    for problem in problems:
        made = worked(problem.solution)
        assert made is not None
        assert made.value == problem.metadata["target"]
        assert made.numbers == Counter(problem.metadata["numbers"])
        assert f"make {made.value}." in problem.question
        assert problem.reasoning_trace is not None
        assert problem.reasoning_trace.endswith(f"= {made.value}")
        assert len(problem.reasoning_trace.splitlines()) == len(problem.metadata["numbers"]) - 1


def test_one_seed_draws_the_same_problems_and_another_others() -> None:
    first, again, other = (draw_problems(CountdownConfig(out="x", count=20, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert not {problem.id for problem in first} & {problem.id for problem in other}


@pytest.mark.parametrize(
    "text",
    ["25 + 7 * 3", "(3*7)+25", r"$25 + 7 \times 3$", "3 × 7 + 25 = 46", "I try 25 * 3.\nSo: 7 * 3 + 25", "25+3*7."],
)
def test_any_expression_of_the_numbers_with_the_value_is_right(text: str) -> None:
    assert grade(text, "25 + 7 * 3", "countdown")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "46",
        "25 + 7 + 3",  # another value
        "23 * 2",  # other numbers
        "25 + 7 * 3 + 0",
        "25 + 7 * 3 * 1",
        "25 + 21",
        "7 * 3 + 25\n25 + 7 + 3",  # the last one counts
        "3**7 + 25",
        "__import__('os').system('true')",
        "(" * 5000 + "25",
        "25 + 7 * " + "9" * 400,
        "25 / (7 - 7) * 3",
        "25 + 7 * 3 = 46 = 25 + 7 + 3 + 11",  # hedging by a longer second side
    ],
)
def test_anything_else_is_wrong_and_nothing_is_executed(text: str) -> None:
    assert not grade(text, "25 + 7 * 3", "countdown")


def test_a_quotient_may_be_a_fraction_on_the_way() -> None:
    assert solves("8 / (3 - 8 / 3)", "8 / (3 - 8 / 3)")  # the classic 24


def test_more_problems_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"count: only \d+ different problems"):
        draw_problems(CountdownConfig(out="x", count=5000, fewest=2, most=2, largest_number=3, largest_target=9))


def test_the_verb_writes_problems_that_the_others_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "countdown.jsonl"
    assert rlt(["countdown", "--out", str(out), "--count", "5"]) == 0
    assert "5 problems; the first: Use each of the numbers" in capsys.readouterr().out
    assert rlt(["problems", "--problems", str(out)]) == 0
    assert [json.loads(line)["metadata"]["task"] for line in out.read_text().splitlines()] == ["countdown"] * 5
    assert rlt(["countdown", "--out", str(out), "--fewest", "5", "--most", "4"]) == 1
    assert "fewest (5) must not be more than most (4)" in capsys.readouterr().err
