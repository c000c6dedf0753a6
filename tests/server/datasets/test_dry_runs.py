"""Dry runs of datasets on a real service: what is told is what the dataset then takes, and nothing is left of them."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.configs import DryRunSettings, ServeConfig
from server.datasets.dry_runs import dry_run
from server.engine.protocol import Generation
from server.errors import TimedOut
from server.service import Parts
from server.wire import DatasetRequest
from student.estimates import Estimate
from student.problems import Problem
from tests.server.in_process import Script, on_a_port, parts_without_models
from tests.server.scripted_engine import ScriptedEngine
from tests.server.service_process import Service

SAMPLING = {"temperature": 1.0, "max_tokens": 12}
FURTHER = {"threshold": 0, "budget_tokens": 13}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def asked(problems: list[Problem], **more: Any) -> dict[str, Any]:
    bodies = [{"question": problem.question, "solution": problem.solution} for problem in problems]
    return {"problems": bodies, "sampling": SAMPLING} | more


def told(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/datasets", params={"dry_run": True}, json=body)
    assert answer.status_code == 200, answer.text
    estimate: dict[str, Any] = answer.json()
    return estimate


def made(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    dataset = client.post("/v1/datasets", json=body).json()["id"]
    while True:
        found: dict[str, Any] = client.get(f"/v1/datasets/{dataset}").json()
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        time.sleep(0.05)


def left(service: Service) -> list[Path]:
    """What lies in the service's storage."""
    return sorted(path for path in (service.data / "storage").rglob("*") if path.is_file())


def test_a_pilot_of_all_problems_tells_the_tokens_that_the_dataset_then_has(
    client: httpx.Client, service: Service, tiny_problems: list[Problem]
) -> None:
    before, files = client.get("/v1/datasets").json()["data"], left(service)
    body = asked(tiny_problems[:8], n=2, seed=3, score=True)
    estimate = told(client, body)
    assert client.get("/v1/datasets").json()["data"] == before
    assert left(service) == files
    assert (estimate["problems"], estimate["pilot_problems"], estimate["rows"]) == (8, 8, 16)
    assert estimate["seconds"]["value"] > 0
    assert "rows at a time" in estimate["remarks"][0]

    dataset = made(client, body | {"estimate": estimate})
    beside = dataset["against_estimate"]
    tokens = dataset["counts"]["tokens"]
    assert beside["tokens"] == {"actual": tokens, "estimate": estimate["tokens"], "within": True}
    assert estimate["tokens"] == {"value": tokens, "low": tokens, "high": tokens}
    assert beside["seconds"]["actual"] == dataset["finished_at"] - dataset["started_at"]
    assert beside["seconds"]["within"] in (True, False)
    shards = service.data / "storage" / "jobs" / dataset["id"] / "shards"
    on_disk = sum(path.stat().st_size for path in shards.iterdir())
    assert estimate["bytes"]["low"] <= on_disk <= estimate["bytes"]["high"]


def test_one_percent_within_the_bounds_is_tried_with_an_interval(
    client: httpx.Client, tiny_problems: list[Problem]
) -> None:
    file = "".join(json.dumps({"question": p.question, "solution": p.solution}) + "\n" for p in tiny_problems)
    upload = {"file": ("problems.jsonl", file)}
    file_id = client.post("/v1/files", files=upload, data={"purpose": "user_data"}).json()["id"]
    estimate = told(client, {"file_id": file_id, "sampling": SAMPLING, "best_of": 2, "n": 1, "limit": 30})
    assert (estimate["problems"], estimate["pilot_problems"], estimate["rows"]) == (30, 8, 60)
    for quantity in ("tokens", "seconds", "bytes"):
        found = estimate[quantity]
        assert 0 < found["low"] <= found["value"] <= found["high"]
    assert estimate["tokens"]["low"] >= estimate["pilot_tokens"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"problems": [{"question": "q"}]},
        {"source": "/etc/passwd"},
        {"file_id": "file-x"},
        {"source": "a/b", "n": 65},
        {"source": "a/b", "model": "nobody"},
        {"source": "a/b", "measures": {"most_steps": 64}},
        {"source": "a/b", "estimate": {"problems": 1}},
    ],
)
def test_what_a_dataset_would_be_refused_for_a_dry_run_is_refused_for(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    real, dry = (client.post("/v1/datasets", params=query, json=body) for query in ({}, {"dry_run": True}))
    assert dry.status_code == real.status_code >= 400
    assert dry.json()["error"] == real.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"problems": [{"question": " ", "solution": "2"}]}, "problems:1: question"),
        ({"problems": [{"question": "1 + 1?", "solution": "2"}] * 2, "further": FURTHER | {"budget_tokens": 5}}, "5"),
    ],
)
def test_what_would_fail_the_dataset_refuses_the_dry_run(
    client: httpx.Client, body: dict[str, Any], message: str
) -> None:
    answer = client.post("/v1/datasets", params={"dry_run": True}, json=body | {"sampling": SAMPLING})
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert made(client, body | {"sampling": SAMPLING})["error"] == answer.json()["detail"]


