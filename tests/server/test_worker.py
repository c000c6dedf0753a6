"""`rlt worker` beside a real `rlt serve`: it does the service's datasets, and each may be killed meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.configs import WorkerConfig
from server.errors import ServerError
from server.worker import main
from student.problems import Problem
from tests.server.service_process import Service, flags

StartService = Callable[..., Service]
StartWorker = Callable[..., subprocess.Popen[bytes]]
JOB_SETTINGS = {"unit_problems": 10, "heartbeat_seconds": 0.5, "takeover_seconds": 3}


@pytest.fixture
def start_worker(servable_model_folder: Path) -> Iterator[StartWorker]:
    """Starts workers of a service, by name; ends them with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(service: Service, name: str, engine: str = "transformers") -> subprocess.Popen[bytes]:
        options: dict[str, Any] = {"data": service.data, "name": name, "teacher": servable_model_folder, "units": 2}
        options |= {"engine": engine, "threads": 1, **JOB_SETTINGS}
        with (service.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "student.cli", "worker", *flags(options)]
            processes.append(subprocess.Popen(command, env=service.environment, stdout=log, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def until(service: Service, dataset: str, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The dataset as soon as `enough` of it is true."""
    for _ in range(1200):
        try:
            with service.client() as client:
                found: dict[str, Any] = client.get(f"/v1/datasets/{dataset}").raise_for_status().json()
            if enough(found):
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{found}\n{service.output()}")


@pytest.fixture
def submit(tiny_problems: list[Problem]) -> Callable[[Service], str]:
    """Asks a service for a dataset of 300 rows; its id."""
    problems = [{"question": each.question, "solution": each.solution} for each in tiny_problems[:30]]

    def ask(service: Service) -> str:
        body = {"problems": problems, "n": 10, "seed": 3, "sampling": {"max_tokens": 24}}
        with service.client() as client:
            return str(client.post("/v1/datasets", json=body).raise_for_status().json()["id"])

    return ask


def has_300_different_rows(service: Service, dataset: str) -> bool:
    """Whether the dataset ended so, and nothing in it failed."""
    found = until(service, dataset, lambda found: found["status"] not in ("validating", "running", "finalizing"))
    with service.client() as client:
        exported = client.get(f"/v1/datasets/{dataset}/export", params={"format": "jsonl"}).raise_for_status().text
    rows = exported.splitlines()
    counts = found["status"], found["counts"]["done"], found["counts"]["failed"]
    return counts == ("completed", 300, 0) and len(rows) == len(set(rows)) == 300


@pytest.mark.slow
def test_a_dataset_loses_no_row_while_service_and_worker_are_killed(
    database_url: str, start_service: StartService, start_worker: StartWorker, submit: Callable[[Service], str]
) -> None:
    service = start_service(units=0, student=None, environment={"RLT_DATABASE_URL": database_url}, **JOB_SETTINGS)
    worker = start_worker(service, "first")
    dataset = submit(service)
    until(service, dataset, lambda found: found["counts"]["done"] >= 20)
    service.send(signal.SIGKILL)
    worker.kill()
    worker.wait()
    service.start()
    start_worker(service, "second")
    assert has_300_different_rows(service, dataset)


@pytest.mark.vllm
@pytest.mark.slow
def test_a_dataset_loses_no_row_while_its_engine_is_killed_and_comes_back(
    start_service: StartService, start_worker: StartWorker, submit: Callable[[Service], str]
) -> None:
    service = start_service(units=0, student=None, **JOB_SETTINGS)
    worker = start_worker(service, "first", engine="vllm")
    dataset = submit(service)
    until(service, dataset, lambda found: found["status"] == "running")
    (engine,) = [process for process in children(worker.pid) if "vllm" in command_line(process).lower()]
    os.kill(engine, signal.SIGKILL)
    assert until(service, dataset, lambda found: True)["counts"]["done"] < 300
    assert has_300_different_rows(service, dataset)


def children(process: int) -> list[int]:
    """The processes that a process started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def command_line(process: int) -> str:
    """The words that a process was started with."""
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"units": 0}, "units: 0 leaves all work"), ({"engine": "none"}, "engine 'none': datasets are explained")],
)
def test_a_worker_that_could_do_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        main(WorkerConfig(**settings))
