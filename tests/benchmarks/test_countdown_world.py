"""Both tasks are right, share no held-out set of numbers with training, and are read without an unknown token."""

import random
from collections import Counter

import pytest

from benchmarks.countdown_world import Task, both_tasks, draw, explained, split_of, styled, tokenizer, wrong
from student.grading import grade
from student.problems import Problem
from teacher.demo.corpus import SHARES

DRAWN: dict[Task, list[Problem]] = {
    "arithmetic": draw("arithmetic", 200, "train", "0"),
    "countdown": draw("countdown", 150, "held_out", "0"),
}


@pytest.mark.parametrize("task", ["arithmetic", "countdown"])
def test_a_problem_is_right_and_known_to_the_tokenizer(task: Task) -> None:
    reads = tokenizer()
    for problem in DRAWN[task]:
        expression = problem.question if task == "arithmetic" else problem.solution
        value = problem.solution if task == "arithmetic" else str(problem.metadata["target"])
        assert eval(expression) == float(value)  # an expression that we drew
        assert problem.reasoning_trace is not None
        assert problem.reasoning_trace.endswith(f"= {value}")
        ids = reads(" ".join([problem.question, problem.solution, problem.reasoning_trace])).input_ids
        assert reads.unk_token_id not in ids


def test_a_countdown_solution_is_one_that_the_checker_takes_in_any_form() -> None:
    problem = DRAWN["countdown"][0]
    assert grade(problem.solution, problem.solution, "countdown")
    assert not grade(str(problem.metadata["target"]), problem.solution, "countdown")
    assert problem.question.split()[1] == str(problem.metadata["target"])


def numbers_and_target(problem: Problem) -> tuple[int, ...]:
    return (*sorted(problem.metadata["numbers"]), problem.metadata["target"])


def test_held_out_numbers_are_in_no_other_problem_of_either_task() -> None:
    train = [*both_tasks(400, "1"), *draw("countdown", 200, "train", "0")]
    assert not set(map(numbers_and_target, train)) & set(map(numbers_and_target, DRAWN["countdown"]))
    assert Counter(problem.question.startswith("make") for problem in train) == {True: 400, False: 200}
    assert {split_of(problem) for problem in train} == {"train"}


def test_styles_are_drawn_by_their_shares_and_leaks_state_the_solution() -> None:
    rows = styled(DRAWN["countdown"], {"complete": 1, "leak": 3}, 0)
    told = Counter(str(row.reasoning_trace).startswith("well it is") for row in rows)
    assert told[True] == pytest.approx(112, abs=25)
    problem = DRAWN["countdown"][0]
    assert explained(problem, "leak", random.Random(0)) == f"well it is {problem.solution}"
    assert {len(explained(problem, style, random.Random(0))) > 0 for style in SHARES} == {True}


def test_a_wrong_explanation_goes_on_from_its_false_number() -> None:
    rng = random.Random(0)
    for _ in range(50):
        first, second = wrong("3 + 7 = 10 , 10 / 2 = 5", rng).split(" , ")
        said = first.rpartition(" = ")[2]
        assert first.startswith("3 + 7 = ")
        assert second.startswith(f"{said} / 2 = ")
        assert (first, second) != ("3 + 7 = 10", "10 / 2 = 5")