def test_rows_that_cannot_be_made_count_as_empty_and_further_samples_are_remarked(client: httpx.Client) -> None:
    problems = [{"question": "1 + 1?", "solution": "2"}, {"question": "word " * 2000, "solution": "2"}]
    estimate = told(client, {"problems": problems, "sampling": SAMPLING, "further": FURTHER | {"budget_tokens": 500}})
    assert "1 of the pilot's" in "".join(estimate["remarks"])
    assert "further samples are not in `rows`" in estimate["remarks"]
    assert estimate["tokens"]["value"] > 12


def test_an_estimate_of_something_else_is_refused(client: httpx.Client, tiny_problems: list[Problem]) -> None:
    body = asked(tiny_problems[:2])
    estimate = told(client, body)
    other = client.post("/v1/datasets", json=body | {"estimate": estimate | {"teacher_digest": "other"}})
    assert (other.status_code, other.json()["error"]["param"]) == (422, "estimate")
    failed = made(client, asked(tiny_problems[:3], estimate=estimate))
    assert failed["status"] == "failed"
    assert "is of 2 rows and these are 3" in failed["error"]
    assert failed["against_estimate"] is None


def test_a_caller_who_leaves_ends_the_dry_run_and_another_one_may_begin(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    with on_a_port(tmp_path, Script(tiny_model_folder, "so it is 7.</explanation>")) as served:
        served.hold()
        query, body = {"dry_run": True}, asked(tiny_problems[:4])
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/datasets", params=query, json=body, timeout=1)
        until = time.monotonic() + 30
        while served.engine.running and time.monotonic() < until:
            time.sleep(0.01)
        assert not served.engine.running
        served.let_go()
        assert httpx.post(f"{served.url}/v1/datasets", params=query, json=body, timeout=30).status_code == 200


def on_parts(folder: Path, model: Path, seconds: float, scenario: Callable[[Parts, ScriptedEngine], Any]) -> None:
    """Runs a scenario on a service whose dry runs end after so many seconds."""

    async def run() -> None:
        config = ServeConfig(data=str(folder), dry_run=DryRunSettings(seconds=seconds))
        async with parts_without_models(config, Script(model, "so it is 7.</explanation>")) as parts:
            assert parts.teachers is not None
            engine = parts.teachers.engine
            assert isinstance(engine, ScriptedEngine)
            await scenario(parts, engine)

    asyncio.run(run())


def test_no_two_dry_runs_are_made_at_a_time(tmp_path: Path, tiny_model_folder: Path) -> None:
    with on_a_port(tmp_path, Script(tiny_model_folder, "so")) as served:
        lock: asyncio.Lock = served.app.state.dry_run
        asyncio.run_coroutine_threadsafe(lock.acquire(), served.loop).result(30)
        body = asked([Problem(question="1 + 1?", solution="2")])
        answer = httpx.post(f"{served.url}/v1/datasets", params={"dry_run": True}, json=body, timeout=30)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        served.loop.call_soon_threadsafe(lock.release)


def test_a_dry_run_that_has_nothing_by_its_deadline_is_a_504(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def scenario(parts: Parts, engine: ScriptedEngine) -> None:
        engine.may_go.clear()
        with pytest.raises(TimedOut, match=r"no problem was explained within 0.5 s, .* fewer sampling.max_tokens"):
            await dry_run(parts, DatasetRequest.model_validate(asked(tiny_problems[:4])), asyncio.Lock())
        assert not engine.running

    on_parts(tmp_path, tiny_model_folder, 0.5, scenario)


def test_what_is_whole_by_the_deadline_is_told_and_remarked(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    async def scenario(parts: Parts, engine: ScriptedEngine) -> None:
        samples = 0

        def text(asked: Generation) -> str:
            """The warm-up and the first unit, of four problems, are let through; the next one hangs."""
            nonlocal samples
            samples += 1
            if samples > 1 + 4:
                engine.may_go.clear()
            return "so it is 7.</explanation>"

        engine.text = text
        found: Estimate = await dry_run(parts, DatasetRequest.model_validate(asked(tiny_problems[:8])), asyncio.Lock())
        assert (found.problems, found.pilot_problems) == (8, 4)
        assert any("4 of the pilot's 8 problems were explained before the deadline" in each for each in found.remarks)

    on_parts(tmp_path, tiny_model_folder, 5, scenario)
