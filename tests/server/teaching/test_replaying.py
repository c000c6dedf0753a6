"""Rows of a service's datasets made again: asked for in the same words, by a real vLLM alone as among others."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.configs import EngineSettings
from server.engine.protocol import Generation
from server.engine.vllm_servers import VllmServers
from server.errors import NotFound
from server.teaching.explaining import Ask, explain
from server.teaching.replaying import replay
from server.teaching.teachers import Teachers
from student.cli import main
from student.engine import end_ids
from student.explanations import Explanation
from student.models import load_tokenizer
from student.problems import Problem
from tests.server.kinds import Bench, on_bench
from tests.server.service_process import Service

PROBLEMS = [{"question": f"{number} + 1?", "solution": str(number + 1)} for number in range(3)]


def words(asked: Generation) -> str:
    """All that an engine is told, as its answer."""
    told = (asked.seed, len(asked.prompt_ids), asked.max_tokens, asked.temperature, asked.top_p, asked.adapter)
    return f"so {told}</think>"


def with_rows(
    folder: Path, model: Path, check: Callable[[Bench, list[Explanation]], Coroutine[Any, Any, None]]
) -> None:
    """Runs a check on the rows of a dataset that the script above wrote."""

    async def scenario(bench: Bench) -> None:
        sampling = {"temperature": 0.5, "top_p": 0.75, "max_tokens": 77}
        job = await bench.dataset(problems=PROBLEMS, n=2, seed=5, tags="think", sampling=sampling)
        await bench.run(job, bench.datasets)
        await check(bench, await bench.rows(job))

    on_bench(folder, model, words, scenario)


def test_the_engine_is_asked_for_a_row_in_the_very_words_of_the_job(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def check(bench: Bench, rows: list[Explanation]) -> None:
        assert len({row.explanation for row in rows}) == 6
        for row in rows:
            again = await replay(bench.teachers, row)
            assert (again.row, again.matches, again.causes) == (row.id, True, ())

    with_rows(tmp_path, tiny_model_folder, check)


def test_a_teacher_that_says_something_else_now_is_told_from_where(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def check(bench: Bench, rows: list[Explanation]) -> None:
        bench.engine.text = lambda asked: words(asked).replace(", 77,", ", 78,")
        again = await replay(bench.teachers, rows[0].model_copy(update={"teacher_digest": "another"}))
        assert not again.matches
        assert again.difference is not None
        assert again.difference.then.replace(", 77,", ", 78,") == again.difference.now
        assert again.causes[0].startswith("weights: another then, ")

    with_rows(tmp_path, tiny_model_folder, check)


def test_a_row_of_a_teacher_that_is_served_no_longer_is_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def check(bench: Bench, rows: list[Explanation]) -> None:
        with pytest.raises(NotFound, match="there is no model 'gone'"):
            await replay(bench.teachers, rows[0].model_copy(update={"teacher": "gone"}))

    with_rows(tmp_path, tiny_model_folder, check)


def test_vllm_makes_a_row_again_alone_as_among_others_and_so_does_rlt_replay(
    vllm_url: str,
    servable_model_folder: Path,
    tiny_problems: list[Problem],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def scenario() -> Explanation:
        tokenizer = load_tokenizer(str(servable_model_folder))
        engine = VllmServers([vllm_url], end_ids(tokenizer, None), concurrency=64)
        await engine.open()
        assert engine.places == 64
        teachers = await Teachers.open(EngineSettings(teacher=str(servable_model_folder)), engine)
        asks = [
            Ask(problem.question, problem.solution, 2, [number, number + 100], max_tokens=24, temperature=1.0)
            for number, problem in enumerate(tiny_problems[:8])
        ]
        rows = [row for made in await asyncio.gather(*(explain(teachers, ask) for ask in asks)) for row in made]
        assert len({row.token_ids for row in rows}) == 16
        for row in rows[::5]:
            again = await replay(teachers, row)
            assert (again.matches, again.tokens_now, again.causes) == (True, len(row.token_ids or ()), ())
        await teachers.close()
        await engine.close()
        return rows[7]

    row = asyncio.run(scenario())
    (tmp_path / "rows.jsonl").write_text(row.model_dump_json() + "\n", encoding="utf-8")
    command = ["replay", str(tmp_path / "rows.jsonl"), "--row", row.id, "--teacher", str(servable_model_folder)]
    assert main([*command, "--device", "cpu", "--threads", "1"]) == 0
    assert capfd.readouterr().out.startswith(f"{row.id}: the same, ")


def test_a_row_of_a_dataset_is_made_again_over_http(service: Service, tiny_problems: list[Problem]) -> None:
    problems = [{"question": problem.question, "solution": problem.solution} for problem in tiny_problems[:2]]
    asked = {"problems": [*problems, {"question": "word " * 2000, "solution": "2"}], "sampling": {"max_tokens": 8}}
    with service.client() as client:
        dataset = client.post("/v1/datasets", json=asked).json()["id"]
        with client.stream("GET", f"/v1/datasets/{dataset}/events") as events:
            assert "event: done" in list(events.iter_lines())
        rows = client.get(f"/v1/datasets/{dataset}/rows", params={"include": "all"}).json()["data"]

        def replayed(row: str) -> httpx.Response:
            return client.post(f"/v1/datasets/{dataset}/rows/{row}/replay")

        answer = replayed(rows[1]["id"])
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "row": rows[1]["id"],
            "matches": True,
            "tokens": 8,
            "tokens_now": 8,
            "closed": False,
            "closed_now": False,
            "difference": None,
            "causes": [],
        }
        assert replayed(rows[2]["id"]).status_code == 422
        assert "holds no explanation" in replayed(rows[2]["id"]).json()["detail"]
        assert replayed("nobody-0").status_code == 404
        assert client.post("/v1/datasets/ds_x/rows/a-0/replay").status_code == 404
