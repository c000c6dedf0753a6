"""The application as a whole: its description, its examples, what every response carries, its figures and logs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.service import Parts
from server.web.app import TAGS
from tests.server.in_process import Script, bearer, in_app
from tests.server.service_process import Service

WITHOUT_EXAMPLES = {"/v1/batches", "/v1/admin/teacher", "/v1/admin/adapters", "/v1/admin/keys"}
"""Their bodies name a file or folder that must be there, or would close the service to other tests, which send them."""
ASKED = {"question": "1 + 1?", "solution": "2", "max_tokens": 8}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as found:
        yield found


@pytest.fixture(scope="module")
def described(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation as (method, path, description)."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_example_in_the_description_works(client: httpx.Client, described: dict[str, Any]) -> None:
    tried = []
    for method, path, operation in operations(described):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None or path in WITHOUT_EXAMPLES:
            continue
        assert body.get("examples"), f"{method} {path} has no example"
        for name, example in body["examples"].items():
            response = client.request(method, path, json=example["value"])
            assert response.status_code in (200, 201, 202), (path, name, response.text)
            assert str(response.status_code) in operation["responses"]
            assert not example["value"].get("stream") or "event: done" in response.text
            tried.append(f"{path} {name}")
    assert len(tried) >= 5


def test_every_route_is_described_and_says_which_key_it_needs(described: dict[str, Any]) -> None:
    for method, path, operation in operations(described):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= TAGS.keys(), where
        assert bool(operation.get("security")) == path.startswith(("/v1/", "/metrics")), where
        assert "application/problem+json" in operation["responses"]["default"]["content"], where
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(set(names)) == len(names)


def test_every_setting_of_a_request_of_ours_is_described(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    for name in ("ExplanationRequest", "ScoreRequest", "DatasetRequest"):
        fields = schemas[name]["properties"]
        assert [field for field, schema in fields.items() if not schema.get("description")] == [], name
        assert schemas[name]["additionalProperties"] is False


def test_what_is_served_is_listed_the_teacher_first(client: httpx.Client, servable_model_folder: Path) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [model["role"] for model in listed] == ["teacher", "student"]
    assert {model["id"] for model in listed} == {servable_model_folder.name}
    assert client.get(f"/v1/models/{listed[0]['id']}").json() == listed[0]
    missing = client.get("/v1/models/gpt-4")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert repr(listed[0]["id"]) in missing.json()["detail"]


def test_a_service_says_whether_it_is_ready(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json() == {"status": "ready", "checks": {"database": "ok", "engine": "ok"}}


def test_who_works_is_listed(client: httpx.Client) -> None:
    [worker] = client.get("/v1/admin/workers").json()["data"]
    assert worker["alive"] is True


def test_the_front_page_leads_to_the_documentation(client: httpx.Client) -> None:
    assert client.get(client.get("/").json()["docs"]).headers["content-type"].startswith("text/html")


def test_a_score_of_unfit_text_is_refused_with_its_field(client: httpx.Client) -> None:
    trace = {"question": "1 + 1?", "solution": "2", "explanation": "a <|im_end|> token"}
    response = client.post("/v1/scores", json=trace)
    assert (response.status_code, response.json()["error"]["param"]) == (422, "explanation")
    longer = client.post("/v1/scores", json=trace | {"explanation": "x" * 400_001})
    assert longer.json()["detail"] == "explanation: at most 400,000 characters here, got 400,001"
    unknown = client.post("/v1/scores", json=trace | {"student": "nobody", "explanation": "fine"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_every_response_has_a_request_id_of_its_own(client: httpx.Client) -> None:
    paths = ("/", "/nowhere", "/v1/models", "/health/live")
    assert len({client.get(path).headers["x-request-id"] for path in paths}) == len(paths)


def test_the_figures_count_requests_explanations_and_tokens(client: httpx.Client) -> None:
    def figures() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = figures()
    made = client.post("/v1/explanations", json=ASKED | {"n": 2, "return_scores": True}).json()
    after = figures()

    def growth(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert growth("rlt_explanations_total") == 2
    assert growth("rlt_scores_total") == 2
    assert growth("rlt_generated_tokens_total") == made["usage"]["completion_tokens"]
    assert growth('rlt_request_seconds_count{method="POST",route="/v1/explanations",status="200"}') == 1
    assert after["rlt_engine_up"] == 1
    assert after["rlt_running"] == 0
    assert after['rlt_workers{alive="yes"}'] == 1


def test_a_database_that_is_gone_makes_it_unready_and_is_not_shown_to_strangers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert (await client.get("/health/ready")).status_code == 200
        (tmp_path / "rlt.sqlite").unlink()
        await parts.database.close()
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert "database did not answer" in answer.json()["detail"]
        assert "rlt.sqlite" not in answer.text
        assert (await client.get("/health/live")).status_code == 200

    in_app(tmp_path, scenario)
    assert "rlt.sqlite" in capsys.readouterr().out


def test_a_service_that_only_scores_says_so(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        for method, path, body in (
            ("POST", "/v1/explanations", ASKED),
            ("POST", "/v1/admin/teacher", {"folder": "x"}),
            ("DELETE", "/v1/admin/adapters/x", None),
        ):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_teacher")
        score = await client.post("/v1/scores", json={**ASKED, "explanation": "2"} | {"max_tokens": 1})
        assert score.status_code == 422  # max_tokens is nothing that a score has
        score = await client.post("/v1/scores", json={"question": "1", "solution": "2", "explanation": "3"})
        assert (score.status_code, score.json()["error"]["code"]) == (503, "no_student")

    in_app(tmp_path, scenario)


def test_adapters_come_and_go_and_others_weights_are_swapped_in(tmp_path: Path, servable_model_folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("operator", ("admin", "explain"))
        client.headers.update(bearer(key))
        adapter = tmp_path / "lora"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 2}), encoding="utf-8")
        (adapter / "adapter_model.safetensors").write_bytes(b"weights")
        loaded = await client.post("/v1/admin/adapters", json={"name": "algebra", "folder": str(adapter)})
        assert (loaded.status_code, loaded.json()["role"]) == (201, "adapter")
        made = await client.post("/v1/explanations", json=ASKED | {"model": "algebra"})
        assert made.json()["explanations"][0]["teacher_digest"] == loaded.json()["digest"]
        assert (await client.delete("/v1/admin/adapters/algebra")).status_code == 204
        assert (await client.delete("/v1/admin/adapters/algebra")).status_code == 404
        odd = await client.post("/v1/admin/adapters", json={"name": "../x", "folder": str(adapter)})
        assert (odd.status_code, odd.json()["error"]["param"]) == (422, "name")
        swapped = await client.post("/v1/admin/teacher", json={"folder": str(servable_model_folder)})
        assert (swapped.status_code, swapped.json()["role"]) == (200, "teacher")
        wrong = await client.post("/v1/admin/teacher", json={"folder": str(adapter)})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "folder")

    in_app(tmp_path, scenario, script=Script(servable_model_folder, "So 2.<|end_of_explanation|>"))
