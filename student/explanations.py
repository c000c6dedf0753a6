"""Explanations as rows: what a teacher wrote for a problem, and later what the reward says of it.

`rlt explain` writes these rows, `rlt score` fills in their scores, `rlt distill` trains on them; each reads JSONL or
Parquet. A trace of any origin enters the chain here too, as a problem row with a `reasoning_trace`, and so do a model's
own solutions from `rlt evaluate`, of which the right ones count (rejection sampling, arXiv 2308.01825). A row that
could not be made is a row with its `error`: data, so that its siblings go on.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from student import processes
from student.errors import ProblemError
from student.measures.results import MEASURES_SCHEMA, Measures
from student.problem_files import Intake, SideFile
from student.problems import Problem
from student.provenance import PROVENANCE_SCHEMA, Provenance
from student.row_layouts import BadRow, RowReader
from student.rows import open_rows, shown
from student.tags import Tags, TagStyle


class Score(BaseModel):
    """The reward of one explanation and its parts (method.md 3); those of rKL are None where there was no teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reward: float
    rss: float
    ss_mean: float
    ss_min: float
    rkl: float | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    unclosed_penalty: float = 0.0
    """What a missing end tag cost; it is contained in the reward."""
    notes: tuple[str, ...] = ()
    """What was out of the ordinary and how it was scored: an empty explanation, a cut one."""


class Verdict(BaseModel):
    """What one filter said of a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: str
    """Its name: a bound (`at_least.reward`), closed, finished, best_of, duplicates, contamination."""
    kept: bool
    detail: str | None = None
    """The value it saw and the bound, or what the row is a copy of."""


class Explanation(BaseModel):
    """What a teacher wrote for sample number `sample` of a problem: one row.

    `explanation` is the text before the first end tag, untouched; `token_ids` are the very tokens that were sampled, in
    the teacher's vocabulary (None for a trace that was read as text).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    """`problem_id-sample`; computed, whatever a file says."""
    problem_id: str
    sample: int = Field(ge=0)
    question: str = Field(min_length=1)
    solution: str = Field(min_length=1)
    answer: str | None = None
    explanation: str
    token_ids: tuple[int, ...] | None = None
    closed: bool
    """The end tag was reached."""
    finished: bool
    """The teacher ended by itself; False: cut by max_tokens or its context."""
    teacher: str | None = None
    teacher_digest: str | None = None
    """Of the teacher's weights (student.models.weights_digest)."""
    seed: int | None = None
    temperature: float | None = None
    tags: TagStyle | None = None
    error: str | None = None
    """Why there is no explanation; None where there is one."""
    score: Score | None = None
    unscored: str | None = None
    """Why `rlt score` could not score it; another student may."""
    student: str | None = None
    """Who scored and measured it."""
    student_digest: str | None = None
    """Of that student's weights."""
    measures: Measures | None = None
    provenance: Provenance | None = None
    license: str | None = None
    """Of the problem, as its source names it."""
    verdicts: tuple[Verdict, ...] = ()
    """What each filter said, in the order in which they were asked; empty where nothing was selected."""
    dropped: str | None = None
    """Why it is not among the rows to train on although it could be made."""

    @property
    def kept(self) -> bool:
        """It is a row to train on."""
        return self.error is None and self.dropped is None

    @model_validator(mode="before")
    @classmethod
    def _compute_id(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**values, "id": f"{values.get('problem_id')}-{values.get('sample')}"}


def from_trace(problem: Problem) -> Explanation:
    """A problem's own reasoning trace as its explanation number 0."""
    assert problem.reasoning_trace is not None, "only problems that have a trace are turned into explanations"
    return Explanation(
        problem_id=problem.id,
        sample=0,
        question=problem.question,
        solution=problem.solution,
        answer=problem.answer,
        explanation=problem.reasoning_trace,
        closed=True,
        finished=True,
    )


def read_explanations(
    source: str, tags: Tags, skip_invalid: bool = False, aside: Path | None = None
) -> list[Explanation]:
    """The explanations of a source in their order, each id once: rows of our own verbs, or problems with a trace.

    Rows that carry an `error`, or that a selection dropped, are among them. Bad rows raise ProblemError, which names
    the first of them, unless `skip_invalid`: then they are written to `aside` (JSONL: line, reason, row) and counted
    on stderr.
    """
    return list(stream_explanations(source, tags, skip_invalid, aside))


