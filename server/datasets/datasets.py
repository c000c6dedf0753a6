"""A dataset: every problem of a source explained `n` times by a durable job, scored and selected where asked for.

    source ─ prepare ─> jobs/ID/problems/*.parquet ─ run_unit ─> jobs/ID/shards/*.parquet ─> rows, exports

A row's own failure is a row with its `error`; a retry makes those anew and copies the others. Rows equal those of
`rlt explain` with the same seed, and their scores those of `rlt score`.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from server.datasets.estimates import against_estimate, check_rows
from server.datasets.further import FurtherSamples, check_share, share
from server.datasets.selection import read_held_out, rules_of, select_shards, selected, store_held_out
from server.datasets.shards import UNIT_ROWS, UNIT_TOKENS, read_table, rows_of, write_rows
from server.datasets.sources import ProblemReader, open_file, open_source, problem_lines
from server.errors import ApiError, EngineRefused, NotFound, ServerError
from server.jobs.jobs import JobRejected, Jobs, Prepared, Progress, UnitOutcome, job_folder
from server.jobs.unit_inputs import Item, UnitInputs
from server.state.files import Files
from server.state.storage import Storage
from server.state.tables import TERMINAL, Job, Unit
from server.teaching.explaining import Ask, explain, failed
from server.teaching.teachers import Teachers
from server.teaching.understanding import Student
from server.together import together
from server.wire import Counts, Dataset, DatasetRequest, ProblemBody
from student.curation.contamination import Question, questions_of
from student.curation.selection import Rules
from student.engine import sample_seed
from student.errors import ConfigError, ProblemError, ScoringError
from student.explanations import Explanation
from student.problems import Problem
from student.tags import STYLES, TagStyle

PROBLEM_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "question", "solution", "answer", "license")])
SELECTION = "selection"
"""Under which the report of the selection is in a job's result."""
T = TypeVar("T")
Key = tuple[str, int]
"""A row among those of its dataset: problem and number of the sample."""


class DatasetSpec(BaseModel):
    """A request as it was resolved when the job was made: workers with other settings make the same rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: DatasetRequest
    """Without the problems of its body, which are in storage."""
    inline: bool
    """Whether they are there."""
    model: str
    tags: TagStyle
    unit_problems: int
    local_sources: bool

    @classmethod
    def of(cls, job: Job) -> "DatasetSpec":
        """The spec of a dataset job."""
        return cls.model_validate(job.spec, context={"stored": True})


def dataset_spec(request: DatasetRequest, model: str, tags: TagStyle, unit_problems: int, local: bool) -> DatasetSpec:
    """The spec of a new job; a unit has no more problems than make UNIT_ROWS rows, or UNIT_TOKENS tokens."""
    most = min(UNIT_ROWS, UNIT_TOKENS // request.sampling.max_tokens)
    return DatasetSpec(
        request=request.model_copy(update={"problems": None}),
        inline=request.problems is not None,
        model=model,
        tags=tags,
        unit_problems=max(1, min(unit_problems, most // request.most_samples)),
        local_sources=local,
    )


def described(job: Job, progress: Progress) -> Dataset:
    """The dataset as callers see it."""
    request = DatasetSpec.of(job).request
    # A retry keeps the report of the round before until it has its own.
    selection = job.result.get(SELECTION) if job.status in TERMINAL else None
    return Dataset(
        id=job.id,
        name=request.name,
        purpose=request.purpose,
        status=job.status,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        counts=Counts(
            total=None if job.items is None else max(progress.rows, job.items * request.samples),
            done=progress.rows,
            failed=progress.failed,
            dropped=progress.dropped if selection is None else sum(selection["dropped"].values()),
            tokens=progress.tokens,
        ),
        rows_per_second=progress.rows_per_second,
        eta_seconds=progress.eta_seconds,
        errors=progress.errors,
        error=job.error,
        intake=job.result.get("intake", {}),
        selection=selection,
        against_estimate=against_estimate(request, job, progress),
        request=request,
    )


def inline_path(job_id: str) -> str:
    """Where in storage the problems of a request's body are."""
    return f"{job_folder(job_id)}/problems.jsonl"


async def store_problems(storage: Storage, job_id: str, problems: Sequence[ProblemBody]) -> None:
    """Writes the problems of a request's body, to be read by `prepare`."""

    await storage.write_whole(inline_path(job_id), lambda file: file.writelines(problem_lines(problems)))


@dataclass(frozen=True)
class Made:
    """A row, and of which kind its failure is."""

    row: Explanation
    failure: str | None = None


