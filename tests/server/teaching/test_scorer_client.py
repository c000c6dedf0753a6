"""A student of another service scores as one of our own, and what goes wrong there is told for what it is."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.errors import EngineUnavailable, Invalid, NotFound, ServerError
from server.teaching import scorer_client
from server.teaching.scorer_client import RemoteStudent
from server.teaching.understanding import LocalStudent, Student
from student.configs import MeasureSettings
from student.explanations import Explanation, from_trace
from student.models import load_tokenizer, weights_digest
from student.problems import Problem
from tests.server.conftest import StartService
from tests.server.scoring import same, same_measures, settings, trace
from tests.server.service_process import Service

EVERY = MeasureSettings(step_credit=True, verified=True, own_tokens=4)


def with_remote(url: str, key: str | None, work: Callable[[RemoteStudent], Any]) -> Any:
    async def run() -> Any:
        student = await RemoteStudent.open(url, key)
        try:
            return await work(student)
        finally:
            await student.close()

    return asyncio.run(run())


def rows_of(problems: list[Problem], folder: Path) -> list[Explanation]:
    """Sound rows, and one of each kind that is not."""
    tokenizer = load_tokenizer(str(folder))
    control = str(tokenizer.eos_token)
    sampled = tokenizer("so <|im_start|> 7", add_special_tokens=False)["input_ids"]
    rows = [from_trace(problem) for problem in problems[:12]]
    changes: dict[int, dict[str, Any]] = {
        1: {"explanation": "", "closed": False},
        2: {"error": "the prompt did not fit"},
        3: {"explanation": f"so {control}"},
        4: {"question": "why " * 2000},
        5: {"token_ids": (40, 41, 42)},
        6: {"tags": "think"},
        7: {"explanation": "because " * 2000},
        8: {"explanation": "so <|im_start|> 7", "token_ids": tuple(sampled)},
    }
    return [row.model_copy(update=changes.get(place, {})) for place, row in enumerate(rows)]


def test_its_scores_are_those_of_a_student_here(
    service: Service, servable_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    rows = rows_of(tiny_problems, servable_model_folder)
    request = trace(tiny_problems[0], per_token=True, per_step=True)

    async def work(student: Student) -> Any:
        with pytest.raises(Invalid, match="control token") as caught:
            await student.measure(trace(tiny_problems[0], rows[3].explanation))
        assert caught.value.param == "explanation"
        with pytest.raises(NotFound) as missing:
            await student.measure(trace(tiny_problems[0], student="somebody"))
        assert (missing.value.param, missing.value.code) == ("student", "model_not_found")
        names = (student.name, student.digest, student.teacher_name, student.teacher_digest)
        return names, await student.score(rows), await student.measure(request), await student.score(rows, EVERY)

    async def here() -> Any:
        student = await LocalStudent.open(settings(servable_model_folder))
        try:
            return await work(student)
        finally:
            await student.close()

    ours, theirs = asyncio.run(here()), with_remote(service.url, None, work)
    assert ours[0] == theirs[0]
    assert [place for place, row in enumerate(ours[1]) if row.score is None] == [2, 3, 4, 7]
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert (one.unscored is None) == (other.unscored is None)
        same(other.model_copy(update={"unscored": one.unscored}), one)
    for one, other in zip(ours[3], theirs[3], strict=True):
        if one.score is not None:  # of the others a service tells nothing but why
            same_measures(one, other)
            assert (one.student, one.student_digest) == (other.student, other.student_digest)
    assert [token.text for token in ours[2].explanation_tokens] == [
        token.text for token in theirs[2].explanation_tokens
    ]
    assert [step.text for step in ours[2].steps] == [step.text for step in theirs[2].steps]


@pytest.mark.slow
def test_a_scorer_is_waited_for_while_it_is_busy_follows_a_swap_and_asks_for_a_key(
    start_service: StartService, tiny_model_folder: Path, retrained_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    models = {"teacher": tiny_model_folder, "student": tiny_model_folder}
    scorer = start_service(engine="none", limits={"running": 1, "waiting": 0}, **models)
    rows = [from_trace(problem) for problem in tiny_problems[:4]]
    key = scorer.create_key("explain", "admin")
    while httpx.get(f"{scorer.url}/v1/models").status_code != 401:
        time.sleep(0.1)  # a new key is known within seconds

    async def work(student: RemoteStudent) -> None:
        before = await student.score(rows)
        assert all(row.score is not None for row in before), "but for one, all were told that it is busy"
        assert student.teacher_digest == weights_digest(str(tiny_model_folder))
        with pytest.raises(Invalid, match="no such folder"):
            await student.reload_teacher(str(retrained_model_folder / "none"))
        await student.reload_teacher(str(retrained_model_folder))
        assert student.teacher_digest == weights_digest(str(retrained_model_folder))
        [after] = await student.score(rows[:1])
        assert abs(after.score.rkl - before[0].score.rkl) > 1e-3

    with_remote(scorer.url, key, work)
    for wrong in (None, "rlt_wrong"):
        with pytest.raises(ServerError, match="RLT_SCORER_KEY"):
            with_remote(scorer.url, wrong, work)


def test_one_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_client, "DOWN_SECONDS", 0.5)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(EngineUnavailable, match="does not answer"):
            asyncio.run(RemoteStudent.open(f"http://127.0.0.1:{nobody.getsockname()[1]}", None))
