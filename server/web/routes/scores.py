"""What the student makes of a trace of any origin."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example

from server.configs import ServeConfig
from server.errors import Invalid, Unavailable
from server.service import Parts
from server.teaching.understanding import Student
from server.web.access import needs
from server.web.answering import in_time
from server.web.disconnects import unless_gone
from server.wire import ScoreRequest, ScoreResponse

router = APIRouter(prefix="/v1/scores", tags=["scores"], dependencies=[needs("explain")])
TRACE = {
    "question": "Ann has 3 apples and buys 4 more. How many does she have?",
    "solution": "She has 3 + 4 = 7 apples. The answer is 7.",
    "explanation": "She starts with 3 apples.\n\nShe buys 4 more, and 3 + 4 = 7.",
}
EXAMPLES: dict[str, Example] = {
    "whole": {"summary": "The score and its parts", "value": TRACE},
    "parts": {"summary": "Token by token and step by step", "value": TRACE | {"per_token": True, "per_step": True}},
    "credits": {
        "summary": "What each step is worth",
        "value": TRACE | {"per_step": True, "measures": {"step_credit": True}},
    },
}


@router.post("", response_model=ScoreResponse, summary="Score a trace")
async def create_score(request: Request, body: Annotated[ScoreRequest, Body(openapi_examples=EXAMPLES)]) -> Response:
    """rSS, rKL, their parts and the reward of any explanation of a problem, whoever wrote it; per token, per step and
    with further measures where asked for. rKL needs the teacher beside the student (`score_teacher`)."""
    return Response((await measured(request, body)).model_dump_json(), media_type="application/json")


async def measured(request: Request, body: ScoreRequest) -> ScoreResponse:
    """The answer to the request; raises what the route answers with."""
    state = request.app.state
    config: ServeConfig = state.parts.config
    student = the_student(state.parts)
    _check_lengths(body, config.limits.text_characters)
    answer = await unless_gone(request, in_time(state, student.measure(body)))
    state.metrics.scores.inc()
    return answer


def the_student(parts: Parts) -> Student:
    """The service's student; raises Unavailable where there is none."""
    if parts.student is None:
        raise Unavailable(
            "this service has no student, so nothing can be scored; start it with --student or --scorer-url",
            code="no_student",
        )
    return parts.student


def _check_lengths(body: ScoreRequest, longest: int) -> None:
    for field in ("question", "solution", "explanation"):
        length = len(getattr(body, field))
        if length > longest:
            raise Invalid(f"{field}: at most {longest:,} characters here, got {length:,}", param=field)
    if body.token_ids is not None and len(body.token_ids) > longest:
        raise Invalid(f"token_ids: at most {longest:,} here, got {len(body.token_ids):,}", param="token_ids")
