"""An error as people get it: a page, or a piece where htmx puts it, with what is wrong and what to do."""

from urllib.parse import urlencode

from fastapi import Request, Response
from starlette.types import Scope

from server.console.pages import is_piece, onwards, page
from server.errors import ApiError
from server.web import problems
from server.web.access import SIGN_IN, in_console
from server.web.sessions import SignedOut


def answer(scope: Scope, error: ApiError) -> Response:
    """The response to a request for an error: as a page under /console, elsewhere as the API's problem."""
    if not in_console(scope["path"]):
        return problems.answer(scope, error)
    request = Request(scope)
    if isinstance(error, SignedOut):
        return _to_sign_in(request)
    template = "problem.html" if is_piece(request) else "problem_page.html"
    response = page(request, template, error.status, **described(scope, error))
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after)))
    return response


def described(scope: Scope, error: ApiError) -> dict[str, object]:
    """What the templates say of an error."""
    return {
        "title": problems.title(error.status),
        "error": error,
        "request_id": problems.request_id_of(scope),
    }


def _to_sign_in(request: Request) -> Response:
    """To the page where one signs in, and from there back."""
    back = request.url.path if request.method == "GET" and not is_piece(request) else ""
    return onwards(request, f"{SIGN_IN}?{urlencode({'next': back})}" if back else SIGN_IN)
