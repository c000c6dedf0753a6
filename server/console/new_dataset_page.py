"""Making a dataset: problems are uploaded or chosen, then seen as they are read, then explained.

POST and GET /v1/files for the file, POST /v1/datasets/preview for how it is read, POST /v1/datasets?dry_run=true for
what it would take, POST /v1/datasets to make it. The fields of the form have the names of that request's, `a.b` for the
field b of a; what it has besides is for programs.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, get_args

from fastapi import Request, Response
from starlette.datastructures import UploadFile

from server.console import forms
from server.console.pages import FORM_TOKEN, onwards, page, page_router
from server.datasets.dataset_requests import limits_of, make_dataset
from server.datasets.dry_runs import dry_run
from server.datasets.sources import SUFFIXES, check_file_name
from server.errors import Invalid
from server.service import Parts
from server.web.access import needs
from server.web.disconnects import unless_gone
from server.web.routes.datasets import preview_dataset
from server.web.routes.files import get_file, keep, list_files
from server.web.routes.models import served
from server.wire import DatasetRequest
from student.estimates import Estimate
from student.measures.results import Measure
from student.row_layouts import SYNONYMS

router = page_router()
NEW = "/console/datasets/new"
SHOWN_FILES = 20
ESTIMATED = "estimated"
"""The field that says which request an estimate is of."""
OWN_FIELDS = (FORM_TOKEN, ESTIMATED, "file")
READ_BY = ("file_id", "source", "split", "columns", "limit", "tags")
"""What a preview goes by."""
UNTOLD = {"estimate", "name", "metadata"}
"""Of a request: what an estimate does not hang on."""


@router.get("/datasets/new", dependencies=[needs("datasets")])
async def new_dataset_page(
    request: Request, file_id: str | None = None, source: str | None = None, split: str = "train"
) -> Response:
    """Where the problems are from; once that is known, how they are read and what shall be made of them."""
    parts: Parts = request.app.state.parts
    if file_id is None and not source:
        files = (await list_files(request, None, SHOWN_FILES, "desc", "user_data")).data
        longest, has_teacher = limits_of(parts).upload_bytes, parts.teachers is not None
        return page(request, "new_dataset.html", files=files, longest=longest, has_teacher=has_teacher)
    file = None if file_id is None else await get_file(request, file_id)
    return page(request, "new_dataset_form.html", file=file, source=source, split=split, **_choices(parts))


@router.post("/files", dependencies=[needs("datasets")])
async def upload(request: Request) -> Response:
    """Stores a file of problems, and goes on to how it is read."""
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            raise Invalid(f"file: none was chosen; choose one whose name ends in {', '.join(SUFFIXES)}", param="file")
        check_file_name(file.filename, "file")
        kept = await keep(request.app.state.parts, file, "user_data")
    return onwards(request, f"{NEW}?file_id={kept.id}")


@router.post("/datasets/preview", dependencies=[needs("datasets")])
async def preview(request: Request) -> Response:
    """How the problems are read."""
    values = nested(forms.texts(await request.form()))
    asked = {name: value for name, value in values.items() if name in READ_BY}
    told = await preview_dataset(request, forms.body(DatasetRequest, asked))
    columns = values.get("columns", {})
    return page(request, "new_dataset_preview.html", preview=told, asked=columns, fields=tuple(SYNONYMS))


@router.post("/datasets/estimate", dependencies=[needs("datasets")])
async def estimate(request: Request) -> Response:
    """What it would take."""
    body = asked_for(forms.texts(await request.form()))
    told = await unless_gone(request, dry_run(request.app.state.parts, body, request.app.state.dry_run))
    return page(request, "new_dataset_estimate.html", estimate=told, estimated=_mark(body))


@router.post("/datasets", dependencies=[needs("datasets")])
async def create(request: Request) -> Response:
    """Makes it, and goes on to how it stands. An estimate comes with it if it is of this very request."""
    form = forms.texts(await request.form())
    body = asked_for(form)
    if "estimate" in form and form.get(ESTIMATED) == _mark(body):
        told = forms.body_of_json(Estimate, form["estimate"])
        body = body.model_copy(update={"estimate": told})
    job = await make_dataset(request.app.state.parts, body, None)
    return onwards(request, f"/console/datasets/{job.id}")


def asked_for(form: Mapping[str, str]) -> DatasetRequest:
    """The form as the body of POST /v1/datasets; raises Invalid."""
    values = {name: text for name, text in form.items() if name not in (*OWN_FIELDS, "estimate")}
    return forms.body(DatasetRequest, nested(values))


def nested(values: Mapping[str, str]) -> dict[str, Any]:
    """`a.b` as the field b of a; which takes the place of a mere `a`.

    >>> nested({"n": "2", "measures": "true", "measures.verified": "true"})
    {'n': '2', 'measures': {'verified': 'true'}}
    """
    made: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        place = made
        for step in outer:
            if not isinstance(place.get(step), dict):
                place[step] = {}
            place = place[step]
        if not isinstance(place.get(last), dict):
            place[last] = value
    return made


def _mark(body: DatasetRequest) -> str:
    return hashlib.sha256(body.model_dump_json(exclude=UNTOLD).encode()).hexdigest()


def _choices(parts: Parts) -> dict[str, Any]:
    """What the settings may be, and what they are unless given."""
    limits = limits_of(parts)
    defaults = DatasetRequest(source="unset/unset")
    return {
        "models": [model.id for model in served(parts) if model.role != "student"],
        "has_student": parts.student is not None,
        "measures": get_args(Measure),
        "defaults": defaults,
        "longest_tokens": min(limits.max_tokens, defaults.sampling.max_tokens),
        "limits": limits,
    }
