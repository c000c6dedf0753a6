"""Which teacher and student are served where the settings leave it open, and what is told before anything is loaded."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server.configs import ServeConfig, ServiceConfig, WorkerConfig
from server.errors import ServerError
from server.service import DEMO_STUDENT, DEMO_TEACHER, open_parts, resolved
from server.state.keys import Keys


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which `rlt demo` was run."""
    monkeypatch.chdir(tmp_path)
    DEMO_TEACHER.mkdir(parents=True)
    (DEMO_TEACHER / "config.json").write_text("{}", encoding="utf-8")


def chosen(**settings: Any) -> tuple[str | None, str | None]:
    """Teacher and student of these settings."""
    config = resolved(ServiceConfig(**settings))
    return config.teacher, config.student


def test_the_demos_teacher_is_served_with_the_demos_student(demo: None) -> None:
    assert chosen() == (str(DEMO_TEACHER), str(DEMO_STUDENT))


def test_a_student_or_scorer_of_ones_own_goes_before_the_demos(demo: None) -> None:
    assert chosen(student="mine") == (str(DEMO_TEACHER), "mine")
    assert chosen(scorer_url="http://scorer") == (str(DEMO_TEACHER), None)


def test_a_teacher_of_ones_own_is_not_scored_by_the_demos_student(demo: None) -> None:
    assert chosen(teacher="mine") == ("mine", None)


def test_a_service_that_only_scores_needs_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert chosen(engine="none", student="mine") == (None, "mine")


@pytest.mark.parametrize("settings", [{}, {"student": "mine"}, {"engine": "none"}])
def test_without_a_teacher_and_without_the_demo_both_ways_out_are_named(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerError, match=r"give --teacher FOLDER_OR_HUB_NAME, or make the demo's with `rlt demo`"):
        chosen(**settings)


@pytest.mark.parametrize("kind", [ServeConfig, WorkerConfig])
def test_resolving_keeps_the_kind_of_settings(kind: type[ServiceConfig], demo: None) -> None:
    assert type(resolved(kind())) is kind


def test_who_is_not_admitted_costs_no_loading_and_leaves_nothing_open(tmp_path: Path) -> None:
    async def refuse(keys: Keys) -> None:
        raise ServerError("closed")

    async def run() -> None:
        async with open_parts(ServeConfig(teacher="/nowhere", data=str(tmp_path)), refuse):
            raise AssertionError("it was opened")

    with pytest.raises(ServerError, match="closed"):  # and not that /nowhere is no model
        asyncio.run(run())
