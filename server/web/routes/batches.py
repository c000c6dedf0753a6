"""OpenAI's batches, over the same jobs as datasets."""

import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from server.batches.batches import OUTPUT_SECONDS, WINDOW_SECONDS, BatchSpec, described
from server.datasets.dataset_requests import check_room, limits_of
from server.errors import ApiError, NotFound
from server.service import Parts
from server.state.files import PREFIX
from server.state.idempotency import Claim
from server.state.ids import new_id
from server.state.tables import Job
from server.web.access import Caller, needs
from server.web.answering import the_teachers
from server.web.openai_objects import Batch, BatchRequest
from server.wire import Page

router = APIRouter(prefix="/v1/batches", tags=["batches"])
UsedKey = Annotated[str | None, Header(alias="Idempotency-Key", description="Sent again, it makes nothing anew.")]


@router.post("", summary="Make a batch")
async def create_batch(
    request: Request, body: BatchRequest, caller: Annotated[Caller, needs("datasets")], idempotency_key: UsedKey = None
) -> Batch:
    """Carries out every request of an uploaded file (purpose batch), in the background and through restarts.

    A file with a line that is no request fails whole, before any work; a request that fails goes to the error file.
    """
    parts: Parts = request.app.state.parts
    the_teachers(parts)
    await _check_file(parts, body.input_file_id)
    await check_room(parts)
    claim = Claim.of("POST /v1/batches", caller.id, idempotency_key, await request.body())
    spec = BatchSpec(
        **body.model_dump(exclude={"output_expires_after"}),
        unit_lines=parts.config.unit_problems,
        limits=limits_of(parts),
        output_file_id=new_id(PREFIX),
        error_file_id=new_id(PREFIX),
        output_seconds=body.output_expires_after.seconds if body.output_expires_after else OUTPUT_SECONDS,
    )
    expires_at = int(time.time()) + WINDOW_SECONDS
    job = await parts.jobs.create("batch", spec.model_dump(mode="json"), new_id("batch_"), expires_at, once=claim)
    await parts.runtime.submit(job.id)
    return await _shown(parts, job)


async def _check_file(parts: Parts, file_id: str) -> None:
    try:
        file = await parts.files.get(file_id)
    except NotFound as error:
        raise NotFound(f"input_file_id: {error}", param="input_file_id") from error
    if file.purpose != "batch":
        raise ApiError(
            f"input_file_id: {file_id} was uploaded with purpose {file.purpose!r}; upload it with purpose 'batch'",
            param="input_file_id",
            code="invalid_file_purpose",
        )


@router.get("", dependencies=[needs("datasets")], summary="List batches")
async def list_batches(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Page[Batch]:
    """Newest first."""
    parts: Parts = request.app.state.parts
    jobs, has_more = await parts.jobs.page("batch", after, limit)
    data = [await _shown(parts, job) for job in jobs]
    return Page.of(data, [job.id for job in jobs], has_more)


@router.get("/{batch}", dependencies=[needs("datasets")], summary="One batch")
async def get_batch(request: Request, batch: str) -> Batch:
    """How it stands."""
    parts: Parts = request.app.state.parts
    return await _shown(parts, await parts.jobs.get(batch, "batch"))


@router.post("/{batch}/cancel", dependencies=[needs("datasets")], summary="Cancel a batch")
async def cancel_batch(request: Request, batch: str) -> Batch:
    """What was made stays, in the output file. 400 where it has ended already."""
    parts: Parts = request.app.state.parts
    await parts.jobs.get(batch, "batch")
    job = await parts.jobs.request_cancel(batch, "batch")
    await parts.runtime.submit(job.id)
    return await _shown(parts, job)


async def _shown(parts: Parts, job: Job) -> Batch:
    return described(job, await parts.jobs.progress(job))
