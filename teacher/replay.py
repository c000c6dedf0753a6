"""`rlt replay`: one row of explanations made again from what it says of itself, and whether it comes out the same.

    row: question, solution, tags ─> prompt ┐
         seed, temperature, top_p, length ──┴─> engine ─> tokens, equal or not

A row has its own seed and is sampled alone here, whatever stood beside it when it was made: on a CPU that changes
nothing, on a GPU it may (docs/reproducibility.md). Left out: scores, and rows that were read as text.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import cast, get_args

from student.configs import ModelSettings, SamplingSettings
from student.engine import open_engine
from student.errors import ConfigError, ProblemError
from student.explanations import Explanation, stream_explanations
from student.models import load_tokenizer, weights_digest
from student.problems import Problem
from student.replays import Replay, compared, how_sampled
from student.sampling import Task, refuse_too_long, sample_tasks
from student.tags import STYLES
from teacher.configs import EngineName, ReplayConfig
from teacher.errors import RowDiffers
from teacher.explain import Byline, provenance, row_maker
from teacher.prompts import TeacherFormat

PRECISIONS = ("float32", "bfloat16", "float16")


def main(config: ReplayConfig) -> None:
    """Carries out `rlt replay`; raises RowDiffers where the row does not come out the same."""
    row = find_row(config.explanations, config.row)
    replay = compared(row, made_again(config, row))
    print("\n".join(report(replay)))
    if not replay.matches:
        raise RowDiffers(replay.row)


def find_row(source: str, row_id: str) -> Explanation:
    """The row with this id; raises ProblemError where there is none, or nothing can be read."""
    first = None
    for row in stream_explanations(source, STYLES["rlt"]):
        if row.id == row_id:
            return row
        first = first or row.id
    raise ProblemError(f"{source}: no row has the id {row_id!r} (problem_id-sample; the first one's is {first!r})")


def made_again(config: ReplayConfig, row: Explanation) -> Explanation:
    """The row as this teacher and this machine make it."""
    how = how_sampled(row)
    sampling = SamplingSettings(
        temperature=how.temperature,
        top_p=how.top_p,
        max_tokens=how.max_tokens,
        engine=config.engine or _engine(row, how.engine),
        batch_size=1,
    )
    digest = weights_digest(config.teacher)
    form = TeacherFormat(load_tokenizer(config.teacher), STYLES[how.tags])
    problem = Problem(question=row.question, solution=row.solution, answer=row.answer)
    task = Task(problem, row.sample, how.seed, form.prompt_ids(row.question, row.solution))
    with closing(
        open_engine(config.teacher, _as_precise(config, row), sampling, len(task.prompt_ids), logps=False)
    ) as engine:
        [task] = refuse_too_long([task], engine.context_tokens)
        if task.error is not None:
            raise ConfigError(f"row {row.id!r}: {task.error}")
        byline = Byline(config.teacher, digest, how.tags, how.temperature, provenance(engine, form, sampling))
        return row_maker(form, byline)(task, *sample_tasks(engine, [task], sampling))


def _engine(row: Explanation, name: str) -> EngineName:
    if name not in get_args(EngineName):
        raise ConfigError(f"row {row.id!r} was sampled by {name!r}, which is not known here; give --engine")
    return cast("EngineName", name)


def _as_precise(config: ReplayConfig, row: Explanation) -> ModelSettings:
    """The settings with the row's own precision, where it has one and none is asked for."""
    made = row.provenance.precision if row.provenance is not None else None
    return config.model_copy(update={"dtype": made}) if config.dtype == "auto" and made in PRECISIONS else config


def report(replay: Replay) -> Iterator[str]:
    """The comparison for people."""
    found = replay.difference
    yield f"{replay.row}: {'the same' if replay.matches else 'NOT the same'}, {_sizes(replay)}"
    if found is not None:
        yield f"  first difference at token {found.token}, character {found.character}"
        yield f"  then: {found.then!r}"
        yield f"  now:  {found.now!r}"
    if replay.causes:
        yield "  differs from what the row says of its making:" if replay.matches else "  likely causes:"
        yield from (f"    {cause}" for cause in replay.causes)


def _sizes(replay: Replay) -> str:
    if replay.matches:
        return f"{replay.tokens} tokens"
    ends = {True: "closed", False: "not closed"}
    then, now = (replay.tokens, ends[replay.closed]), (replay.tokens_now, ends[replay.closed_now])
    return f"{then[0]} tokens, {then[1]}, then and {now[0]} tokens, {now[1]}, now"
