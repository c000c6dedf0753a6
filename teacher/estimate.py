"""`rlt estimate`: what `rlt explain` will take with these settings, measured on a small random pilot of the problems.

    problems ─> a seeded draw of 1 % ─> explained in batches of several sizes, timed ─> estimates.py ─> a table, a file

The pilot's rows have the seeds that they will have in the job, so they are a sample of its very rows; nothing of them
is kept. With a student they are scored too, as `rlt score` does. Left out: going on from the pilot's rows in the job.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from student.configs import SamplingSettings
from student.engine import Engine, Sample, open_engine
from student.errors import OutputError
from student.estimates import (
    SHORT_SECONDS,
    Batch,
    Estimate,
    Quantity,
    batch_sizes,
    draw,
    interval,
    packed,
    pilot_size,
    reading_time,
    repeats,
    shown,
    total,
    writing_time,
)
from student.explanations import SCHEMA, Explanation
from student.models import load_tokenizer, weights_digest
from student.problem_files import read_problems, whole_file
from student.problems import Problem
from student.row_file import RowFile
from student.sampling import Task, longest_prompt, refuse_too_long, sample_tasks
from student.tags import STYLES
from teacher.configs import EstimateConfig, ScoreConfig
from teacher.explain import Byline, plan_explanations, provenance, row_maker
from teacher.prompts import TeacherFormat
from teacher.score import Reader, load_reward_model, score_rows

RowMaker = Callable[[Task, Sample], Explanation]
WARM_UP_TOKENS = 2
"""Sampled once before the batches: what is compiled or cached at first comes once in a job, too."""


def main(config: EstimateConfig) -> None:
    """Carries out `rlt estimate`; raises RltError where something must be mended first."""
    if config.out is not None and Path(config.out).suffix != ".json":
        raise OutputError(f"{config.out}: an estimate is written as .json; name the file so")
    problems = list({problem.id: problem for problem in read_problems(config, STYLES[config.tags])}.values())
    size = pilot_size(len(problems), config.pilot.share, config.pilot.at_least, config.pilot.at_most)
    chosen = [problems[place] for place in draw(len(problems), size, config.pilot.seed)]
    digest = weights_digest(config.teacher)
    pilot = run_pilot(config, chosen, digest)
    scoring = None if config.student is None else score_pilot(config, config.student, pilot)
    estimate = estimated(config, pilot, len(problems), digest, scoring)
    print(table(estimate))
    if config.out is not None:
        with whole_file(Path(config.out)) as file:
            file.write(estimate.model_dump_json(indent=2) + "\n")


@dataclass
class Pilot:
    """What was made of the pilot's problems, and how long each batch of rows took."""

    samples: int
    file: RowFile
    """Where rows are written, as the job writes them; it is gone afterwards."""
    start_seconds: float = 0
    """What the first call of the engine took, in which things are compiled and cached."""
    rows: list[Explanation] = field(default_factory=list)
    """`samples` a problem, in order."""
    lengths: list[int] = field(default_factory=list)
    """Tokens sampled a row, those behind the end tag too."""
    batches: list[Batch] = field(default_factory=list)

    def timed(
        self, engine: Engine, tasks: Sequence[Task], sampling: SamplingSettings, make_row: RowMaker
    ) -> list[tuple[Sample, Explanation]]:
        """The samples of one batch and their rows; the time is taken in which they are made and put on the disk."""
        started = time.perf_counter()
        samples = sample_tasks(engine, tasks, sampling)
        rows = list(map(make_row, tasks, samples))
        self.file.append(rows)
        self.batches.append(Batch(time.perf_counter() - started, tuple(len(sample.token_ids) for sample in samples)))
        return list(zip(samples, rows, strict=True))

    @property
    def lengths_KG(self) -> list[list[int]]:
        """The lengths by problem."""
        return self.by_problem(self.lengths)

    @property
    def texts_KG(self) -> list[list[int]]:
        """Tokens of the explanations, by problem."""
        return self.by_problem([len(row.token_ids or ()) for row in self.rows])

    def by_problem(self, per_row: Sequence[int]) -> list[list[int]]:
        """What was measured of rows, a list a problem."""
        return [list(per_row[start : start + self.samples]) for start in range(0, len(per_row), self.samples)]


def run_pilot(config: EstimateConfig, chosen: Sequence[Problem], digest: str) -> Pilot:
    """Explains the chosen problems as `rlt explain` would, with a clock; shows progress."""
    form = TeacherFormat(load_tokenizer(config.teacher), STYLES[config.tags])
    tasks = plan_explanations(form, chosen, config.samples, config.sampling.seed)
    with (
        TemporaryDirectory() as folder,
        closing(open_engine(config.teacher, config, config.sampling, longest_prompt(tasks), logps=False)) as engine,
    ):
        pilot = Pilot(config.samples, RowFile(Path(folder) / "rows.jsonl", SCHEMA))
        tasks = refuse_too_long(tasks, engine.context_tokens)
        made = provenance(engine, form, config.sampling)
        make_row = row_maker(form, Byline(config.teacher, digest, config.tags, config.sampling.temperature, made))
        pilot.start_seconds = _warm_up(engine, tasks, config)
        _explain(pilot, engine, tasks, config.sampling, make_row)
    return pilot


def _explain(
    pilot: Pilot, engine: Engine, tasks: Sequence[Task], sampling: SamplingSettings, make_row: RowMaker
) -> None:
    with tqdm(total=len(tasks), desc="pilot", unit="row") as bar:
        for batch in cut(tasks, sampling.batch_size):
            for sample, row in pilot.timed(engine, batch, sampling, make_row):
                pilot.rows.append(row)
                pilot.lengths.append(len(sample.token_ids))
            bar.update(len(batch))
    for size in repeats(sampling.batch_size):
        if sum(each.seconds for each in pilot.batches) > SHORT_SECONDS:
            break
        pilot.timed(engine, [tasks[place % len(tasks)] for place in range(size)], sampling, make_row)


