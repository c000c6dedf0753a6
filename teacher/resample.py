"""`rlt resample`: more samples for the problems whose best explanation is not good enough, worst first, in a budget.

    scored rows ─> the best row of each problem ─> one more sample each, worst first, then a second ... ─> OUT

A sample is begun only where its longest possible text still fits into what is left of the budget, which is so never
passed; counted are the tokens of explanations, in `token_ids`, not what the teacher writes after the end tag. New rows
go on numbering where the old ones stop, and a sample's seed is made from its number: none is an old one again. Left
out: scoring the new rows (`rlt score`), and going on until all are good: score, then resample with `--more`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from student.configs import SamplingSettings
from student.curation.filters import value_of
from student.engine import Engine, Sample, open_engine, token_limit
from student.errors import ProblemError
from student.explanations import SCHEMA, Explanation, read_explanations, stream_explanations
from student.measures.results import LOWER_IS_BETTER, Measure
from student.models import load_tokenizer, weights_digest
from student.problems import Problem
from student.row_file import RowFile
from student.sampling import Task, longest_prompt, refuse_too_long, sample_tasks, tasks_of
from student.tags import STYLES
from teacher.configs import ResampleConfig
from teacher.explain import Byline, Tally, provenance, row_maker
from teacher.prompts import TeacherFormat


def main(config: ResampleConfig) -> None:
    """Carries out `rlt resample`; raises RltError where something must be mended first."""
    file = RowFile(Path(config.out), SCHEMA)
    if file.begun:
        file.claim(config)
    standings = read_standings(config)
    wanting = in_need(standings, config.threshold, config.by)
    told = f"{len(wanting):,} of {len(standings):,} problems are below"
    if not wanting:
        print(f"{config.out}: {told}; there is nothing to sample, and no file is written")
        return
    form = TeacherFormat(load_tokenizer(config.teacher), STYLES[config.tags])
    tasks = plan_samples(form, wanting, config.samples, config.sampling.seed)
    digest = weights_digest(config.teacher)
    if _is_whole(file, tasks, digest):
        print(f"{config.out} is complete already, made with these settings: nothing to do")
        return
    with closing(open_engine(config.teacher, config, config.sampling, longest_prompt(tasks), logps=False)) as engine:
        file.claim(config)
        made = provenance(engine, form, config.sampling)
        byline = Byline(config.teacher, digest, config.tags, config.sampling.temperature, made)
        print(f"{config.out}: {told}; {_write(file, engine, row_maker(form, byline), tasks, config, digest)}")


@dataclass
class Standing:
    """A problem, and how good its rows are so far."""

    problem: Problem
    next_number: int = 0
    """Of its next sample."""
    best: float | None = None
    """By the measure; None where no row has it."""
    explained: bool = False
    """A row of it could be made."""

    def take(self, row: Explanation, by: Measure) -> None:
        """One more row of it."""
        self.next_number = max(self.next_number, row.sample + 1)
        self.explained = self.explained or row.error is None
        value = value_of(row, by) if row.error is None else None
        known = [each for each in (self.best, value) if each is not None]
        self.best = (min if by in LOWER_IS_BETTER else max)(known, default=None)


def read_standings(config: ResampleConfig) -> list[Standing]:
    """The problems in their order; raises ProblemError where a row is not of the problem that it names."""
    found: dict[str, Standing] = {}
    seen = set[int]()
    for source in (config.rows, *config.more):
        for row in stream_explanations(source, STYLES[config.tags], seen=seen):
            if row.problem_id not in found:
                found[row.problem_id] = Standing(_problem(row, source))
            found[row.problem_id].take(row, config.by)
    return list(found.values())


def _problem(row: Explanation, source: str) -> Problem:
    metadata = {} if row.license is None else {"license": row.license}
    problem = Problem(question=row.question, solution=row.solution, answer=row.answer, metadata=metadata)
    if problem.id != row.problem_id:
        raise ProblemError(
            f"{source}: row {row.id!r} is not of the problem whose question and solution it holds ({problem.id}); new "
            "rows would not be counted to it; write it as `rlt explain` does"
        )
    return problem


def in_need(standings: Sequence[Standing], threshold: float, by: Measure) -> list[Standing]:
    """Those whose best row is worse than the threshold, worst first; before them those where no row has the measure.

    A problem that no row could be made of is left out: it would fail again.
    """
    sign = -1 if by in LOWER_IS_BETTER else 1
    ranks = [(float("-inf") if each.best is None else sign * each.best, each) for each in standings if each.explained]
    return [each for rank, each in sorted(ranks, key=lambda pair: pair[0]) if rank < sign * threshold]


def plan_samples(form: TeacherFormat, wanting: Sequence[Standing], samples: int, seed: int) -> list[Task]:
    """In the order in which they are sampled: one more of every problem, then a second of every one."""
    by_problem = [
        tasks_of(
            each.problem,
            range(each.next_number, each.next_number + samples),
            seed,
            lambda problem: form.prompt_ids(problem.question, problem.solution),
        )
        for each in wanting
    ]
    return [tasks[turn] for turn in range(samples) for tasks in by_problem]


def _is_whole(file: RowFile, tasks: Sequence[Task], digest: str) -> bool:
    """Whether the file is there; where in the plan the budget ended only its rows can say."""
    if not file.out.exists():
        return False
    rows = read_explanations(str(file.out), STYLES["rlt"])
    return file.whole([task.id for task in tasks[: len(rows)]], {"teacher_digest": digest})


class Budget:
    """Tokens of explanations that may still be written."""

    def __init__(self, tokens: int, longest: int, context: int | None) -> None:
        self.left = tokens
        self._longest = longest
        self._context = context

    def affordable(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The first tasks, as many as fit however long their texts become."""
        left = self.left
        for place, task in enumerate(tasks):
            left -= 0 if task.error else token_limit(len(task.prompt_ids), self._longest, self._context)
            if left < 0:
                return tasks[:place]
        return tasks

    def spend(self, rows: Iterable[Explanation]) -> None:
        """Takes off what these rows came to."""
        self.left -= sum(len(row.token_ids or ()) for row in rows)


