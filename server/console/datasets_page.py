"""The Datasets pages: all of them as they stand, and one with its progress, failures, downloads and card.

GET /v1/datasets and /v1/datasets/{id}, asked again and again while there is something to see; POST .../cancel and
.../retry, DELETE of a dataset; GET .../rows of those that failed; GET .../export and .../card; GET /v1/admin/workers,
of which is said only whether there are any. How one is made is new_dataset_page.py.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request, Response

from server.console.card_view import blocks
from server.console.pages import onwards, page, page_router
from server.datasets.bounds import RowsQuery
from server.datasets.exports import OUR_ROWS, TRAINERS, ExportQuery
from server.state.tables import TERMINAL
from server.web.access import needs
from server.web.routes.admin import list_workers
from server.web.routes.datasets import (
    cancel_dataset,
    delete_dataset,
    export_dataset,
    get_card,
    get_dataset,
    list_datasets,
    page_of_rows,
    retry_dataset,
)
from server.wire import Dataset
from student.exports.registry import FORMATS

router = page_router()
SHOWN_DATASETS = 20
LOOKED_THROUGH = 50
"""Failed rows whose reasons are compared."""
SHOWN_REASONS = 5
HOME = "/console/datasets"
REMEDIES = {
    "context_length_exceeded": "Question and solution are too long for the teacher: shorten them, or serve it with a "
    "longer context.",
    "invalid_value": "A text holds a token that steers models: take it out of the file.",
    "no_answer": "A cold start needs an answer of every problem: name its column, or have the solution state it.",
    "engine_refused": "The engine did not take the prompt; its reason is below.",
    "model_not_found": "The teacher is served no longer: load it again (System shows what is served), then retry.",
    "unit_failed": "Several attempts failed as a whole; the reason is below and in the service's log. Retry makes them "
    "anew.",
}
"""What to do about each kind of failure."""
OUR_PURPOSES = {
    "jsonl": "a row a line; rlt distill, rlt score and pandas read it",
    "parquet": "one file, for the same",
    "datasets": "a tar of a folder for datasets.load_from_disk",
    "manifest": "where each row is from, without its texts",
    "folder": "a zip for the Hugging Face hub: all rows, manifests, card",
}
COLD_START = "SFT, then RL on other problems: two folders that share no question"


@router.get("/datasets", dependencies=[needs("datasets")])
async def datasets_page(request: Request, after: str | None = None) -> Response:
    """All datasets, newest first, page by page."""
    return page(request, "datasets.html", **await _list(request, after))


@router.get("/datasets/list", dependencies=[needs("datasets")])
async def datasets_list(request: Request, after: str | None = None) -> Response:
    """The piece of it that changes by itself."""
    values = await _list(request, after)
    return _still_or_again(page(request, "datasets_list.html", **values), values["live"])


@router.get("/datasets/{dataset}", dependencies=[needs("datasets")])
async def dataset_page(request: Request, dataset: str) -> Response:
    """One dataset."""
    found = await get_dataset(request, dataset)
    return page(request, "dataset.html", **await _standing(request, found), settings=_settings(found))


@router.get("/datasets/{dataset}/standing", dependencies=[needs("datasets")])
async def dataset_standing(request: Request, dataset: str) -> Response:
    """The piece of its page that changes by itself."""
    return await _changed(request, await get_dataset(request, dataset))


@router.post("/datasets/{dataset}/cancel", dependencies=[needs("datasets")])
async def cancel(request: Request, dataset: str) -> Response:
    """Stops the work on it."""
    return await _changed(request, await cancel_dataset(request, dataset))


@router.post("/datasets/{dataset}/retry", dependencies=[needs("datasets")])
async def retry(request: Request, dataset: str) -> Response:
    """Makes its failed rows anew."""
    return await _changed(request, await retry_dataset(request, dataset))


@router.post("/datasets/{dataset}/delete", dependencies=[needs("datasets")])
async def delete(request: Request, dataset: str) -> Response:
    """Removes it, and goes back to the others."""
    await delete_dataset(request, dataset)
    return onwards(request, HOME)


@router.get("/datasets/{dataset}/export", dependencies=[needs("datasets")])
async def export(request: Request, dataset: str, asked: Annotated[ExportQuery, Query()]) -> Response:
    """A download: the cookie of a session is not sent to /v1."""
    return await export_dataset(request, dataset, asked)


@router.get("/datasets/{dataset}/card", dependencies=[needs("datasets")])
async def card(request: Request, dataset: str) -> Response:
    """The card, without its pictures."""
    text = bytes((await get_card(request, dataset)).body).decode()
    return page(request, "dataset_card.html", blocks=list(blocks(text)))


@router.get("/datasets/{dataset}/card.md", dependencies=[needs("datasets")])
async def card_file(request: Request, dataset: str) -> Response:
    """The card with its pictures, to be saved."""
    response = await get_card(request, dataset)
    response.headers["content-disposition"] = f'attachment; filename="{dataset}-README.md"'
    return response


async def _list(request: Request, after: str | None) -> dict[str, Any]:
    found = await list_datasets(request, after, SHOWN_DATASETS)
    live = any(dataset.status not in TERMINAL for dataset in found.data)
    return {"datasets": found, "after": after, "live": live, "light": light, "share": share}


async def _standing(request: Request, dataset: Dataset) -> dict[str, Any]:
    live = dataset.status not in TERMINAL
    return {
        "dataset": dataset,
        "live": live,
        "nobody": live and not any(worker.alive and worker.units for worker in (await list_workers(request)).data),
        "light": light,
        "share": share,
        "failures": await _failures(request, dataset),
        "downloads": DOWNLOADS if dataset.status in TERMINAL and dataset.counts.done else (),
    }


async def _changed(request: Request, dataset: Dataset) -> Response:
    values = await _standing(request, dataset)
    return _still_or_again(page(request, "dataset_standing.html", **values), values["live"])


def _still_or_again(piece: Response, live: bool) -> Response:
    """A piece that asks for itself again is changed where it differs, so that the focus stays; the last one takes its
    place, since what repeats the question would live on."""
    if not live:
        piece.headers["hx-reswap"] = "outerHTML"
    return piece


@dataclass(frozen=True)
class Failure:
    """Failed rows of one kind."""

    kind: str
    rows: int
    remedy: str


@dataclass(frozen=True)
class Failures:
    """What failed in a dataset, and the first reasons that differ."""

    kinds: list[Failure]
    reasons: list[str]


async def _failures(request: Request, dataset: Dataset) -> Failures | None:
    if not dataset.counts.failed:
        return None
    found = await page_of_rows(request, dataset.id, RowsQuery(include="failed", limit=LOOKED_THROUGH))
    reasons = list(dict.fromkeys(row.error for row in found.rows if row.error is not None))
    counted = sorted(dataset.errors.items(), key=lambda item: -item[1])
    kinds = [Failure(kind, rows, REMEDIES.get(kind, "The reason is below.")) for kind, rows in counted]
    return Failures(kinds, reasons[:SHOWN_REASONS])


@dataclass(frozen=True)
class Download:
    """A format, and who reads it."""

    name: str
    purpose: str


DOWNLOADS = {
    "The rows": [Download(name, OUR_PURPOSES[name]) for name in OUR_ROWS],
    "For a trainer": [Download(name, FORMATS[name].purpose if name in FORMATS else COLD_START) for name in TRAINERS],
}


def light(dataset: Dataset) -> str:
    """The class of its state: well, not quite, not well, at work."""
    if dataset.status not in TERMINAL:
        return "busy"
    if dataset.status == "completed":
        return "warn" if dataset.counts.failed else "good"
    return "bad" if dataset.status == "failed" else "warn"


def share(dataset: Dataset) -> float | None:
    """How much of it is done, from 0 to 1; None while that is not known."""
    total = dataset.counts.total
    if total is None:
        return None if dataset.status not in TERMINAL else 0.0
    return dataset.counts.done / total if total else 1.0


def _settings(dataset: Dataset) -> str:
    """What the request asked for, without what it left at its default."""
    asked = dataset.request.model_dump(mode="json", exclude_defaults=True, exclude={"estimate"})
    return json.dumps(asked, indent=2, ensure_ascii=False)