def _warm_up(engine: Engine, tasks: Sequence[Task], config: EstimateConfig) -> float:
    """Seconds of the engine's first call."""
    short, started = min(WARM_UP_TOKENS, config.sampling.max_tokens), time.perf_counter()
    sample_tasks(engine, tasks[:1], config.sampling.model_copy(update={"max_tokens": short}))
    return time.perf_counter() - started


def cut(tasks: Sequence[Task], longest: int) -> list[Sequence[Task]]:
    """The tasks in batches of several sizes."""
    borders = [0]
    for size in batch_sizes(len(tasks), longest):
        borders.append(borders[-1] + size)
    return [tasks[start:stop] for start, stop in pairwise(borders)]


@dataclass(frozen=True)
class Scoring:
    """The pilot's rows scored, and how long that took."""

    rows: list[Explanation]
    batches: list[Batch]


def score_pilot(config: EstimateConfig, student: str, pilot: Pilot) -> Scoring:
    """The rows as `rlt score` would score them, with a clock."""
    settings = ScoreConfig(
        traces="the pilot", student=student, teacher=config.teacher, out="unused.jsonl", tags=config.tags,
        device=config.device, dtype=config.dtype, threads=config.threads,
    )  # fmt: skip
    model, reader = load_reward_model(settings), Reader(student, weights_digest(student), settings.measures)
    scored: list[Explanation] = []
    batches: list[Batch] = []
    score_rows(model, pilot.rows[:1], reader)
    for size in tqdm(batch_sizes(len(pilot.rows), len(pilot.rows)), desc="scored", unit="batch"):
        some = pilot.rows[len(scored) : len(scored) + size]
        started = time.perf_counter()
        scored.extend(score_rows(model, some, reader))
        batches.append(Batch(time.perf_counter() - started, tuple(len(row.token_ids or ()) for row in some)))
    return Scoring(scored, batches)


def estimated(
    config: EstimateConfig, pilot: Pilot, problems: int, digest: str, scoring: Scoring | None = None
) -> Estimate:
    """The totals of the job, from its pilot."""
    tokens = [sum(lengths) for lengths in pilot.texts_KG]
    seconds = pilot.start_seconds + sum(batch.seconds for batch in pilot.batches)
    writing = writing_time(pilot.batches, pilot.lengths_KG, problems, config.sampling.batch_size)
    return Estimate(
        problems=problems,
        pilot_problems=len(pilot.lengths_KG),
        rows=problems * config.samples,
        tokens=total(tokens, problems),
        seconds=writing.plus(pilot.start_seconds),
        bytes=on_disk(pilot, pilot.rows, problems, config.form),
        score_seconds=None if scoring is None else reading_time(scoring.batches, pilot.texts_KG, problems),
        scored_bytes=None if scoring is None else on_disk(pilot, scoring.rows, problems, config.form),
        pilot_tokens=sum(tokens),
        pilot_seconds=seconds,
        teacher_digest=digest,
        rows_at_a_time=config.sampling.batch_size,
        remarks=tuple(_remarks(config, pilot)),
    )


def _remarks(config: EstimateConfig, pilot: Pilot) -> list[str]:
    remarks = []
    largest = max(len(batch.lengths) for batch in pilot.batches)
    if largest < config.sampling.batch_size:
        remarks.append(
            f"the pilot's largest batch holds {largest} rows and the job's {config.sampling.batch_size}: the time is "
            "read off the fit, not measured; a larger --pilot.at-least measures it"
        )
    if failed := sum(row.error is not None for row in pilot.rows):
        remarks.append(f"{failed} of the pilot's {len(pilot.rows)} rows are impossible (too long); they count as empty")
    return remarks


def on_disk(pilot: Pilot, rows: Sequence[Explanation], problems: int, form: str) -> Quantity:
    """Bytes of the finished file; of Parquet by the pilot's own share of its JSONL."""
    lines = [len(row.model_dump_json().encode()) + 1 for row in rows]
    found = total([sum(each) for each in pilot.by_problem(lines)], problems)
    if form == "jsonl":
        return found
    empty, full = _parquet_bytes([]), _parquet_bytes(rows)
    return packed(found, (full - empty) / sum(lines), empty)


def _parquet_bytes(rows: Sequence[Explanation]) -> int:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], SCHEMA), path, compression="zstd")
        return path.stat().st_size


def table(estimate: Estimate) -> str:
    """The estimate for people."""
    lines = [
        f"{estimate.problems:,} problems, {estimate.rows:,} rows; pilot of {estimate.pilot_problems:,} problems: "
        f"{estimate.pilot_tokens:,} tokens in {shown(estimate.pilot_seconds, 'seconds')}",
        f"{'':<14}{'estimate':>14}   95 % interval",
    ]
    for name, quantity, unit in (
        ("tokens", estimate.tokens, "tokens"),
        ("time", estimate.seconds, "seconds"),
        ("disk", estimate.bytes, "bytes"),
        ("time to score", estimate.score_seconds, "seconds"),
        ("disk, scored", estimate.scored_bytes, "bytes"),
    ):
        if quantity is not None:
            lines.append(f"{name:<14}{shown(quantity.value, unit):>14}   {interval(quantity, unit)}")
    for remark in estimate.remarks:
        print(f"rlt: {remark}", file=sys.stderr)
    return "\n".join(lines)
