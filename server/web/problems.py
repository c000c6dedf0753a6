"""Every failure as one body: problem+json (RFC 9457) with OpenAI's `error` beside it, for both kinds of clients.

    {"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "n: must be at least 1, got 0",
     "request_id": "req_...", "error": {"message": ..., "type": ..., "param": "n", "code": "invalid_value"}}

The openai SDK raises its own class by the status and shows `error.code` and `error.param`. What nobody foresaw is 500
with the request's id; its traceback is in the log alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import (
    ApiError,
    BadBody,
    DatabaseUnavailable,
    EngineRefused,
    EngineUnavailable,
    Invalid,
    NotFound,
    ServerError,
    StorageUnavailable,
    Unavailable,
)
from server.web.disconnects import CallerGone
from student.errors import RltError

MEDIA_TYPE = "application/problem+json"
SCHEMA = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, the value seen, what to do."},
        "request_id": {"type": "string"},
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault, dotted."},
                "code": {"type": "string", "description": "Stable; programs tell errors apart by it."},
            },
        },
    },
}
"""The body, for the API's description."""
CALLER_GONE = 499
"""What the log says of a request whose caller left; nobody receives it."""
OPENAI_PATHS = ("/v1/chat/", "/v1/files", "/v1/batches")
"""Where a value that cannot be used is 400, as OpenAI answers; our own resources say 422."""
ENGINE_RETRY_SECONDS = 2.0

log = structlog.get_logger("rlt.problems")


class Unexpected(ApiError):
    """A fault of ours."""

    status = 500
    type = "server_error"
    code = "internal_error"


class MethodNotAllowed(ApiError):
    """The path is there, but not for this method."""

    status = 405
    code = "method_not_allowed"


def problem(error: ApiError, request_id: str | None = None, status: int | None = None) -> dict[str, Any]:
    """The body for an error.

    >>> problem(Invalid("n: must be positive, got 0", param="n"))["error"]["code"]
    'invalid_value'
    """
    status = status or error.status
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title(status),
        "status": status,
        "detail": str(error),
        "error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code},
    }
    return body | ({"request_id": request_id} if request_id else {})


def title(status: int) -> str:
    """What HTTP calls a status.

    >>> title(429)
    'Too Many Requests'
    """
    return HTTPStatus(status).phrase


class ProblemResponse(Response):
    """An error as a response; `retry_after` becomes a header, rounded up to whole seconds."""

    media_type = MEDIA_TYPE

    def __init__(self, error: ApiError, request_id: str | None = None, status: int | None = None) -> None:
        # ASCII, so that a lone surrogate in somebody's JSON key comes back escaped instead of failing here.
        content = json.dumps(problem(error, request_id, status)).encode()
        super().__init__(content, status or error.status, _headers(error))


