"""The web application: the parts of the service behind its routes, with everything that every request goes through.

    request id, log, figures -> errors as problems -> rules for browsers -> key and rate -> length of the body -> route

Routes reach the service's parts by `request.app.state`: `parts` (service.py), `gate` (gate.py), `metrics`
(metrics.py), `stopping`, an event that is set once the service was told to end, and `dry_run`, the lock of dry runs.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.routing import APIRoute

from server.configs import ServeConfig
from server.console import (
    datasets_page,
    error_pages,
    new_dataset_page,
    pages,
    row_page,
    rows_page,
    sign_in,
    system_page,
    training_page,
    try_page,
)
from server.errors import Invalid
from server.service import Parts
from server.web import problems
from server.web.access import AccessCheck
from server.web.bodies import BodyLimits
from server.web.gate import Gate
from server.web.logs import RequestLog
from server.web.metrics import Metrics
from server.web.routes import (
    admin,
    batches,
    chat,
    datasets,
    explanations,
    files,
    health,
    keys,
    models,
    runs,
    scores,
    system,
)

VERSION = "1"
DESCRIPTION = """
A reinforcement-learned teacher explains: it is shown a problem **with** its solution and writes what leads a student
from one to the other. A student scores any such text by how well it understands the solution after it.

* `POST /v1/explanations` explains one problem, `POST /v1/scores` scores a trace of any origin.
* `/v1/datasets` explains whole files of problems as durable jobs, and exports what `rlt distill` trains on.
* `/v1/chat/completions`, `/v1/models`, `/v1/files` and `/v1/batches` are OpenAI's, for the stock SDK.

Every error is `application/problem+json` with an `error` object beside it, as OpenAI's SDK reads it. Unknown fields
are refused. Every response has an `x-request-id`.
"""
TAGS = {
    "explanations": "The teacher explains a problem.",
    "scores": "The student scores a trace of any origin.",
    "datasets": "Files of problems explained by durable jobs.",
    "chat": "Explanations the OpenAI way: the user's message is the question, `solution` stands beside it.",
    "models": "What is served.",
    "files": "OpenAI's files: inputs and outputs of batches, problems of datasets.",
    "batches": "OpenAI's batches, over the same jobs as datasets.",
    "admin": "Another teacher or adapter while serving; who works on jobs; runs of training.",
    "health": "Whether the service lives, and could serve now.",
}

CONSOLE = (
    pages,
    sign_in,
    try_page,
    new_dataset_page,
    datasets_page,
    rows_page,
    row_page,
    training_page,
    system_page,
)
"""Where two paths match, the first is asked."""


def create_app(parts: Parts) -> FastAPI:
    """The application over parts that are open already; whoever opened them closes them."""
    config = parts.config
    assert isinstance(config, ServeConfig), "a worker has no port"
    gate = Gate(config.limits.running, config.limits.waiting)
    metrics = Metrics(gate)
    app = FastAPI(
        title="RLT teacher",
        summary="Explanations by a reinforcement-learned teacher, scores by a student.",
        description=DESCRIPTION,
        version=VERSION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses=_error_responses(),
        middleware=_middleware(parts, config, metrics),
    )
    app.state.parts, app.state.gate, app.state.metrics = parts, gate, metrics
    app.state.stopping, app.state.dry_run = asyncio.Event(), asyncio.Lock()
    problems.install(app, error_pages.answer)
    for resource in (explanations, scores, datasets, chat, models, files, batches, admin, keys, system, runs, health):
        app.include_router(resource.router)
    for console in CONSOLE:
        app.include_router(console.router)
    return app


def _middleware(parts: Parts, config: ServeConfig, metrics: Metrics) -> list[Middleware]:
    """The first is the outermost."""
    return [
        Middleware(RequestLog, observe=metrics.observe),
        Middleware(
            problems.ProblemBoundary,
            on_fault=metrics.faults.inc,
            on_gone=metrics.left.inc,
            answer=error_pages.answer,
        ),
        Middleware(pages.PageRules),
        Middleware(AccessCheck, keys=parts.keys, config=config),
        Middleware(BodyLimits, limits=config.limits),
    ]


def _operation_id(route: APIRoute) -> str:
    return route.name


def _error_responses() -> dict[int | str, dict[str, Any]]:
    """What every route may answer besides its own, for the API's description."""
    example = problems.problem(Invalid("n: Input should be greater than or equal to 1, got 0", param="n"))
    content = {problems.MEDIA_TYPE: {"schema": problems.SCHEMA, "example": example}}
    return {"default": {"description": "A problem; the status and `error.code` say which.", "content": content}}