class DatasetKind:
    """What a job does that makes a dataset."""

    name = "dataset"

    def __init__(
        self, storage: Storage, files: Files, jobs: Jobs, teachers: Teachers | None, student: Student | None
    ) -> None:
        self._storage = storage
        self._files = files
        self._jobs = jobs
        self._rules: tuple[str, Rules] | None = None
        self._teachers = teachers
        self._student = student

    async def prepare(self, job: Job) -> Prepared:
        """Reads the source once and stores its problems by units; raises JobRejected where it cannot be used."""
        spec = DatasetSpec.of(job)
        reader: ProblemReader | None = None
        try:
            with tempfile.TemporaryDirectory() as folder:
                stored = self._storage.stream(inline_path(job.id))
                rows = await open_source(spec.request, stored, self._files, Path(folder), spec.local_sources)
                reader = ProblemReader(rows, spec.request.columns, STYLES[spec.tags])
                problems = reader.read(spec.request.limit, spec.request.skip_invalid)
                items = await self._inputs(job).write(map(_stored, problems))
                await self._keep_held_out(job, spec, Path(folder))
        except (ProblemError, ConfigError, NotFound) as error:
            intake = {"intake": reader.summary()} if reader else {}
            raise JobRejected(str(error), intake) from error
        check_rows(spec.request, items)
        check_share(spec.request, min(spec.unit_problems, items), items)
        return Prepared(self._inputs(job).units(items), items, {"intake": reader.summary()})

    async def run_unit(self, job: Job, number: int, previous: Unit | None, shard_path: str) -> UnitOutcome:
        """Makes the unit's rows, all by the same weights, and writes its shard; rows of `previous` that did not fail
        are copied."""
        spec = DatasetSpec.of(job)
        problems = await self._problems(job, number)
        kept = await self._kept(previous)
        rules, tokens = await self._rules_of(job), _share(job, len(problems))
        made = await unmixed(self._the_teachers, lambda: self.make(spec, problems, kept, rules, tokens), spec.model)
        rows = [each.row for each in made]
        await self._storage.write_whole(shard_path, lambda file: write_rows(file, rows))
        return _outcome(made)

    def unit_rows(self, job: Job, number: int) -> int:
        """Rows of a unit: its problems times the samples."""
        assert job.items is not None, "a unit is run once the input was read"
        return self._inputs(job).unit_items(number, job.items) * DatasetSpec.of(job).request.samples

    async def finish(self, job: Job, cancelled: bool) -> dict[str, Any]:
        """The shards are the dataset; where rows may be dropped they are judged once more, all together."""
        if not DatasetSpec.of(job).request.selects:
            return job.result
        report = await select_shards(self._jobs, self._storage, job.id, await self._rules_of(job))
        return job.result | {SELECTION: report.model_dump(mode="json")}

    async def failed_unit(self, job: Job, number: int, reason: str) -> list[Explanation]:
        """The rows of a unit that failed as a whole, and so has no shard."""
        spec = DatasetSpec.of(job)
        asks = [_ask(spec, problem, _samples(spec)) for problem in await self._problems(job, number)]
        why = f"its unit failed: {reason}"
        return [made.row for ask in asks for made in _all_failed(ask, spec, why, "unit_failed")]

    @property
    def _the_teachers(self) -> Teachers:
        if self._teachers is None:
            raise ServerError("this worker has no teacher (engine 'none') and cannot make datasets; give it one")
        return self._teachers

    def _inputs(self, job: Job) -> UnitInputs:
        unit_problems = DatasetSpec.of(job).unit_problems
        return UnitInputs(self._storage, f"{job_folder(job.id)}/problems", PROBLEM_SCHEMA, unit_problems)

    async def _keep_held_out(self, job: Job, spec: DatasetSpec, folder: Path) -> None:
        """Stores the questions of the test sets, which may be deleted before the dataset is made."""
        if spec.request.contamination.file_ids:
            await store_held_out(self._storage, job.id, await read_tests(self._files, spec.request, folder))

    async def _rules_of(self, job: Job) -> Rules:
        """By which rows are kept; those of the last job that was asked for are remembered."""
        if self._rules is None or self._rules[0] != job.id:
            request = DatasetSpec.of(job).request
            tests = request.contamination
            held_out = await read_held_out(self._storage, job.id, tests.words) if tests.file_ids else None
            self._rules = job.id, rules_of(request, held_out)
        return self._rules[1]

    async def _problems(self, job: Job, number: int) -> list[Problem]:
        items = await self._inputs(job).read(number)
        return [_problem(item) for item in items]

    async def _kept(self, previous: Unit | None) -> Mapping[Key, Explanation]:
        if previous is None or previous.shard is None:
            return {}
        data = await self._storage.read(previous.shard)
        rows = await asyncio.to_thread(lambda: rows_of(read_table(BytesIO(data))))
        return {(row.problem_id, row.sample): row for row in rows if row.error is None}

    async def make(
        self, spec: DatasetSpec, problems: Sequence[Problem], kept: Mapping[Key, Explanation], rules: Rules, tokens: int
    ) -> list[Made]:
        """The rows of a unit of these problems, one by one, selected; `tokens` are for further samples of those that
        need them."""
        groups = await together([self._of_problem(spec, problem, kept, _samples(spec)) for problem in problems])
        more = FurtherSamples(spec.request, problems, tokens)
        while due := more.due([[made.row for made in group] for group in groups]):
            further = await together([
                self._of_problem(spec, problems[place], kept, [number]) for place, number in due
            ])  # fmt: skip
            for (place, _), made in zip(due, further, strict=True):
                groups[place].extend(made)
                more.spend([each.row for each in made])
        return [made for group in groups for made in _chosen(group, rules)]

    async def _of_problem(
        self, spec: DatasetSpec, problem: Problem, kept: Mapping[Key, Explanation], numbers: Sequence[int]
    ) -> list[Made]:
        """The rows of one problem that have these numbers, in order; those that are kept are not made."""
        old = [Made(kept[(problem.id, sample)]) for sample in numbers if (problem.id, sample) in kept]
        new = await self._explained(spec, problem, [each for each in numbers if (problem.id, each) not in kept])
        return sorted([*old, *new], key=lambda made: made.row.sample)

    async def _explained(self, spec: DatasetSpec, problem: Problem, samples: Sequence[int]) -> list[Made]:
        """New rows, scored where that is asked for. The boundary of a problem: its failure is its rows'."""
        if not samples:
            return []
        ask = _ask(spec, problem, samples)
        if spec.request.purpose == "cold_start" and problem.answer is None:
            reason = "no answer that can be verified, in a column or stated by the solution; cold_start needs one"
            return _all_failed(ask, spec, reason, "no_answer")
        try:
            rows = await explain(self._the_teachers, ask, self._scorer(spec), spec.request.measuring)
        except (ApiError, EngineRefused, ScoringError) as error:
            return _all_failed(ask, spec, str(error), getattr(error, "code", "engine_refused"))
        return [Made(row) for row in rows]

    def _scorer(self, spec: DatasetSpec) -> Student | None:
        if not spec.request.scored:
            return None
        if self._student is None:
            raise ServerError("this worker has no student and cannot score; start it with --student or --scorer-url")
        return self._student


