"""The page of one row: its texts, what was found of it, its siblings, its manifest, and whether it can be made again.

GET /v1/datasets/{id} and its /rows/{row}, POST of that row's /replay. What the student understood is asked of POST
/v1/scores by the same piece that the Try page shows (try_page.py): a row keeps no values of its tokens.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import Request, Response

from server.console import forms
from server.console.pages import page, page_router
from server.console.rows_page import query_of, row_address, rows_address, wanted_of
from server.console.try_page import trace_of
from server.console.words import MEASURE_NAMES, figure, row_findings
from server.errors import Invalid
from server.service import Parts
from server.web.access import needs
from server.web.routes.datasets import get_dataset, get_row, replay_row

router = page_router()
ELSEWHERE = {"score", "measures", "verdicts"}
"""Parts of a manifest that the page shows in words."""


@router.get("/datasets/{dataset}/rows/{row:path}", dependencies=[needs("datasets")])
async def row_page(request: Request, dataset: str, row: str) -> Response:
    """The whole page; the filter in its address says which rows are before and behind it."""
    wanted = wanted_of(request)
    found = await get_row(request, dataset, row, wanted)
    query = query_of(wanted)
    [manifest] = [each for each in found.candidates if each.id == found.row.id]
    parts: Parts = request.app.state.parts
    addresses = {each: row_address(dataset, each, query) for each in (found.previous, found.next) if each is not None}
    return page(
        request,
        "row.html",
        dataset=await get_dataset(request, dataset),
        found=found,
        row=found.row,
        findings=row_findings(found.row),
        manifest=dict(_facts(manifest.model_dump(exclude=ELSEWHERE))),
        verdicts=manifest.verdicts,
        trace=trace_of(found.row) if parts.student is not None and found.row.error is None else None,
        back=rows_address(dataset, query),
        addresses=addresses | {each.id: row_address(dataset, each.id, query) for each in found.candidates},
        names=MEASURE_NAMES,
        figure=figure,
    )


@router.post("/datasets/{dataset}/replay", dependencies=[needs("datasets")])
async def replay_piece(request: Request, dataset: str) -> Response:
    """Whether the row comes out the same, made again."""
    row = forms.texts(await request.form()).get("row")
    if row is None:
        raise Invalid("row: which row? reload the page and try again", param="row")
    return page(request, "row_replay.html", replay=await replay_row(request, dataset, row))


def _facts(values: dict[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    """What a manifest says, a fact a line, under the names that it has there; what nobody recorded is left out.

    >>> dict(_facts({"id": "a", "teacher": {"name": "t", "weights": None}, "kept": True}))
    {'id': 'a', 'teacher.name': 't', 'kept': 'yes'}
    """
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _facts(value, f"{under}{name}.")
        elif isinstance(value, bool):
            yield under + name, "yes" if value else "no"
        elif value is not None:
            yield under + name, str(value)
