"""Datasets: made as durable jobs, followed, looked into, downloaded, deleted."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from server.datasets.bounds import COLUMNS, RowsQuery, Wanted
from server.datasets.cards import card, source_of
from server.datasets.dataset_requests import make_dataset
from server.datasets.dataset_rows import DatasetRows, RowInPlace, RowPage
from server.datasets.datasets import DatasetKind, described
from server.datasets.distributions import Distributions, distributions
from server.datasets.dry_runs import dry_run as estimate_of
from server.datasets.exports import DOWNLOADS, ExportQuery
from server.datasets.previews import preview
from server.errors import WrongState
from server.jobs.jobs import job_folder
from server.service import Parts
from server.state.idempotency import Claim
from server.state.tables import TERMINAL, Job
from server.teaching.replaying import replay
from server.web.access import Caller, needs
from server.web.answering import in_time, the_teachers
from server.web.disconnects import unless_gone
from server.web.events import EventStream, event
from server.wire import Answer, Dataset, DatasetRequest, Page, Preview
from student.estimates import Estimate
from student.explanations import Explanation
from student.manifests import Manifest, manifest_of
from student.replays import Replay

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
WATCH_SECONDS = 0.5
"""Between two looks at a dataset that is followed; ten times as long as a look takes, where that is more."""
EXAMPLE = {
    "name": "apples",
    "problems": [
        {
            "question": "Ann has 3 apples and buys 4 more. How many does she have?",
            "solution": "She has 3 + 4 = 7 apples. The answer is \\boxed{7}.",
        }
    ],
    "n": 2,
    "sampling": {"temperature": 0.7, "max_tokens": 64},
    "filters": {"finished": False},
}
UsedKey = Annotated[str | None, Header(alias="Idempotency-Key", description="Sent again, it makes nothing anew.")]
After = Annotated[str | None, Query(description="last_id of the page before.")]


class MarkdownResponse(Response):
    """A text for people."""

    media_type = "text/markdown; charset=utf-8"


class Deleted(Answer):
    """It is gone."""

    id: str
    object: str = "dataset.deleted"
    deleted: bool = True


@router.post(
    "",
    status_code=202,
    response_model=Dataset,
    responses={200: {"model": Estimate, "description": "With dry_run: what it would take."}},
    summary="Make a dataset, or tell what it would take",
)
async def create_dataset(
    request: Request,
    response: Response,
    body: Annotated[DatasetRequest, Body(openapi_examples={"inline": {"value": EXAMPLE}})],
    caller: Annotated[Caller, needs("datasets")],
    idempotency_key: UsedKey = None,
    dry_run: Annotated[bool, Query(description="Make nothing, tell what it would take.")] = False,
) -> Response | Dataset:
    """Explains every problem `n` times, in the background and through restarts. Follow it by GET, or its `/events`.

    Problems come in the body, as a file that was uploaded, or by a name of the Hugging Face hub. The rows are those
    that `rlt explain` writes; one that cannot be made says why in its `error`, and `/retry` makes those anew.

    With `dry_run` the request is checked, a pilot of its problems explained (and scored, where asked for), and the
    answer is an estimate of tokens, seconds and bytes with 95 % intervals, while you wait. Nothing is made. Sent with
    the real request as its `estimate`, the dataset tells what came of it.
    """
    parts: Parts = request.app.state.parts
    if dry_run:
        told = await unless_gone(request, estimate_of(parts, body, request.app.state.dry_run))
        return Response(told.model_dump_json(), media_type="application/json")
    claim = Claim.of("POST /v1/datasets", caller.id, idempotency_key, await request.body())
    job = await make_dataset(parts, body, claim)
    response.headers["location"] = f"/v1/datasets/{job.id}"
    return await _shown(parts, job)


@router.post("/preview", dependencies=[needs("datasets")], summary="Tell how a source is read")
async def preview_dataset(
    request: Request, body: Annotated[DatasetRequest, Body(openapi_examples={"inline": {"value": EXAMPLE}})]
) -> Preview:
    """Which column is taken for what, the first problems, how many there are, which rows are bad and why. The body
    is that of the request to make the dataset, of which only the source, `columns`, `tags` and `limit` matter here.
    Nothing is made, and bad rows are no error."""
    return await unless_gone(request, preview(request.app.state.parts, body))


@router.get("", dependencies=[needs("datasets")], summary="List datasets")
async def list_datasets(
    request: Request, after: After = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Page[Dataset]:
    """Newest first."""
    parts: Parts = request.app.state.parts
    jobs, has_more = await parts.jobs.page("dataset", after, limit)
    data = [await _shown(parts, job) for job in jobs]
    return Page.of(data, [job.id for job in jobs], has_more)


@router.get("/{dataset}", dependencies=[needs("datasets")], summary="One dataset")
async def get_dataset(request: Request, dataset: str) -> Dataset:
    """How it stands: status, counts, rate, time left, failures by kind."""
    parts: Parts = request.app.state.parts
    return await _shown(parts, await parts.jobs.get(dataset, "dataset"))


@router.get(
    "/{dataset}/events",
    dependencies=[needs("datasets")],
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {"example": 'event: progress\ndata: {"id": "ds_"}\n\n'}}}},
    summary="Follow a dataset",
)
async def follow_dataset(request: Request, dataset: str) -> Response:
    """Server-sent events: `progress` whenever something changed, `done` once it has ended; both hold the dataset."""
    parts: Parts = request.app.state.parts
    job = await parts.jobs.get(dataset, "dataset")
    return EventStream(request, _progress(parts, job))


async def _progress(parts: Parts, job: Job) -> AsyncIterator[bytes]:
    last: Dataset | None = None
    while True:
        began = time.monotonic()
        job = await parts.jobs.get(job.id, "dataset")
        shown = await _shown(parts, job)
        if job.status in TERMINAL:
            yield event("done", shown.model_dump(mode="json"))
            return
        if shown != last:
            yield event("progress", shown.model_dump(mode="json"))
        last = shown
        await asyncio.sleep(max(WATCH_SECONDS, 10 * (time.monotonic() - began)))


@router.post("/{dataset}/cancel", dependencies=[needs("datasets")], status_code=202, summary="Cancel a dataset")
async def cancel_dataset(request: Request, dataset: str) -> Dataset:
    """Stops the work within a unit; rows that are whole stay. 400 where it has ended already."""
    parts: Parts = request.app.state.parts
    await parts.jobs.get(dataset, "dataset")
    job = await parts.jobs.request_cancel(dataset, "dataset")
    await parts.runtime.submit(job.id)
    return await _shown(parts, job)


@router.post("/{dataset}/retry", dependencies=[needs("datasets")], status_code=202, summary="Retry failed rows")
async def retry_dataset(request: Request, dataset: str) -> Dataset:
    """Makes the failed rows of a completed dataset anew, and no others. 400 where there are none."""
    parts: Parts = request.app.state.parts
    job = await parts.jobs.retry(dataset, "dataset")
    await parts.runtime.submit(job.id)
    return await _shown(parts, job)


@router.get(
    "/{dataset}/rows", dependencies=[needs("datasets")], response_model=Page[Explanation], summary="Look into a dataset"
)
async def list_rows(request: Request, dataset: str, asked: Annotated[RowsQuery, Query()]) -> Response:
    """Rows in the order of the problems. `first_id` and `last_id` are places in the dataset, not the rows' ids.

    While it is made, units of problems that are not done are left out; a later look may find rows in between.
    """
    page = await page_of_rows(request, dataset, asked)
    answer = Page[Explanation].of(page.rows, page.places, page.has_more)
    return Response(await asyncio.to_thread(answer.model_dump_json), media_type="application/json")


@router.get("/{dataset}/rows/{row:path}", dependencies=[needs("datasets")], summary="One row of a dataset")
async def get_row(request: Request, dataset: str, row: str, wanted: Annotated[Wanted, Query()]) -> RowInPlace:
    """The row whose `id` is `row`, with the ids of those before and behind it among the rows that the query asks for,
    and the manifests of all rows of its problem. The shards are looked through for it."""
    return await (await _rows(request.app.state.parts, dataset)).in_place(row, wanted)


@router.get("/{dataset}/manifests", dependencies=[needs("datasets")], summary="Where rows are from")
async def list_manifests(request: Request, dataset: str, asked: Annotated[RowsQuery, Query()]) -> Page[Manifest]:
    """Of each row that `/rows` gives for the same question: hashes, licence, weights, seed, sampling, engine, scores,
    each filter's verdict; without its texts."""
    page = await page_of_rows(request, dataset, asked)
    return Page[Manifest].of([manifest_of(row) for row in page.rows], page.places, page.has_more)