async def read_tests(files: Files, request: DatasetRequest, folder: Path) -> list[Question]:
    """The questions of the test sets that the request names; copies of the files are made in `folder`."""
    sources = [await open_file(files, file_id, folder) for file_id in request.contamination.file_ids]
    return await asyncio.to_thread(lambda: [each for source in sources for each in questions_of(source)])


async def unmixed(teachers: Teachers, make: Callable[[], Awaitable[T]], model: str | None = None) -> T:
    """What `make` returns, made again where weights were exchanged meanwhile: those of `model`, or any."""

    async def stamp() -> list[tuple[str, int, str]]:
        return [entry for entry in await teachers.stamp() if model is None or entry[0] in (teachers.default, model)]

    while True:
        before = await stamp()
        made = await make()
        if await stamp() == before:
            return made


def _chosen(group: Sequence[Made], rules: Rules) -> list[Made]:
    rows = selected([made.row for made in group], rules)
    return [Made(row, made.failure) for row, made in zip(rows, group, strict=True)]


def _samples(spec: DatasetSpec) -> range:
    return range(spec.request.samples)


def _share(job: Job, problems: int) -> int:
    """Tokens for further samples that fall to a unit of so many problems."""
    assert job.items is not None, "a unit is run once the input was read"
    return share(DatasetSpec.of(job).request, problems, job.items)


def _stored(problem: Problem) -> Item:
    return {name: getattr(problem, name) for name in PROBLEM_SCHEMA.names}


def _problem(item: Item) -> Problem:
    """As it was stored; those of an earlier version have no licence."""
    named = item.get("license")
    metadata = {} if named is None else {"license": named}
    return Problem(question=item["question"], solution=item["solution"], answer=item["answer"], metadata=metadata)


def _ask(spec: DatasetSpec, problem: Problem, samples: Sequence[int]) -> Ask:
    sampling = spec.request.sampling
    return Ask(
        question=problem.question,
        solution=problem.solution,
        answer=problem.answer,
        license=problem.license or spec.request.license,
        samples=len(samples),
        numbers=samples,
        seeds=[sample_seed(spec.request.seed, problem.id, sample) for sample in samples],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        tags=spec.tags,
        model=spec.model,
    )


def _all_failed(ask: Ask, spec: DatasetSpec, reason: str, failure: str) -> list[Made]:
    return [Made(row, failure) for row in failed(ask, spec.tags, reason)]


def _outcome(made: Sequence[Made]) -> UnitOutcome:
    return UnitOutcome(
        rows=len(made),
        failed=sum(each.row.error is not None for each in made),
        dropped=sum(each.row.error is None and each.row.dropped is not None for each in made),
        tokens=sum(len(each.row.token_ids or ()) for each in made),
        errors=dict(Counter(each.failure for each in made if each.failure is not None)),
    )