def _write(
    file: RowFile,
    engine: Engine,
    make_row: Callable[[Task, Sample], Explanation],
    tasks: Sequence[Task],
    config: ResampleConfig,
    digest: str,
) -> str:
    """Writes what the budget allows and the file still owes; returns the closing line."""
    started, tally, batch = time.perf_counter(), Tally(), config.sampling.batch_size
    tasks = refuse_too_long(tasks, engine.context_tokens)
    budget = Budget(config.budget_tokens, config.sampling.max_tokens, engine.context_tokens)
    done = file.resume([task.id for task in tasks], {"teacher_digest": digest}, unit=batch)
    budget.spend(map(Explanation.model_validate, done))
    with tqdm(total=len(tasks), initial=len(done), desc=file.out.name, unit="row", smoothing=0.1) as bar:
        for start in range(len(done), len(tasks), batch):
            due = tasks[start : start + batch]
            rows = _afforded(engine, make_row, due, config.sampling, budget)
            file.append(rows)
            tally.add(rows)
            bar.update(len(rows))
            if len(rows) < len(due):
                break
    file.finish()
    made = f"{len(done) + tally.rows:,} of {len(tasks):,} samples within the budget, {budget.left:,} tokens of it left"
    return f"{made}; {tally.line(time.perf_counter() - started)}"


def _afforded(
    engine: Engine,
    make_row: Callable[[Task, Sample], Explanation],
    due: Sequence[Task],
    sampling: SamplingSettings,
    budget: Budget,
) -> list[Explanation]:
    """The rows of a batch up to the end of the budget; near it in several goes, each as large as surely fits."""
    rows: list[Explanation] = []
    while some := budget.affordable(due[len(rows) :]):
        made = list(map(make_row, some, sample_tasks(engine, some, sampling)))
        budget.spend(made)
        rows.extend(made)
    return rows
