"""What is owed, and what becomes of it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from student.configs import SamplingSettings
from student.engine import Request, Sample
from student.errors import ScoringError
from student.problems import Problem
from student.row_file import RowFile
from student.sampling import Task, longest_prompt, plan, refuse_too_long, sample_tasks, write_samples

PROBLEMS = [Problem(question="q" * length, solution="s") for length in (1, 2, 30)]
SAMPLING = SamplingSettings(batch_size=2, max_tokens=4)


class EchoEngine:
    """Answers a prompt by its length and seed; remembers how many requests came at a time."""

    name = "transformers"
    precision = "float32"
    context_tokens = 10

    def __init__(self) -> None:
        self.batches: list[int] = []

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        self.batches.append(len(requests))
        return [Sample([len(request.prompt_ids), request.seed % 100], [], finished=True) for request in requests]

    def close(self) -> None: ...


class Row(BaseModel):
    id: str
    tokens: list[int]
    error: str | None


def make_row(task: Task, sample: Sample) -> Row:
    return Row(id=task.id, tokens=sample.token_ids, error=task.error)


def prompt_ids(problem: Problem) -> list[int]:
    if problem.question == "qq":
        raise ScoringError("holds a control token; remove it")
    return list(range(len(problem.question)))


def test_tasks_follow_the_problems_order_and_their_seeds_depend_on_the_problem_alone() -> None:
    tasks = plan(PROBLEMS, 2, 7, prompt_ids)
    assert [task.id for task in tasks] == [f"{problem.id}-{number}" for problem in PROBLEMS for number in (0, 1)]
    backwards = {task.id: task.seed for task in plan(PROBLEMS[::-1], 3, 7, prompt_ids)}
    assert all(backwards[task.id] == task.seed for task in tasks)
    assert len({task.seed for task in tasks}) == 6
    assert longest_prompt(tasks) == 30
    assert [task.id for task in plan([*PROBLEMS, PROBLEMS[0]], 1, 7, prompt_ids)] == [f"{p.id}-0" for p in PROBLEMS]


def test_a_prompt_that_cannot_be_made_or_does_not_fit_is_data_and_its_siblings_go_on() -> None:
    engine = EchoEngine()
    tasks = refuse_too_long(plan(PROBLEMS, 1, 7, prompt_ids), engine.context_tokens)
    assert [task.error and task.error.split(";")[0] for task in tasks] == [
        None,
        "holds a control token",
        "the prompt takes 30 tokens and the model's context holds 10",
    ]
    assert [len(sample.token_ids) for sample in sample_tasks(engine, tasks, SAMPLING)] == [2, 0, 0]
    assert engine.batches == [1]


def test_a_model_without_a_limit_refuses_nothing() -> None:
    tasks = plan(PROBLEMS, 1, 7, prompt_ids)
    assert refuse_too_long(tasks, None) == tasks


@pytest.mark.parametrize("rows_before", range(6))
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_file_and_repeats_nothing(
    tmp_path: Path, rows_before: int
) -> None:
    tasks = refuse_too_long(plan(PROBLEMS, 2, 7, prompt_ids), 10)
    at_once = RowFile(tmp_path / "at_once.jsonl")
    rows = [row for batch in write_samples(at_once, EchoEngine(), tasks, SAMPLING, make_row, {}) for row in batch]
    stopped = RowFile(tmp_path / "stopped.jsonl")
    stopped.append(rows[:rows_before])
    engine = EchoEngine()
    made = [row for batch in write_samples(stopped, engine, tasks, SAMPLING, make_row, {}) for row in batch]
    kept = rows_before - rows_before % SAMPLING.batch_size
    assert made == rows[kept:]
    assert stopped.out.read_bytes() == at_once.out.read_bytes()