@router.get("/{dataset}/distributions", dependencies=[needs("datasets")], summary="How measures are distributed")
async def get_distributions(request: Request, dataset: str, wanted: Annotated[Wanted, Query()]) -> Distributions:
    """Of each measure of the rows that `include` asks for, and of those that keep to the bounds: mean, quantiles and a
    histogram; and how many rows miss each bound. All rows are read for it, their measures alone."""
    rows = await _rows(request.app.state.parts, dataset)
    return await unless_gone(request, distributions(wanted, rows.columns(COLUMNS)))


@router.get(
    "/{dataset}/card",
    dependencies=[needs("datasets")],
    response_class=MarkdownResponse,
    summary="The card of a dataset",
)
async def get_card(request: Request, dataset: str) -> Response:
    """Markdown with front matter as the Hugging Face hub reads it: counts, measures with pictures (as data), how it was
    made, licences, limits. All rows are read for it. 400 until the dataset has ended."""
    parts: Parts = request.app.state.parts
    job = await _ended(parts, dataset)
    return MarkdownResponse(await card(source_of(job), (await _rows(parts, dataset)).tables))


@router.post("/{dataset}/rows/{row:path}/replay", dependencies=[needs("datasets")], summary="Make a row again")
async def replay_row(request: Request, dataset: str, row: str) -> Replay:
    """Samples one row again, from what it says of itself, and tells whether it comes out the same, and if not where it
    differs and what may be the cause. Nothing is changed. `row` is its `id`; 422 where it holds no explanation."""
    parts: Parts = request.app.state.parts
    found = await (await _rows(parts, dataset)).find(row)
    return await unless_gone(request, in_time(request.app.state, replay(the_teachers(parts), found)))


