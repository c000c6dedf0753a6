"""Many samples of many problems: what is owed, in which order, made batch by batch into a file that can be resumed.

The order is the problems' own, `samples` rows each; batches are cut from it at fixed places, so a resumed run makes the
same batches as an uninterrupted one. Used by `rlt explain` and `rlt evaluate`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel
from tqdm import tqdm

from student.configs import SamplingSettings
from student.engine import Engine, Request, Sample, sample_seed
from student.errors import ScoringError
from student.problems import Problem
from student.row_file import RowFile

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Task:
    """One sample that is owed; where its prompt cannot be made, `error` says why and nothing is sampled."""

    problem: Problem
    number: int
    seed: int
    prompt_ids: list[int]
    error: str | None = None

    @property
    def id(self) -> str:
        """The id of its row."""
        return f"{self.problem.id}-{self.number}"


def plan(
    problems: Sequence[Problem], samples: int, seed: int, prompt_ids: Callable[[Problem], list[int]]
) -> list[Task]:
    """What is owed: `samples` tasks a problem, in order; a problem that comes again is taken once, as its id is."""
    distinct = {problem.id: problem for problem in problems}
    return [task for problem in distinct.values() for task in tasks_of(problem, range(samples), seed, prompt_ids)]


def tasks_of(
    problem: Problem, numbers: Iterable[int], seed: int, prompt_ids: Callable[[Problem], list[int]]
) -> list[Task]:
    """The samples of one problem that have these numbers."""
    try:
        ids, error = prompt_ids(problem), None
    except ScoringError as refusal:
        ids, error = [], str(refusal)
    return [Task(problem, number, sample_seed(seed, problem.id, number), ids, error) for number in numbers]


def longest_prompt(tasks: Sequence[Task]) -> int:
    """Tokens in the longest prompt."""
    return max((len(task.prompt_ids) for task in tasks), default=0)


def refuse_too_long(tasks: Sequence[Task], context_tokens: int | None) -> list[Task]:
    """The tasks, with an error on those whose prompt leaves no room for an answer in the model's context."""
    if context_tokens is None:
        return list(tasks)
    return [task if len(task.prompt_ids) < context_tokens else _too_long(task, context_tokens) for task in tasks]


def _too_long(task: Task, context_tokens: int) -> Task:
    error = (
        f"the prompt takes {len(task.prompt_ids)} tokens and the model's context holds {context_tokens}; "
        "shorten the problem or use a model with a longer context"
    )
    return replace(task, error=error)


def sample_tasks(engine: Engine, tasks: Sequence[Task], sampling: SamplingSettings) -> list[Sample]:
    """A sample a task, in order; an empty one where the task has an error."""
    sound = [index for index, task in enumerate(tasks) if task.error is None]
    requests = [Request(tasks[index].prompt_ids, tasks[index].seed) for index in sound]
    made = dict(zip(sound, engine.sample(requests, sampling), strict=True))
    return [made.get(index, Sample([], [], finished=False)) for index in range(len(tasks))]


def write_samples(
    file: RowFile,
    engine: Engine,
    tasks: Sequence[Task],
    sampling: SamplingSettings,
    make_row: Callable[[Task, Sample], R],
    constant: Mapping[str, str],
) -> Iterator[list[R]]:
    """Makes what the file still owes and yields it batch by batch, each safely on the disk; shows progress.

    `constant` holds what every row must have in common with those already there; see RowFile.resume.
    """
    done = len(file.resume([task.id for task in tasks], constant, unit=sampling.batch_size))
    with tqdm(total=len(tasks), initial=done, desc=file.out.name, unit="row", smoothing=0.1) as bar:
        for start in range(done, len(tasks), sampling.batch_size):
            batch = tasks[start : start + sampling.batch_size]
            samples = sample_tasks(engine, batch, sampling)
            rows = [make_row(task, sample) for task, sample in zip(batch, samples, strict=True)]
            file.append(rows)
            bar.update(len(rows))
            yield rows
    file.finish()
