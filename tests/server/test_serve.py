"""`rlt serve` as people and process managers meet it: what it refuses to start with, what it says, how it ends."""

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from server import serve
from server.configs import ServeConfig
from server.errors import ServerError
from tests.server.service_process import Service

pytestmark = pytest.mark.usefixtures("logs_as_before")
StartService = Callable[..., Service]
ASKED = {"question": "How many apples has Ann?", "solution": "She has 7.", "max_tokens": 12, "seed": 5}


def serve_config(folder: Path, **settings: Any) -> ServeConfig:
    """Settings of a service whose teacher cannot be loaded: what is refused before that is refused early."""
    return ServeConfig(**{"teacher": "/nowhere", "port": 0, "data": str(folder / "data")} | settings)


@pytest.mark.parametrize("host", ["::", "192.0.2.1"])
def test_an_address_that_others_reach_is_refused_without_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(ServerError, match=r"there is no API key|cannot listen there"):
        serve.main(serve_config(tmp_path, host=host))


def test_all_interfaces_without_a_key_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"host '0\.0\.0\.0'.*no API key; create one first: rlt keys create"):
        serve.main(serve_config(tmp_path, host="0.0.0.0"))


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port}: another program listens there; choose another --port"):
            serve.main(serve_config(tmp_path, port=port))


def test_a_host_that_is_no_address_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"host 'nowhere\.invalid': is no address of this machine"):
        serve.main(serve_config(tmp_path, host="nowhere.invalid"))


def test_a_wrong_database_is_told_before_any_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLT_DATABASE_URL", "postgresql://rlt:hunter2@127.0.0.1:1/rlt")
    with pytest.raises(ServerError) as told:
        serve.main(serve_config(tmp_path))
    assert "127.0.0.1:1" in str(told.value)
    assert "hunter2" not in str(told.value)


def test_signals_are_handed_back_after_a_start_that_failed(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ServerError):
        serve.main(serve_config(tmp_path, host="0.0.0.0"))
    assert signal.getsignal(signal.SIGINT) is before


def test_it_says_what_it_serves_and_logs_no_question_and_no_key(service: Service, servable_model_folder: Path) -> None:
    with service.client() as client:
        assert client.post("/v1/explanations", json=ASKED | {"question": "a secret question"}).status_code == 200
    until = time.monotonic() + 60
    while "/v1/explanations" not in service.output() and time.monotonic() < until:
        time.sleep(0.05)  # a request is logged once its answer is sent
    output = service.output()
    assert f"teacher   {servable_model_folder.name} (" in output
    assert "on transformers" in output
    assert f"serving   {service.url}    (console: {service.url}/console, API: {service.url}/docs)" in output
    assert "there is no API key" in output
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    [logged] = [line for line in lines if line.get("route") == "/v1/explanations"][-1:]
    assert {"request_id", "method", "status", "ms", "key", "time"} <= logged.keys()
    assert "secret question" not in output
    assert service.key not in output


@pytest.mark.slow
def test_after_kill_9_it_starts_again_where_it_was_and_sigterm_ends_it_and_its_streams(
    start_service: StartService,
) -> None:
    service = start_service(units=1)
    with service.client() as client:
        first = client.post("/v1/explanations", json=ASKED).json()
    service.end(signal.SIGKILL)
    service.start()
    with service.client() as client:
        assert client.post("/v1/explanations", json=ASKED).json()["explanations"] == first["explanations"]
        with client.stream("POST", "/v1/explanations", json=ASKED | {"stream": True, "max_tokens": 800}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: delta"
            service.send(signal.SIGTERM)
            rest = list(lines)
    told = json.loads(rest[rest.index("event: error") + 1].removeprefix("data: "))
    assert told["error"]["code"] == "shutting_down"
    assert service.end() == 0, service.output()
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.url)


@pytest.mark.slow
def test_sigterm_during_the_start_ends_it_at_once(start_service: StartService) -> None:
    service = start_service(ready=False)
    until = time.monotonic() + 60
    while "there is no API key" not in service.output():  # said before the models are loaded
        assert time.monotonic() < until, service.output()
        time.sleep(0.05)
    assert service.end() == 0, service.output()
    assert "serving" not in service.output()


@pytest.mark.slow
def test_a_service_that_lost_its_database_ends_all_the_same(
    postgres_url: str, postgres_database_url: str, start_service: StartService
) -> None:
    service = start_service(
        student=None, shutdown_seconds=1, heartbeat_seconds=0.5, environment={"RLT_DATABASE_URL": postgres_database_url}
    )
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE {postgres_database_url.rpartition('/')[2]} WITH (FORCE)")
    with service.client() as client:
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
    assert service.end() == 1
    assert "its work stays owed" in service.output()


def test_a_service_without_a_teacher_to_serve_names_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerError, match="give --teacher FOLDER_OR_HUB_NAME, or make the demo's with `rlt demo`"):
        serve.main(ServeConfig(port=0, data=str(tmp_path / "data")))
