"""What the service's tests share: a model that vLLM runs on a CPU, that vLLM, and a PostgreSQL, while they run."""

import asyncio
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
import torch
from safetensors.torch import load_file, save_file
from structlog.contextvars import clear_contextvars

from server.configs import EngineSettings
from student.models import save_pair
from student.problems import Problem
from student.scratch import make_scratch
from tests.scratch_models import small_model
from tests.server.service_process import Service


@pytest.fixture(scope="session")
def servable_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_problems: list[Problem]) -> Path:
    """A folder with a 2-layer Qwen2 (float32, random) whose heads have 32 dimensions, the least that vLLM's CPU code
    takes, and its tokenizer of 400 tokens; read it, do not write to it."""
    folder = tmp_path_factory.mktemp("servable_model")
    config = small_model(folder, hidden_size=64, heads=2)
    save_pair(*make_scratch(config, tiny_problems), folder)
    return folder


@pytest.fixture(scope="session")
def retrained_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after another training: same shape and tokenizer, other weights; read it, do not write to it."""
    folder = tmp_path_factory.mktemp("retrained") / "checkpoint"
    shutil.copytree(tiny_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    random = torch.Generator().manual_seed(1)
    changed = {
        name: tensor + tensor.std() / 2 * torch.randn(tensor.shape, generator=random)
        for name, tensor in weights.items()
    }
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def vllm_url(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real vLLM that serves servable_model_folder for all tests; its key is in RLT_ENGINE_KEY."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    from server.engine.vllm_child import VllmChild

    settings = EngineSettings(device="cpu", threads=1)
    child = VllmChild(str(servable_model_folder), settings, tmp_path_factory.mktemp("vllm") / "vllm.log")
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as environment:
        runner.run(child.start())
        environment.setenv("RLT_ENGINE_KEY", child.key)
        yield child.url
        runner.run(child.end())


@pytest.fixture(autouse=True)
def temporary_files_stay_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that a test runs in this process moves them into its data folder, for ever (state/temporary.py)."""
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL of our own, on loopback and with a password; one test one database: `database_url`.

    It refuses to run as root and cannot read pytest's folders, which are the user's alone; so it gets its own folder,
    and as root it runs as the user postgres.
    """
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL is not installed: initdb and pg_ctl are not on the path")
    folder = Path(tempfile.mkdtemp(prefix="rlt-postgres-"))
    password = folder / "password"
    password.write_text(secrets.token_hex(8), encoding="utf-8")
    as_user: dict[str, str] = {"user": "postgres"} if os.geteuid() == 0 else {}
    for path in (folder, password) if as_user else ():
        shutil.chown(path, "postgres")

    def run(*command: str) -> None:
        output = folder / "output"  # not a pipe: the server inherits it and would hold it open
        with output.open("wb") as log:
            done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, **as_user)  # type: ignore[call-overload]
        assert done.returncode == 0, output.read_text()

    port = free_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
    run("initdb", "-D", "data", "-U", "rlt", "--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8", "--no-sync")
    run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
    yield f"postgresql://rlt:{password.read_text()}@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """The address of an empty PostgreSQL database, which is gone after the test."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    yield postgres_url.removesuffix("postgres") + name
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of this test, once as SQLite and once as PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'rlt.sqlite'}"
    return str(request.getfixturevalue("postgres_database_url"))


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an S3 of our own on loopback, which takes any key.

    In a process of its own: moto brings Flask along, whose proxies break a vLLM that is started in the tests' process
    (it looks into every loaded module; "Working outside of application context").
    """
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        assert server.poll() is None, "moto's server did not start"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def s3(object_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The storage URL of a bucket, reached as people do: address and keys in the environment."""
    name_environment(monkeypatch, object_store)
    import boto3

    boto3.client("s3").create_bucket(Bucket="rlt")
    return "s3://rlt/some/folder"


def name_environment(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Says where an S3 is, as people do."""
    for name, value in (
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """main() takes the process's log lines over; the tests' own go on as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    clear_contextvars()


StartService = Callable[..., Service]


@pytest.fixture
def start_service(servable_model_folder: Path, tmp_path: Path) -> Iterator[StartService]:
    """Starts services, each in a process and a folder of its own, with the settings given; ends them with the test.

    They serve servable_model_folder by transformers, scored by itself, unless the settings say otherwise. `ready=False`
    does not wait until one is ready, `environment` is added to the process's.
    """
    started: list[Service] = []

    def start(ready: bool = True, environment: dict[str, str] | None = None, **settings: Any) -> Service:
        folder = tmp_path / f"service-{len(started)}"
        folder.mkdir()
        started.append(service_of(servable_model_folder, folder, settings, environment or {}))
        return started[-1].start(ready)

    yield start
    for service in started:
        service.end()


@pytest.fixture(scope="session")
def service(servable_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that change nothing about it: the settings of start_service, no API key."""
    started = service_of(servable_model_folder, tmp_path_factory.mktemp("service"), {}, {}).start()
    yield started
    assert started.end() == 0, started.output()


def service_of(model: Path, folder: Path, settings: dict[str, Any], environment: dict[str, str]) -> Service:
    """A service that is not yet started."""
    usual: dict[str, Any] = {"teacher": model, "student": model, "engine": "transformers", "threads": 1}
    return Service(folder, settings.pop("port", None) or free_port(), usual | settings, environment)
