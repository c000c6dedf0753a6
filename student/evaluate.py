"""`rlt evaluate`: samples solutions from a model, grades them, and says how sure the figures are.

    pass@1 = mean over problems of (mean over samples of correct), with a 95 % bootstrap interval over problems
    pass@k = mean over problems of 1 - C(n - c, k) / C(n, k),  c of n samples correct (unbiased; arXiv 2107.03374)
    maj@k  = mean over problems of P(the commonest answer of k samples is right), see votes.py

Writes report.json, report.txt (also printed) and generations.jsonl; a killed run goes on, and the same seed gives the
same report. Left out: comparison of two evaluations, which is compare.py.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import groupby
from math import comb
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from student.configs import EvaluateConfig, Grading, SamplingSettings
from student.engine import Engine, Sample, engine_choice, open_engine
from student.grading import gold_answer, grade, solution_section
from student.models import load_tokenizer, resolve_device, resolve_dtype, weights_digest
from student.problem_files import read_problems, whole_file
from student.problems import Problem
from student.reading import StudentFormat
from student.row_file import RowFile, naming
from student.sampling import Task, longest_prompt, plan, refuse_too_long, sample_tasks, write_samples
from student.tags import STYLES
from student.votes import majority_at


class Generation(BaseModel):
    """One solution that a model wrote, and whether it is right: one row of generations.jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    problem_id: str
    sample: int
    digest: str
    """Of the model's weights."""
    seed: int
    question: str
    answer: str
    """What was asked for."""
    text: str
    """All that the model wrote."""
    solution: str | None
    """The solution section of the text; None where there is none."""
    correct: bool
    finished: bool
    """The model ended by itself; False: cut by max_tokens or its context."""
    tokens: int
    error: str | None = None
    """Why nothing was sampled; the row counts as wrong."""


class Setup(BaseModel):
    """What was evaluated, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    digest: str = ""
    """Of the model's weights."""
    tags: str = "rlt"
    grading: Grading = "math"
    samples: int
    sampling: SamplingSettings


class Estimate(BaseModel):
    """A share, and its 95 % interval over problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class EvaluationReport(BaseModel):
    """The figures of one model on one set of problems; shares are fractions of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setup: Setup
    engine: str
    precision: str
    problems: int
    generations: int
    pass_at_1: Estimate
    pass_at_k: dict[int, float]
    """For k = 1, 2, 4, ... up to the samples a problem."""
    maj_at_k: dict[int, float] = Field(default_factory=dict)
    """The same k from 3 samples on: two can only agree or tie."""
    truncated: float
    """Share of generations cut before they ended."""
    no_answer: float
    """Share of generations without a solution section; it holds most of the truncated ones."""
    impossible: int
    """Generations that could not be sampled at all; they count as wrong."""
    mean_tokens: float


def main(config: EvaluateConfig) -> None:
    """Carries out `rlt evaluate`; raises RltError where something must be mended first."""
    out = Path(config.out)
    file = RowFile(out / "generations.jsonl")
    problems = read_problems(config, STYLES[config.tags], out / "skipped.jsonl")
    if file.begun:
        file.claim(config)
    form = StudentFormat(load_tokenizer(config.model), STYLES[config.tags])
    setup = _setup(config)
    tasks = plan_solutions(form, problems, setup)
    if file.whole([task.id for task in tasks], {"digest": setup.digest}):
        print(f"{file.out} is complete already, made with these settings: only the report is written again")
    else:
        _write_generations(file, config, form, tasks, setup)
    report = _report_of(file, config, setup)
    _write_text(out / "report.json", json.dumps(report.model_dump(mode="json"), indent=2) + "\n")
    _write_text(out / "report.txt", table(report))
    print(table(report), end="")


def evaluate_model(engine: Engine, form: StudentFormat, problems: Sequence[Problem], setup: Setup) -> EvaluationReport:
    """The report of `rlt evaluate`, without files."""
    tasks = refuse_too_long(plan_solutions(form, problems, setup), engine.context_tokens)
    generations = map(_row_maker(form, setup), tasks, sample_tasks(engine, tasks, setup.sampling))
    return report(list(generations), setup, engine.name, engine.precision)


def plan_solutions(form: StudentFormat, problems: Sequence[Problem], setup: Setup) -> list[Task]:
    """The solutions that are owed, with their prompts."""
    return plan(problems, setup.samples, setup.sampling.seed, lambda problem: form.prompt_ids(problem.question))


def report(generations: Sequence[Generation], setup: Setup, engine: str, precision: str) -> EvaluationReport:
    """The figures of these generations, of which each problem's stand together."""
    groups = [list(group) for _, group in groupby(generations, key=lambda row: row.problem_id)]
    right = np.array([sum(row.correct for row in group) for group in groups])
    rows = len(generations)
    return EvaluationReport(
        setup=setup,
        engine=engine,
        precision=precision,
        problems=len(groups),
        generations=rows,
        pass_at_1=bootstrap_mean(right / setup.samples, setup.sampling.seed),
        pass_at_k={k: float(np.mean([pass_at(k, setup.samples, c) for c in right])) for k in _powers(setup.samples)},
        maj_at_k=_majorities(groups, setup),
        truncated=sum(row.error is None and not row.finished for row in generations) / rows,
        no_answer=sum(row.solution is None for row in generations) / rows,
        impossible=sum(row.error is not None for row in generations),
        mean_tokens=sum(row.tokens for row in generations) / rows,
    )