@router.get(
    "/{dataset}/export",
    dependencies=[needs("datasets")],
    response_class=StreamingResponse,
    responses={200: {"content": {download.media_type: {} for download in DOWNLOADS.values()}}},
    summary="Download a dataset",
)
async def export_dataset(
    request: Request,
    dataset: str,
    asked: Annotated[ExportQuery, Query()],
) -> Response:
    """Our own rows as JSONL, one Parquet file, or a folder of `datasets` as a tar, which `rlt distill` and `rlt score`
    read; with manifests and card as a zip of the folder that `rlt select` leaves; or a trainer's format: a zip of the
    folder that `rlt export` writes, the trainer's own files included. 400 until the dataset has ended, 422 where a
    format gets no row."""
    parts: Parts = request.app.state.parts
    job = await _ended(parts, dataset)
    asked.check()
    download = DOWNLOADS[asked.format]
    tables = partial((await _rows(parts, dataset)).tables, bounds=asked)
    chunks = download.chunks(source_of(job), asked, tables)
    first = await anext(chunks, b"")  # what fails at once has its own status

    async def all_chunks() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    headers = {"content-disposition": f'attachment; filename="{job.id}{download.suffix}"', "cache-control": "no-store"}
    return StreamingResponse(all_chunks(), media_type=download.media_type, headers=headers)


@router.delete("/{dataset}", dependencies=[needs("datasets")], summary="Delete a dataset")
async def delete_dataset(request: Request, dataset: str) -> Deleted:
    """Removes it with its rows. 400 while it is worked on: cancel it first."""
    parts: Parts = request.app.state.parts
    await parts.jobs.delete(dataset, "dataset")
    await parts.storage.delete_tree(job_folder(dataset))
    return Deleted(id=dataset)


async def _shown(parts: Parts, job: Job) -> Dataset:
    return described(job, await parts.jobs.progress(job))


async def _ended(parts: Parts, dataset: str) -> Job:
    """The job; raises WrongState while it is worked on."""
    job = await parts.jobs.get(dataset, "dataset")
    if job.status not in TERMINAL:
        raise WrongState(f"{job.id} is {job.status}; wait until it has ended, or cancel it (its /rows can be read now)")
    return job


async def page_of_rows(request: Request, dataset: str, asked: RowsQuery) -> RowPage:
    """The page of rows that `/rows` and `/manifests` are about."""
    return await (await _rows(request.app.state.parts, dataset)).page(asked)


async def _rows(parts: Parts, dataset: str) -> DatasetRows:
    job = await parts.jobs.get(dataset, "dataset")
    kind = DatasetKind(parts.storage, parts.files, parts.jobs, parts.teachers, parts.student)
    return DatasetRows(job, parts.jobs, parts.storage, kind)
