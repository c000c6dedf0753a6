"""A request for a dataset, checked against the service's limits and made a job; what cannot work is refused at once."""

from collections.abc import Iterator

from server.configs import Limits, ServeConfig
from server.datasets.datasets import DatasetSpec, dataset_spec, store_problems
from server.datasets.estimates import check_estimate
from server.datasets.sources import check_columns, check_file_name, check_name
from server.errors import Invalid, NotFound, TooMany, Unavailable
from server.jobs.jobs import job_folder
from server.service import Parts
from server.state.idempotency import Claim
from server.state.ids import new_id
from server.state.tables import Job
from server.teaching.understanding import check_measures
from server.web.answering import the_teachers
from server.wire import DatasetRequest
from student.measures.results import Measure

FULL_SECONDS = 30.0
HELD_OUT = "contamination.file_ids"


async def make_dataset(parts: Parts, body: DatasetRequest, claim: Claim | None) -> Job:
    """A new job, queued; with a claim that was made before, the job of that. Raises Invalid, NotFound, Unavailable or
    TooMany where the request cannot be carried out."""
    spec = await checked_spec(parts, body)
    job_id = new_id("ds_")
    if body.problems is not None:
        await store_problems(parts.storage, job_id, body.problems)
    job = await parts.jobs.create("dataset", spec.model_dump(mode="json"), job_id, once=claim)
    if job.id != job_id:  # made by an earlier request with the same key
        await parts.storage.delete_tree(job_folder(job_id))
    await parts.runtime.submit(job.id)
    return job


async def checked_spec(parts: Parts, body: DatasetRequest) -> DatasetSpec:
    """The request as its job would be told it; raises as `make_dataset` does."""
    body = await _checked(parts, body)
    teachers = the_teachers(parts)
    return dataset_spec(
        body,
        model=teachers.known(body.model).name,
        tags=body.tags or teachers.tags,
        unit_problems=parts.config.unit_problems,
        local=limits_of(parts).local_sources,
    )


async def _checked(parts: Parts, body: DatasetRequest) -> DatasetRequest:
    """The request within the service's limits; raises Invalid, NotFound, Unavailable or TooMany where it is not."""
    limits = limits_of(parts)
    check_estimate(body, the_teachers(parts).known(body.model).digest)
    await check_source(parts, body)
    for file_id in body.contamination.file_ids:
        check_file_name(await _file_name(parts, file_id, HELD_OUT), HELD_OUT)
    _at_most(limits.samples, body.samples, "best_of" if body.best_of is not None else "n")
    _at_most(limits.samples, body.most_samples, "further.samples", " explanations a problem in all")
    if "max_tokens" in body.sampling.model_fields_set:
        _at_most(limits.max_tokens, body.sampling.max_tokens, "sampling.max_tokens")
    await check_room(parts)
    _check_scoring(parts, body)
    sampling = body.sampling.model_copy(update={"max_tokens": min(body.sampling.max_tokens, limits.max_tokens)})
    return body.model_copy(update={"sampling": sampling})


async def check_source(parts: Parts, body: DatasetRequest) -> None:
    """Raises Invalid or NotFound where the problems are not to be had from where the request says."""
    limits = limits_of(parts)
    check_columns(body.columns)
    if body.source is not None:
        check_name(body.source, limits.local_sources)
    if body.file_id is not None:
        check_file_name(await _file_name(parts, body.file_id, "file_id"))
    _check_problems(body, limits)


async def _file_name(parts: Parts, file_id: str, field: str) -> str:
    try:
        return (await parts.files.get(file_id)).filename
    except NotFound as error:
        raise NotFound(f"{field}: {error}", param=field) from error


def _check_problems(body: DatasetRequest, limits: Limits) -> None:
    problems = body.problems or []
    if len(problems) > limits.inline_problems:
        raise Invalid(
            f"problems: at most {limits.inline_problems} in a body, got {len(problems)}; upload them as a file "
            "(POST /v1/files, purpose user_data) and give its file_id",
            param="problems",
        )
    for number, problem in enumerate(problems):
        for field in ("question", "solution"):
            length = len(getattr(problem, field))
            _at_most(limits.text_characters, length, f"problems.{number}.{field}", " characters")


def _check_scoring(parts: Parts, body: DatasetRequest) -> None:
    """Raises where rows are to be scored and nobody does, or measured by more than a service does."""
    if not body.scored:
        return
    if parts.student is None:
        raise Unavailable(
            "no student is loaded, so nothing can be scored; leave score, best_of, further and filters by a measure "
            "out, or start the service with --student",
            param="score",
            code="no_student",
        )
    check_measures(body.measuring)
    for name, measure in _measures(body):
        if measure == "rkl" and parts.student.teacher_name is None:
            reason = "the student has no teacher to compare with, so there is no rkl; use rss"
            raise Invalid(f"{name}: {reason}", param=name)


def _measures(body: DatasetRequest) -> Iterator[tuple[str, Measure]]:
    """The measures that are asked for, and where."""
    if body.ranked:
        yield "rank_by", body.rank_by
    for side in ("at_least", "at_most"):
        yield from ((f"filters.{side}.{measure}", measure) for measure in getattr(body.filters, side))
    if body.filters.verified:
        yield "filters.verified", "verified"


async def check_room(parts: Parts) -> None:
    """Raises TooMany where as many datasets and batches are unfinished as the service takes on."""
    limit = limits_of(parts).datasets
    if await parts.jobs.unfinished() >= limit:
        raise TooMany(
            f"{limit} datasets and batches are unfinished, which is all that this service takes on; wait, or "
            "cancel some",
            code="too_many_jobs",
            retry_after=FULL_SECONDS,
        )


def _at_most(limit: int, value: int, field: str, unit: str = "") -> None:
    if value > limit:
        raise Invalid(f"{field}: at most {limit}{unit} here, got {value}", param=field)


def limits_of(parts: Parts) -> Limits:
    """What one caller may ask for."""
    assert isinstance(parts.config, ServeConfig)
    return parts.config.limits
