"""A batch: every line of a file is a request; outcomes go to an output and an error file. OpenAI's, over the same jobs.

    file ─ prepare ─> jobs/ID/lines/*.parquet ─ run_unit ─> jobs/ID/shards/*.parquet ─ finish ─> output, error file

A file with a line that is no request is refused whole, before any work. A request that fails is an outcome in the error
file, as its HTTP answer would have been. Every line of a batch that ended ends in one of the two files, also one that
was never run.
"""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from server.batches.batch_lines import (
    LINE_SCHEMA,
    NEVER,
    OUTCOME_SCHEMA,
    LineReader,
    Outcome,
    Results,
    never_run,
    response_line,
)
from server.configs import Limits
from server.datasets.datasets import unmixed
from server.datasets.shards import read_table, write_table
from server.errors import ApiError, EngineRefused, NotFound, ServerError
from server.jobs.jobs import JobRejected, Jobs, Prepared, Progress, UnitOutcome, job_folder
from server.jobs.unit_inputs import Item, UnitInputs
from server.state.files import Files
from server.state.storage import Storage
from server.state.tables import Job, Unit
from server.teaching.explaining import asked, check_scoring, explain_prompt, prompt, response
from server.teaching.teachers import Teachers
from server.teaching.understanding import Student
from server.together import together
from server.web.openai_objects import (
    Batch,
    BatchError,
    BatchErrors,
    BatchUsage,
    ChatRequest,
    Endpoint,
    RequestCounts,
    chat_completion,
)
from server.web.problems import as_api_error, complaint, status_of
from server.wire import ExplanationRequest, Usage
from student.errors import ScoringError

WINDOW_SECONDS = 24 * 3600
OUTPUT_SECONDS = 30 * 24 * 3600


class BatchSpec(BaseModel):
    """A request as it was resolved when the job was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: Endpoint
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None
    unit_lines: int
    limits: Limits
    output_file_id: str
    """Noted beforehand, so that files which are made twice are one."""
    error_file_id: str
    output_seconds: int
    """After which both expire."""

    @classmethod
    def of(cls, job: Job) -> "BatchSpec":
        """The spec of a batch job."""
        return cls.model_validate(job.spec)


class BatchKind:
    """What a job does that is a batch."""

    name = "batch"

    def __init__(
        self, storage: Storage, files: Files, jobs: Jobs, teachers: Teachers | None, student: Student | None
    ) -> None:
        self._storage = storage
        self._files = files
        self._jobs = jobs
        self._teachers = teachers
        self._student = student

    async def prepare(self, job: Job) -> Prepared:
        """Checks every line and stores the requests by units; raises JobRejected with what is wrong."""
        spec = BatchSpec.of(job)
        try:
            file = await self._files.seekable(spec.input_file_id)
        except NotFound as error:
            raise _rejected([BatchError(code="file_not_found", line=None, message=str(error), param=None)]) from error
        with file:
            lines = LineReader(spec.endpoint, spec.limits.batch_lines)
            items = await self._inputs(job).write(lines.read(file))
        if lines.errors:
            raise _rejected(lines.errors)
        return Prepared(self._inputs(job).units(items), items)

    async def run_unit(self, job: Job, number: int, previous: Unit | None, shard_path: str) -> UnitOutcome:
        """Carries the unit's requests out, and writes an outcome a line."""
        spec = BatchSpec.of(job)
        lines = await self._inputs(job).read(number)
        teachers = self._the_teachers

        async def outcomes() -> list[Outcome]:
            return await together([self._carried_out(spec, line) for line in lines])

        made = await unmixed(teachers, outcomes)
        rows = [vars(outcome) for outcome in made]
        await self._storage.write_whole(shard_path, lambda file: write_table(file, rows, OUTCOME_SCHEMA))
        failures = Counter(outcome.failure for outcome in made if outcome.failure is not None)
        tokens = sum(outcome.completion_tokens for outcome in made)
        return UnitOutcome(len(made), failures.total(), tokens=tokens, errors=dict(failures))

    def unit_rows(self, job: Job, number: int) -> int:
        """Lines of a unit."""
        assert job.items is not None, "a unit is run once the input was read"
        return self._inputs(job).unit_items(number, job.items)

    async def finish(self, job: Job, cancelled: bool) -> dict[str, Any]:
        """Writes output and error file, and notes which of them there are; again, it makes the same files."""
        spec = BatchSpec.of(job)
        with tempfile.TemporaryDirectory() as folder:
            results = Results(Path(folder))
            async for outcomes in self._all_outcomes(job, cancelled):
                await asyncio.to_thread(results.add, outcomes)
            output = await self._keep(spec, spec.output_file_id, f"{job.id}_output.jsonl", results.output)
            error = await self._keep(spec, spec.error_file_id, f"{job.id}_error.jsonl", results.error)
        return job.result | {"output_file_id": output, "error_file_id": error, "usage": results.usage}

    @property
    def _the_teachers(self) -> Teachers:
        if self._teachers is None:
            raise ServerError("this worker has no teacher (engine 'none') and cannot make batches; give it one")
        return self._teachers

    def _inputs(self, job: Job) -> UnitInputs:
        spec = BatchSpec.of(job)
        return UnitInputs(self._storage, f"{job_folder(job.id)}/lines", LINE_SCHEMA, spec.unit_lines)

    async def _carried_out(self, spec: BatchSpec, line: Item) -> Outcome:
        """The boundary of a line: its failure is its outcome. An engine that does not answer is no failure of its."""
        try:
            body, usage = await self._answer(spec, json.loads(line["body"]))
        except (ApiError, EngineRefused, ScoringError, ValidationError) as error:
            told = _as_told(error)
            body = {"error": {"message": str(told), "type": told.type, "param": told.param, "code": told.code}}
            text = response_line(line, status_of(told, spec.endpoint), body)
            return Outcome(line["custom_id"], text, told.code)
        text = response_line(line, 200, body)
        return Outcome(line["custom_id"], text, None, usage.prompt_tokens, usage.completion_tokens)

    async def _answer(self, spec: BatchSpec, body: Any) -> tuple[dict[str, Any], Usage]:
        chat = spec.endpoint == "/v1/chat/completions"
        request = (
            ChatRequest.model_validate(body).explanation_request() if chat else ExplanationRequest.model_validate(body)
        )
        check_scoring(self._student, request.scored, request.ranking)
        made = await prompt(self._the_teachers, asked(request, spec.limits))
        rows = await explain_prompt(self._the_teachers, made, self._student if request.scored else None)
        answer = (chat_completion if chat else response)(request, made, rows)
        return answer.model_dump(mode="json"), answer.usage

    async def _all_outcomes(self, job: Job, cancelled: bool) -> AsyncIterator[list[Outcome]]:
        """The outcomes of every unit in order; lines without one get one that says why there is none."""
        expired = cancelled and job.expires_at is not None and (job.cancelling_at or 0) >= job.expires_at
        never = NEVER["expired" if expired else "cancelled" if cancelled else "failed"]
        units = _each_unit(self._jobs, job.id)
        unit = await anext(units, None)
        for number in range(job.units or 0):
            while unit is not None and unit.number < number:
                unit = await anext(units, None)
            if unit is not None and unit.number == number and unit.shard is not None:
                data = await self._storage.read(unit.shard)
                table = await asyncio.to_thread(read_table, BytesIO(data))
                yield [Outcome(**row) for row in table.to_pylist()]
            else:
                yield [never_run(line, *never) for line in await self._inputs(job).read(number)]

    async def _keep(self, spec: BatchSpec, file_id: str, name: str, path: Path) -> str | None:
        if not path.exists():
            return None

        def copy(file: BinaryIO) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file)

        expires_at = int(path.stat().st_mtime) + spec.output_seconds
        await self._files.make(name, "batch_output", copy, file_id=file_id, expires_at=expires_at)
        return file_id