def _headers(error: ApiError) -> dict[str, str]:
    headers = {"cache-control": "no-store"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
    elif error.status == 503:
        headers["x-should-retry"] = "false"  # openai's SDK would ask again at once, and in vain
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status in (408, 413):
        headers["connection"] = "close"
    return headers


def as_api_error(error: BaseException) -> ApiError:
    """What a caller is told of any error; what nobody foresaw is Unexpected, and tells nothing.

    >>> as_api_error(EngineUnavailable("vLLM does not answer")).status, as_api_error(KeyError("x")).status
    (503, 500)
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineUnavailable):
        return Unavailable(str(error), retry_after=ENGINE_RETRY_SECONDS)
    if isinstance(error, EngineRefused):
        return ApiError(str(error), code="engine_refused")
    if isinstance(error, DatabaseUnavailable | StorageUnavailable):  # whose addresses are no caller's business
        log.warning("unavailable", reason=str(error))
        return Unavailable(
            "the service's database or storage does not answer now; try again in some seconds (its log says more)",
            code="unavailable",
            retry_after=ENGINE_RETRY_SECONDS,
        )
    if isinstance(error, ServerError):
        return Unavailable(str(error), code="unavailable", retry_after=ENGINE_RETRY_SECONDS)
    if isinstance(error, RltError):
        return Invalid(str(error))
    return Unexpected("the service made a mistake; its log has the details under this request's id")


def answer(scope: Scope, error: ApiError) -> ProblemResponse:
    """The response to a request for an error."""
    return ProblemResponse(error, request_id_of(scope), status_of(error, scope["path"]))


def status_of(error: ApiError, path: str) -> int:
    """The status of an error there.

    >>> [status_of(Invalid("n: too large"), path) for path in ("/v1/explanations", "/v1/chat/completions")]
    [422, 400]
    """
    return 400 if isinstance(error, Invalid) and path.startswith(OPENAI_PATHS) else error.status


Answer = Callable[[Scope, ApiError], Response]
"""Makes the response to a request for an error: `answer`, or another one for people (console/error_pages.py)."""


def install(app: FastAPI, answer: Answer = answer) -> None:
    """Makes `app` answer every error that a route, a dependency or the routing raises."""

    async def answer_rlt(request: Request, error: Exception) -> Response:
        return answer(request.scope, as_api_error(error))

    async def answer_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request.scope, complaint(error.errors()))

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = answer(request.scope, _of_http(request, error))
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(RltError, answer_rlt)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)


def request_id_of(scope: Scope) -> str | None:
    """The id that the request was given as it came in (logs.py)."""
    found = scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else None


def _of_http(request: Request, error: HTTPException) -> ApiError:
    """Starlette's and FastAPI's own errors in our words."""
    if isinstance(error.__cause__, ApiError):  # FastAPI wraps what is raised while the body arrives (bodies.py)
        return error.__cause__
    asked = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        return NotFound(f"{asked}: there is no such route; see /docs for those there are", code="unknown_url")
    if error.status_code == 405:
        return MethodNotAllowed(f"{asked}: the route does not take this method; see /docs for those it takes")
    if error.status_code == 400:
        return BadBody(_unreadable(error))
    plain = ApiError(str(error.detail))
    plain.status = error.status_code
    return plain


def _unreadable(error: HTTPException) -> str:
    if isinstance(error.__cause__, RecursionError):
        return "body: nested too deeply to be read; send a flatter one"
    if isinstance(error.__cause__, UnicodeDecodeError):
        return "body: not UTF-8; encode it so"
    return f"body: cannot be read ({error.detail}); check that it is whole and of the content type it is sent as"


REASONS: dict[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not known here; leave it out or correct its name (see /docs)",
    "json_invalid": "not valid JSON",
}
SEEN_CHARACTERS = 80


def complaint(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's complaints as one sentence, with the dotted name of the field.

    >>> str(complaint([{"type": "missing", "loc": ("body", "question"), "msg": "Field required", "input": {}}]))
    'question: is required'
    """
    first = errors[0]
    place, *path = first["loc"]
    if first["type"] == "json_invalid":
        return BadBody(f"body: not valid JSON ({first['ctx']['error']} at character {path[0] if path else 0}); mend it")
    if not path and place == "body" and first["type"] != "value_error":
        return BadBody("body: a JSON object is expected, sent as Content-Type: application/json")
    reason = REASONS.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    if not path:
        return Invalid(reason)
    param = ".".join(str(part) for part in path)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Invalid(f"{param}: {reason}{_seen(first)}{more}", param=param)


def _seen(first: Mapping[str, Any]) -> str:
    if first["type"] in REASONS or isinstance(first.get("input"), dict | list):
        return ""
    shown = repr(first.get("input"))
    return f", got {shown if len(shown) <= SEEN_CHARACTERS else shown[:SEEN_CHARACTERS] + '...'}"


class ProblemBoundary:
    """Answers what is raised outside the routes, and what nobody foresaw, unless the answer has begun already."""

    def __init__(
        self, app: ASGIApp, on_fault: Callable[[], None], on_gone: Callable[[], None], answer: Answer = answer
    ) -> None:
        self.app = app
        self.answer = answer
        self.on_fault = on_fault
        self.on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries the request out."""
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        except CallerGone:
            self.on_gone()
            await Response(status_code=CALLER_GONE)(scope, receive, send)
        except Exception as error:  # the boundary of a request: a fault becomes a 500, and a log line
            told = as_api_error(error)
            if told.status == 500:
                self.on_fault()
                log.error("a request failed unexpectedly", exc_info=error)
            if not begun:
                await self.answer(scope, told)(scope, receive, send)
