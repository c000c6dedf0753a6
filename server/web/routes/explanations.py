"""Explanations of one problem: sampled, scored and ranked, whole or as they are written."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example

from server.teaching.explaining import Delta, Prompt, choice, response
from server.web.access import needs
from server.web.answering import Answering
from server.web.disconnects import unless_gone
from server.web.events import EventStream, event
from server.wire import ExplanationRequest, ExplanationResponse
from student.curation.ranking import rank
from student.explanations import Explanation

router = APIRouter(prefix="/v1/explanations", tags=["explanations"], dependencies=[needs("explain")])
PROBLEM = {
    "question": "Ann has 3 apples and buys 4 more. How many does she have?",
    "solution": "She has 3 + 4 = 7 apples. The answer is 7.",
    "max_tokens": 64,
}
EXAMPLES: dict[str, Example] = {
    "one": {"summary": "One explanation", "value": PROBLEM},
    "best": {"summary": "The best two of four", "value": PROBLEM | {"n": 2, "best_of": 4, "seed": 1}},
    "stream": {"summary": "As it is written", "value": PROBLEM | {"stream": True}},
}
STREAM_EXAMPLE = """event: delta
data: {"index": 0, "text": "She starts with 3 apples."}

event: explanation
data: {"index": 0, "explanation": "She starts with 3 apples.", "closed": true}

event: done
data: {"id": "expl_", "model": "rlt_teacher", "usage": {"prompt_tokens": 90, "completion_tokens": 7}}

"""


@router.post(
    "",
    response_model=ExplanationResponse,
    responses={200: {"content": {"text/event-stream": {"example": STREAM_EXAMPLE}}}},
    summary="Explain a problem",
)
async def create_explanations(
    request: Request, body: Annotated[ExplanationRequest, Body(openapi_examples=EXAMPLES)]
) -> Response:
    """`n` explanations that lead from the question to the solution; with a student they can be scored (`return_scores`)
    and ranked (`best_of`, `rank_by`). The same `seed` makes the same explanations again, as far as the engine can.

    With `stream` the answer is server-sent events: `delta` for each piece of text, `explanation` for each that is whole
    (those of a ranking at the end, best first), then `done`; a failure on the way is an `error` event. Leaving before
    the answer ends the work.
    """
    answering = Answering(request.app.state, body)
    if body.stream:
        made, leave = await unless_gone(request, answering.begun())
        events = _events(body, made, answering.parts_of(made))
        return EventStream(request, events, seconds=answering.seconds, leave=leave)
    made, rows = await unless_gone(request, answering.whole())
    return Response(response(body, made, rows).model_dump_json(), media_type="application/json")


async def _events(
    body: ExplanationRequest, made: Prompt, parts: AsyncIterator[Delta | Explanation]
) -> AsyncIterator[bytes]:
    rows: list[Explanation] = []
    async for part in parts:
        if isinstance(part, Delta):
            yield event("delta", {"index": part.index, "text": part.text})
            continue
        rows.append(part)
        if body.ranking is None:
            yield event("explanation", choice(part).model_dump(mode="json"))
    for row in rank(rows, body.ranking, body.n) if body.ranking is not None else ():
        yield event("explanation", choice(row).model_dump(mode="json"))
    yield event("done", response(body, made, rows).model_dump(mode="json", exclude={"explanations"}))