def described(job: Job, progress: Progress) -> Batch:
    """The batch as callers see it."""
    spec = BatchSpec.of(job)
    usage = job.result.get("usage")
    return Batch(
        id=job.id,
        endpoint=spec.endpoint,
        input_file_id=spec.input_file_id,
        completion_window=spec.completion_window,
        status="in_progress" if job.status == "running" else job.status,
        created_at=job.created_at,
        errors=_errors(job),
        output_file_id=job.result.get("output_file_id"),
        error_file_id=job.result.get("error_file_id"),
        in_progress_at=job.started_at,
        expires_at=job.expires_at,
        finalizing_at=job.finished_at if job.status == "completed" else None,
        cancelling_at=job.cancelling_at if job.status != "expired" else None,
        metadata=spec.metadata,
        request_counts=RequestCounts(
            total=job.items or 0, completed=progress.rows - progress.failed, failed=progress.failed
        ),
        usage=None if usage is None else BatchUsage(**usage, total_tokens=sum(usage.values())),
        completed_at=_ended_at(job, "completed"),
        failed_at=_ended_at(job, "failed"),
        expired_at=_ended_at(job, "expired"),
        cancelled_at=_ended_at(job, "cancelled"),
    )


def _ended_at(job: Job, status: str) -> int | None:
    return job.finished_at if job.status == status else None


def _errors(job: Job) -> BatchErrors | None:
    told = job.result.get("errors")
    if told is not None:
        return BatchErrors(data=[BatchError.model_validate(each) for each in told])
    if job.status != "failed":
        return None
    return BatchErrors(data=[BatchError(code="internal_error", line=None, message=job.error or "", param=None)])


def _rejected(errors: Sequence[BatchError]) -> JobRejected:
    first = errors[0]
    where = "" if first.line is None else f"line {first.line}: "
    return JobRejected(f"{where}{first.message}", {"errors": [error.model_dump() for error in errors]})


async def _each_unit(jobs: Jobs, job_id: str) -> AsyncIterator[Unit]:
    after = -1
    while units := await jobs.units(job_id, after):
        after = units[-1].number
        for unit in units:
            yield unit


def _as_told(error: Exception) -> ApiError:
    """As the route would have answered it."""
    if isinstance(error, ValidationError):
        return complaint([{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)])
    return as_api_error(error)
