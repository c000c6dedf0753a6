"""The Try page: an explanation as it is written, then the student's view of it, or of two side by side.

The form is POST /v1/explanations with `stream` and, where there is a student, scores; a view is POST /v1/scores with
everything. Both go through those routes' own functions, limits and gate. The stream is server-sent events of HTML,
which htmx's extension puts in place: first the panels, then each piece of text, at last the ranking.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from server.configs import ServeConfig
from server.console import forms
from server.console.error_pages import described
from server.console.heat import Cell, Row, explanation_rows, solution_cells
from server.console.pages import TEMPLATES, page, page_router, surroundings
from server.console.words import Finding, findings
from server.errors import ApiError, Invalid
from server.service import Parts
from server.teaching.explaining import Delta
from server.web.access import needs
from server.web.answering import Answering
from server.web.disconnects import unless_gone
from server.web.events import EventStream
from server.web.routes.models import served
from server.web.routes.scores import measured
from server.wire import ExplanationRequest, ScoreRequest, ScoreResponse
from student.curation.ranking import rank
from student.explanations import Explanation

router = page_router()
MOST_SAMPLES = 8
"""Explanations that are asked for at a time: as many as one can look through."""
SIDE_BY_SIDE = 2
LONG_TOKENS = 2000
DEFAULTS = {"n": 1, "temperature": 0.7, "max_tokens": 1024}
OWN = ("question", "solution", "explanation")


@router.get("/try", dependencies=[needs("explain")])
async def try_page(request: Request) -> Response:
    """The form, with nothing explained yet."""
    parts: Parts = request.app.state.parts
    models = [model.id for model in served(parts) if model.role != "student"]
    most = min(MOST_SAMPLES, _config(parts).limits.samples)
    has_student = parts.student is not None
    return page(request, "try.html", models=models, has_student=has_student, most=most, defaults=DEFAULTS)


@router.post("/try", dependencies=[needs("explain")])
async def explain(request: Request) -> Response:
    """The explanations as they are written, and their ranking."""
    body = _asked(forms.texts(await request.form()), request.app.state.parts)
    answering = Answering(request.app.state, body)
    made, leave = await unless_gone(request, answering.begun())
    pieces = _pieces(request, body, answering.parts_of(made))
    return PieceStream(request, pieces, seconds=answering.seconds, leave=leave)


@router.post("/try/view", dependencies=[needs("explain")])
async def view(request: Request) -> Response:
    """The student's view of the explanations that were chosen, or of one that somebody typed."""
    traces = await _traces(request)
    answers = [await measured(request, trace) for trace in traces]
    return await asyncio.to_thread(_view_page, request, traces, answers)


class PieceStream(EventStream):
    """An EventStream of HTML: a failure in the middle is put where people see it."""

    def failure(self, error: ApiError) -> bytes:
        """The problem, for the page's place for trouble."""
        request = self.request
        text = _render(request, "problem.html", **described(request.scope, error))
        return message(f'<hx-partial hx-target="#trouble" hx-swap="innerHTML">{text}</hx-partial>')


def message(html: str) -> bytes:
    """HTML as an event. Only newlines part its lines: other separators are text like any other.

    >>> message("a\\u2028b\\nc") == "data: a\\u2028b\\ndata: c\\n\\n".encode()
    True
    """
    assert "\r" not in html, "the filter `exact` leaves none"
    return ("".join(f"data: {line}\n" for line in html.split("\n")) + "\n").encode()


def _asked(form: dict[str, str], parts: Parts) -> ExplanationRequest:
    """The form as the body of POST /v1/explanations; several are ranked where there is a student."""
    names = ("question", "solution", "model", "n", "temperature", "max_tokens", "seed")
    values: dict[str, Any] = {name: form[name] for name in names if name in form} | {"stream": True}
    if parts.student is not None:
        values |= {"return_scores": True, "best_of": form.get("n", "1")}
    return forms.body(ExplanationRequest, values)


async def _pieces(
    request: Request, body: ExplanationRequest, parts: AsyncIterator[Delta | Explanation]
) -> AsyncIterator[bytes]:
    rows: list[Explanation] = []
    yield message(_render(request, "try_writing.html", samples=body.samples))
    async for part in parts:
        if isinstance(part, Delta):
            yield message(_render(request, "try_delta.html", delta=part))
        else:
            rows.append(part)
    ranked = [Ranked(row, trace_of(row)) for row in rank(rows, body.ranking, body.n)]
    scored = any(each.row.score is not None for each in ranked)
    yield message(_render(request, "try_ranking.html", ranked=ranked, scored=scored))


@dataclass(frozen=True)
class Ranked:
    """An explanation in the ranking, and the body of POST /v1/scores that asks for the student's view of it."""

    row: Explanation
    trace: str


def trace_of(row: Explanation) -> str:
    """What asks for the student's view of a row: of the very tokens that were sampled."""
    known: dict[str, Any] = {name: getattr(row, name) for name in (*OWN, "closed")}
    if row.token_ids is not None:
        known["token_ids"] = list(row.token_ids)
    known |= {name: value for name in ("tags", "answer") if (value := getattr(row, name)) is not None}
    return ScoreRequest.model_validate(known | EVERYTHING).model_dump_json(exclude_unset=True)


EVERYTHING = {"per_token": True, "per_step": True, "measures": {"step_credit": True}}
"""What a view asks of the student."""


async def _traces(request: Request) -> list[ScoreRequest]:
    form = await request.form()
    chosen = [forms.body_of_json(ScoreRequest, text) for text in form.getlist("trace") if isinstance(text, str)]
    if not chosen and "explanation" in form:
        typed = {"explanation": ""} | forms.texts(form)
        return [forms.body(ScoreRequest, {name: typed[name] for name in OWN if name in typed} | EVERYTHING)]
    if not chosen:
        raise Invalid("trace: choose an explanation, or two to compare them", param="trace")
    if len(chosen) > SIDE_BY_SIDE:
        told = f"trace: two explanations are compared at a time, got {len(chosen)}; choose one or two"
        raise Invalid(told, param="trace")
    return chosen


@dataclass(frozen=True)
class View:
    """What is shown of one explanation."""

    answer: ScoreResponse
    findings: list[Finding]
    rows: list[Row]
    solution: list[Cell]
    long: bool
    """It has so many tokens that browsers are told to draw those in sight alone."""


def _view_page(request: Request, traces: list[ScoreRequest], answers: list[ScoreResponse]) -> Response:
    views = [_view_of(trace, answer) for trace, answer in zip(traces, answers, strict=True)]
    return page(request, "try_view.html", views=views)


def _view_of(trace: ScoreRequest, answer: ScoreResponse) -> View:
    long = len(answer.explanation_tokens or ()) > LONG_TOKENS
    return View(answer, findings(answer), explanation_rows(trace.explanation, answer), solution_cells(answer), long)


def _render(request: Request, template: str, **values: Any) -> str:
    return TEMPLATES.get_template(template).render(surroundings(request) | values)


def _config(parts: Parts) -> ServeConfig:
    assert isinstance(parts.config, ServeConfig)
    return parts.config
