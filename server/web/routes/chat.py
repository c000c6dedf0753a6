"""Chat completions: explanations the OpenAI way, whole or streamed."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from server.state.ids import new_id
from server.teaching.explaining import Delta, Prompt, usage
from server.web.access import needs
from server.web.answering import Answering, the_teachers
from server.web.disconnects import unless_gone
from server.web.events import EventStream, event
from server.web.openai_objects import ChatCompletion, ChatRequest, besides, chat_completion, finish_reason
from student.explanations import Explanation

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"], dependencies=[needs("explain")])
EXAMPLE = {
    "messages": [{"role": "user", "content": "Ann has 3 apples and buys 4 more. How many does she have?"}],
    "solution": "She has 3 + 4 = 7 apples. The answer is 7.",
    "max_tokens": 64,
}
DONE = b"data: [DONE]\n\n"


@router.post(
    "",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {"example": 'data: {"object": "chat.completion.chunk"}\n\n'}}}},
    summary="Explain a problem, the OpenAI way",
)
async def create_chat_completion(
    request: Request, body: Annotated[ChatRequest, Body(openapi_examples={"apples": {"value": EXAMPLE}})]
) -> Response:
    """The user's message is the question and `solution` stands beside it. The answer's `content` is the explanation,
    and `rlt` in each choice says what POST /v1/explanations does: score, seed, digest of the weights.
    """
    asked = body.explanation_request()
    answering = Answering(request.app.state, asked)
    if body.stream:
        made, leave = await unless_gone(request, answering.begun())
        model = body.model or the_teachers(request.app.state.parts).default
        events = _chunks(body, model, made, answering.parts_of(made))
        return EventStream(request, events, seconds=answering.seconds, leave=leave)
    made, rows = await unless_gone(request, answering.whole())
    return Response(chat_completion(asked, made, rows).model_dump_json(), media_type="application/json")


async def _chunks(
    body: ChatRequest, model: str, made: Prompt, parts: AsyncIterator[Delta | Explanation]
) -> AsyncIterator[bytes]:
    """The role of each choice, its text, why it ended; then what all of it cost, where that is asked for."""
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    head = {"id": new_id("chatcmpl-"), "object": "chat.completion.chunk", "created": int(time.time())}
    head |= {"model": model} | ({"usage": None} if with_usage else {})
    for index in range(body.n or 1):
        yield _chunk(head, index, {"role": "assistant", "content": ""})
    rows: list[Explanation] = []
    async for part in parts:
        if isinstance(part, Delta):
            yield _chunk(head, part.index, {"content": part.text})
            continue
        rows.append(part)
        yield _chunk(head, part.sample, {}, finish_reason=finish_reason(part), rlt=besides(part))
    if with_usage:
        yield event(None, head | {"choices": [], "usage": usage(made, rows).model_dump()})
    yield DONE


def _chunk(head: dict[str, Any], index: int, delta: dict[str, str], **more: Any) -> bytes:
    return event(None, head | {"choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]})
