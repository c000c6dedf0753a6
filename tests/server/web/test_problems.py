"""Errors as callers see them: one shape, the right status, the field at fault, and nothing of ours."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from server.errors import (
    DatabaseUnavailable,
    EngineRefused,
    EngineUnavailable,
    ServerError,
    StorageUnavailable,
    TooMany,
)
from server.web import problems
from server.web.disconnects import CallerGone
from server.web.logs import RequestLog
from server.web.problems import ProblemBoundary, as_api_error
from server.wire import ExplanationRequest
from student.errors import ProblemError


def app_that_raises() -> FastAPI:
    """An application with the service's own error handling, and routes that fail."""
    app = FastAPI(redirect_slashes=False)
    problems.install(app)
    raised: dict[str, BaseException] = {
        "full": TooMany("full; come again", retry_after=1.2),
        "bug": KeyError("secret detail"),
        "engine": EngineUnavailable("vLLM does not answer"),
        "gone": CallerGone(),
    }

    @app.post("/v1/explanations")
    async def explanations(body: ExplanationRequest) -> int:
        return body.n

    @app.post("/v1/chat/completions")
    async def chat(body: ExplanationRequest) -> int:
        return body.n

    @app.get("/raise/{name}")
    async def fail(request: Request, name: str) -> None:
        raise raised[name]

    app.add_middleware(ProblemBoundary, on_fault=lambda: None, on_gone=lambda: None)
    app.add_middleware(RequestLog, observe=lambda *_: None)
    return app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(app_that_raises(), raise_server_exceptions=True) as found:
        yield found


GOOD = {"question": "1 + 1?", "solution": "2"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The `error` of a response, after everything that all problems share was checked."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"] == body["error"]["message"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"n": 0}, "n", "n: Input should be greater than or equal to 1, got 0"),
        ({"question": None}, "question", "question: Input should be a valid string, got None"),
        ({"smaples": 3}, "smaples", "smaples: is not known here; leave it out or correct its name (see /docs)"),
        ({"n": 2, "best_of": 1}, None, "best_of (1) must be at least n (2)"),
        ({"question": "a\ud800"}, "question", "got 'a\\ud800'"),
    ],
)
def test_the_first_complaint_names_the_field_the_value_and_the_remedy(
    client: TestClient, change: dict[str, Any], param: str | None, message: str
) -> None:
    sent = json.dumps(GOOD | change)
    response = client.post("/v1/explanations", content=sent, headers={"content-type": "application/json"})
    error = error_of(response)
    assert response.status_code == 422
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert message in error["message"]


def test_a_missing_field_is_named_and_more_complaints_are_counted(client: TestClient) -> None:
    error = error_of(client.post("/v1/explanations", json={}))
    assert error["message"] == "question: is required (and 1 more)"


def test_a_value_that_cannot_be_used_is_400_where_openai_says_so(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json=GOOD | {"n": 0})
    assert response.status_code == 400
    assert error_of(response)["param"] == "n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": ', "not valid JSON (Expecting value at character 13)"),
        (b'{"question": "\xff"}', "body: not UTF-8"),
        (b'{"\\ud800": 1}', "a JSON object is expected"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"question":' * 10_000, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_json_is_400(client: TestClient, content: bytes, message: str) -> None:
    response = client.post("/v1/explanations", content=content, headers={"content-type": "application/json"})
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "invalid_body")
    assert message in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_json_under_another_content_type_is_not_read(client: TestClient, kind: str) -> None:
    """A page in a browser may send text/plain anywhere without asking first."""
    response = client.post("/v1/explanations", content=json.dumps(GOOD), headers={"content-type": kind})
    assert response.status_code == 400
    assert "Content-Type: application/json" in error_of(response)["message"]


def test_an_unknown_address_and_a_wrong_method_are_told_apart(client: TestClient) -> None:
    unknown, wrong = client.get("/v1/explanation"), client.get("/v1/explanations")
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "unknown_url")
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert client.post("/v1/explanations/", json=GOOD).status_code == 404


def test_what_nobody_foresaw_is_500_with_an_id_and_no_detail(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    response = client.get("/raise/bug")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    logged = capsys.readouterr()
    assert "secret detail" in logged.out + logged.err
    assert response.headers["x-request-id"] in logged.out + logged.err


def test_too_many_says_when_to_come_again_in_whole_seconds(client: TestClient) -> None:
    response = client.get("/raise/full")
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert error_of(response)["type"] == "rate_limit_error"


def test_an_engine_that_is_away_is_503_and_may_be_asked_again(client: TestClient) -> None:
    response = client.get("/raise/engine")
    assert (response.status_code, error_of(response)["code"]) == (503, "engine_unavailable")
    assert response.headers["retry-after"]


def test_a_caller_who_left_is_no_fault_of_anybodys(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.get("/raise/gone").status_code == 499
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineRefused("too long"), 400, "engine_refused"),
        (ServerError("the disk is full"), 503, "unavailable"),
        (ProblemError("no such column"), 422, "invalid_value"),
        (asyncio.CancelledError(), 500, "internal_error"),
    ],
)
def test_each_error_of_ours_has_its_status(error: BaseException, status: int, code: str) -> None:
    told = as_api_error(error)
    assert (told.status, told.code) == (status, code)


@pytest.mark.parametrize("kind", [DatabaseUnavailable, StorageUnavailable])
def test_where_database_and_storage_are_is_told_to_the_log_alone(
    kind: type[ServerError], capsys: pytest.CaptureFixture[str]
) -> None:
    told = as_api_error(kind("postgresql://rlt:***@db.internal/rlt: connection refused"))
    assert (told.status, told.code, "db.internal" in str(told)) == (503, "unavailable", False)
    assert "db.internal" in capsys.readouterr().out


def test_a_callers_own_request_id_comes_back_unless_it_could_forge_a_log_line(client: TestClient) -> None:
    assert client.get("/raise/full", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/raise/full", headers={"x-request-id": "a b"}).headers["x-request-id"].startswith("req_")