def stream_explanations(
    source: str,
    tags: Tags,
    skip_invalid: bool = False,
    aside: Path | None = None,
    again: bool = False,
    seen: set[int] | None = None,
) -> Iterator[Explanation]:
    """What read_explanations reads, one row after another; of those that were there a hash of the id is kept in `seen`.

    Whether bad rows stop the work is known at the end, and raised there. Read `again`, nothing is said of them.
    """
    opened = open_rows(source)
    intake = Intake(opened.name, opened.form)
    reader = RowReader({}, tags)
    seen = set() if seen is None else seen
    kept = 0
    with ExitStack() as outputs:
        side_file = SideFile(aside if skip_invalid else None, outputs)
        for number, row in opened.rows:
            intake.rows += 1
            try:
                explanation = _explanation_of(row, reader, tags)
            except BadRow as bad:
                intake.leave_out(number, str(bad))
                side_file.add(number, str(bad), row)
                continue
            key = hash(explanation.id)
            intake.duplicates += key in seen
            if key not in seen:
                seen.add(key)
                kept += 1
                yield explanation
    _check(intake, kept, skip_invalid)
    for remark in () if again else intake.remarks(aside):
        processes.tell(f"rlt: {remark}")


def _explanation_of(row: Mapping[str, Any] | str, reader: RowReader, tags: Tags) -> Explanation:
    if isinstance(row, str):
        raise BadRow(row)
    if {"problem_id", "explanation"} <= row.keys():
        return _own_row(row)
    if {"problem_id", "text", "correct"} <= row.keys():
        return _own_attempt(row, tags)
    problem = reader.problem(row)
    if problem.reasoning_trace is None:
        raise BadRow(f"neither an explanation of ours nor a problem with a reasoning_trace (columns: {', '.join(row)})")
    return from_trace(problem)


def _own_row(row: Mapping[str, Any]) -> Explanation:
    try:
        return Explanation.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise BadRow(f"{field}: {first['msg']}, got {shown(first['input'])}") from error


def _own_attempt(row: Mapping[str, Any], tags: Tags) -> Explanation:
    """A solution of `rlt evaluate`: its thought is an explanation by somebody who had to find the solution alone."""
    thought, closed, _ = str(row["text"]).partition(tags.thought_close.strip())
    same = {name: row.get(name) for name in ("problem_id", "sample", "question", "answer", "seed", "finished")}
    return _own_row(
        {
            **same,
            "solution": row.get("solution") or row.get("answer"),
            "explanation": thought.removeprefix(tags.thought_open.strip()).lstrip(),
            "closed": bool(closed),
            "teacher_digest": row.get("digest"),
            "error": row.get("error") or (None if row["correct"] else "the solution is wrong"),
        }
    )


def _check(intake: Intake, kept: int, skip_invalid: bool) -> None:
    if not intake.rows:
        raise ProblemError(f"{intake.name}: no rows in it; check that it is the right file, and was written whole")
    if intake.bad and not (skip_invalid and kept):
        remedy = "mend them" if skip_invalid else "mend them, or leave them out with --skip-invalid"
        raise ProblemError(f"{intake.bad} of {intake.rows} rows cannot be used: {intake.bad_rows()}; {remedy}")


SCORE_SCHEMA = pa.struct(
    [
        *((name, pa.float64()) for name in ("reward", "rss", "ss_mean", "ss_min", "rkl", "kl_mean", "kl_max")),
        ("unclosed_penalty", pa.float64()),
        ("notes", pa.list_(pa.string())),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("problem_id", pa.string()),
        ("sample", pa.int64()),
        ("question", pa.string()),
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("explanation", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("closed", pa.bool_()),
        ("finished", pa.bool_()),
        ("teacher", pa.string()),
        ("teacher_digest", pa.string()),
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("tags", pa.string()),
        ("error", pa.string()),
        ("score", SCORE_SCHEMA),
        ("unscored", pa.string()),
        ("student", pa.string()),
        ("student_digest", pa.string()),
        ("measures", MEASURES_SCHEMA),
        ("provenance", PROVENANCE_SCHEMA),
        ("license", pa.string()),
        ("verdicts", pa.list_(pa.struct([("filter", pa.string()), ("kept", pa.bool_()), ("detail", pa.string())]))),
        ("dropped", pa.string()),
    ]
)
"""The columns of Explanation in Parquet."""
