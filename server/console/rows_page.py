"""The Rows page of a dataset: a table, filtered by bounds on any measure, and how each measure is distributed.

GET /v1/datasets/{id} and its /rows and /distributions, with the same query. The address holds the filter. The
distributions are a piece that the page asks for once it stands, since all rows are read for them. Downloads of the rows
that match go through the dataset's own page (datasets_page.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from server.console import forms
from server.console.pages import page, page_router
from server.console.words import MEASURE_NAMES, figure
from server.datasets.bounds import Bound, RowsQuery, Wanted
from server.datasets.distributions import Distributions
from server.datasets.shards import Include
from server.state.tables import TERMINAL
from server.web.access import CONSOLE, needs
from server.web.routes.datasets import get_dataset, get_distributions, page_of_rows
from student.curation.filters import value_of
from student.explanations import Explanation
from student.measures.results import Measure

router = page_router()
PAGE_ROWS = 50
SHOWN_CHARACTERS = 100
"""Of a question, in the table."""
COLUMNS: tuple[Measure, ...] = ("reward", "rss", "rkl", "gain", "leak", "tokens", "verified")
"""Measures that the table shows, bounded or not; a window has no room for all."""
DOWNLOADS = ("jsonl", "parquet", "manifest")
"""Formats that hold the rows themselves; the others are on the dataset's own page."""


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    row: Explanation
    address: str
    question: str
    values: list[str]


@router.get("/datasets/{dataset}/rows", dependencies=[needs("datasets")])
async def rows_page(request: Request, dataset: str) -> Response:
    """The table and its filter; a form that was sent with empty fields is led to the address without them."""
    if _filled(request) != dict(request.query_params):
        return RedirectResponse(rows_address(dataset, _filled(request)), 303)
    asked = forms.body(RowsQuery, {"limit": PAGE_ROWS} | _filled(request))
    found = await get_dataset(request, dataset)
    rows = await page_of_rows(request, dataset, asked)
    query = query_of(asked)
    measures = _columns(rows.rows, list(asked.bounds()))
    return page(
        request,
        "rows.html",
        dataset=found,
        asked=asked,
        query=query,
        includes=get_args(Include),
        names=MEASURE_NAMES,
        measures=measures,
        lines=[_line(dataset, row, measures, query) for row in rows.rows],
        following=rows_address(dataset, query | {"after": rows.places[-1]}) if rows.has_more else None,
        address=rows_address,
        downloads={form: _beside(dataset, "export", query | {"format": form}) for form in DOWNLOADS},
        ended=found.status in TERMINAL,
        distributions=_beside(dataset, "distributions", query),
    )


@router.get("/datasets/{dataset}/distributions", dependencies=[needs("datasets")])
async def distributions_piece(request: Request, dataset: str) -> Response:
    """How many rows match, why none does, and how each measure is distributed."""
    wanted = forms.body(Wanted, _filled(request))
    found = await get_distributions(request, dataset, wanted)
    return page(
        request,
        "rows_distributions.html",
        found=found,
        wanted=wanted,
        names=MEASURE_NAMES,
        figure=figure,
        alone=_leave_nothing(found),
    )


def rows_address(dataset: str, query: dict[str, Any]) -> str:
    """Where the table with this filter is."""
    return _beside(dataset, "rows", query)


def row_address(dataset: str, row_id: str, query: dict[str, Any]) -> str:
    """Where the page of a row is, among those of the filter.

    >>> row_address("ds_1", "a/b-0", {"min_reward": -1.0})
    '/console/datasets/ds_1/rows/a%2Fb-0?min_reward=-1.0'
    """
    return _beside(dataset, f"rows/{quote(row_id, safe='')}", query)


def _beside(dataset: str, place: str, query: dict[str, Any]) -> str:
    return f"{CONSOLE}/datasets/{quote(dataset)}/{place}" + (f"?{urlencode(query)}" if query else "")


def query_of(wanted: Wanted) -> dict[str, Any]:
    """What in an address stands for the filter, without the place in it."""
    return wanted.model_dump(include=set(Wanted.model_fields), exclude_defaults=True)


def wanted_of(request: Request) -> Wanted:
    """The filter in an address."""
    return forms.body(Wanted, _filled(request))


def _filled(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if value.strip()}


def _columns(rows: Sequence[Explanation], bounds: Sequence[Bound]) -> list[Measure]:
    """What the table shows: measures that are bounded, and of COLUMNS those that a row has."""
    bounded = {bound.measure for bound in bounds}
    had = {name for name in COLUMNS for row in rows if value_of(row, name) is not None}
    return [name for name in get_args(Measure) if name in bounded | had]


def _line(dataset: str, row: Explanation, measures: Sequence[Measure], query: dict[str, Any]) -> Line:
    start = " ".join(row.question[:SHOWN_CHARACTERS].split())
    question = start + "…" * (len(row.question) > SHOWN_CHARACTERS)
    values = [figure(value_of(row, name), name) for name in measures]
    return Line(row, row_address(dataset, row.id, query), question, values)


def _leave_nothing(found: Distributions) -> list[str]:
    """The bounds each of which alone leaves no row."""
    return [name for name, missed in found.missed.items() if missed == found.rows]