def pass_at(k: int, samples: int, correct: int) -> float:
    """The chance that k of the samples, drawn without putting back, hold a correct one.

    >>> pass_at(1, 4, 1), pass_at(2, 4, 1), pass_at(4, 4, 1), pass_at(2, 4, 0)
    (0.25, 0.5, 1.0, 0.0)
    """
    return 1 - comb(samples - correct, k) / comb(samples, k)


def bootstrap_mean(shares: np.ndarray, seed: int) -> Estimate:
    """The mean over problems and its 95 % interval: BCa bootstrap, 9,999 resamples of the problems.

    Where all problems have the same share there is nothing to resample, and the interval would be a point however few
    the problems: it is then Clopper and Pearson's, of as many right problems as the share makes.
    """
    mean = float(shares.mean())
    if np.ptp(shares) == 0:
        interval = stats.binomtest(round(mean * len(shares)), len(shares)).proportion_ci()
    else:
        resampled = stats.bootstrap((shares,), np.mean, method="BCa", rng=seed, batch=1000)
        interval = resampled.confidence_interval
    return Estimate(value=mean, low=float(interval.low), high=float(interval.high))


def _majorities(groups: Sequence[Sequence[Generation]], setup: Setup) -> dict[int, float]:
    sizes = [k for k in _powers(setup.samples) if k > 2]
    if not sizes:
        return {}
    solutions = [[row.solution for row in group] for group in groups]
    return majority_at(solutions, [[row.correct for row in group] for group in groups], sizes, setup.grading)


def _powers(samples: int) -> list[int]:
    return [2**exponent for exponent in range(samples.bit_length())]


def _row_maker(form: StudentFormat, setup: Setup) -> Callable[[Task, Sample], Generation]:
    def make_row(task: Task, sample: Sample) -> Generation:
        text = str(form.tokenizer.decode(sample.token_ids, clean_up_tokenization_spaces=False))
        solution = solution_section(text, form.tags)
        answer = gold_answer(task.problem)
        return Generation(
            id=task.id,
            problem_id=task.problem.id,
            sample=task.number,
            digest=setup.digest,
            seed=task.seed,
            question=task.problem.question,
            answer=answer,
            text=text,
            solution=solution,
            correct=solution is not None and grade(solution, answer, setup.grading),
            finished=sample.finished,
            tokens=len(sample.token_ids),
            error=task.error,
        )

    return make_row


def _setup(config: EvaluateConfig) -> Setup:
    return Setup(
        model=config.model,
        digest=weights_digest(config.model),
        tags=config.tags,
        grading=config.grading,
        samples=config.samples,
        sampling=config.sampling,
    )


def _write_generations(
    file: RowFile, config: EvaluateConfig, form: StudentFormat, tasks: Sequence[Task], setup: Setup
) -> None:
    with closing(open_engine(config.model, config, config.sampling, longest_prompt(tasks), logps=False)) as engine:
        file.claim(config)
        sound = refuse_too_long(tasks, engine.context_tokens)
        for _ in write_samples(file, engine, sound, config.sampling, _row_maker(form, setup), {"digest": setup.digest}):
            pass


def _report_of(file: RowFile, config: EvaluateConfig, setup: Setup) -> EvaluationReport:
    with file.out.open("rb") as lines:
        generations = [Generation.model_validate_json(line) for line in lines]
    precision = str(resolve_dtype(config, resolve_device(config))).removeprefix("torch.")
    return report(generations, setup, engine_choice(config, config.sampling), precision)


def _write_text(path: Path, text: str) -> None:
    with naming(path), whole_file(path) as file:
        file.write(text)


def table(report: EvaluationReport) -> str:
    """The report as text for people."""
    setup, sampling = report.setup, report.setup.sampling
    how = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature}, top-p {sampling.top_p}"
    one = report.pass_at_1
    figures = [
        ("pass@1", f"{one.value:7.2%}   95 % interval {one.low:.2%} to {one.high:.2%}"),
        *((f"pass@{k}", f"{share:7.2%}") for k, share in report.pass_at_k.items() if k > 1),
        *((f"maj@{k}", f"{share:7.2%}") for k, share in report.maj_at_k.items()),
        ("truncated", f"{report.truncated:7.2%}"),
        ("no answer", f"{report.no_answer:7.2%}"),
        ("mean tokens", f"{report.mean_tokens:7.1f}"),
    ]
    if report.impossible:
        figures.append(("impossible", f"{report.impossible:7d}   counted as wrong; generations.jsonl says why"))
    lines = [
        f"{setup.model} ({report.engine}, {report.precision}, weights {setup.digest})",
        f"{report.problems} problems, {setup.samples} samples each, {how}, at most {sampling.max_tokens} tokens, "
        f"seed {sampling.seed}, {setup.grading} grading, {setup.tags} tags",
        "",
        *(f"{name:<12} {value}" for name, value in figures),
    ]
    return "\n".join(lines) + "\n"
