"""Previews: how a source is read and which rows are bad, before anything is made of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.datasets import previews
from server.service import Parts
from student.rows import Row, RowSource
from tests.server.in_process import Script, in_app

CSV = """Frage,problem,solution,final_answer,source
x,1 + 1?,2,2,a
x,2 + 2?,,4,b
x,1 + 1?,2,2,c
"""
BAD = '{"question": "1 + 1?"}\n{"question": "2 + 2?", "solution": "4"}\n{broken\n'


async def uploaded(client: httpx.AsyncClient, name: str, content: str) -> str:
    answer = await client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "user_data"})
    return str(answer.json()["id"])


async def previewed(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/datasets/preview", json=body)
    assert answer.status_code == 200, answer.text
    preview: dict[str, Any] = answer.json()
    return preview


def test_columns_problems_and_bad_rows_of_a_file_are_told_and_nothing_is_made(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        table = await uploaded(client, "table.csv", CSV)
        told = await previewed(client, file_id=table)
        assert told["columns"] == ["Frage", "problem", "solution", "final_answer", "source"]
        assert told["fields"] == {"question": "problem", "solution": "solution", "answer": "final_answer"}
        assert told["problems"] == [
            {"question": "1 + 1?", "solution": "2", "reasoning_trace": None, "answer": "2"},
        ]
        assert [(fault["row"], fault["reason"]) for fault in told["faults"]] == [(3, "solution is empty")]
        assert '"2 + 2?"' in told["faults"][0]["text"]
        intake = told["intake"]
        assert [intake[name] for name in ("rows", "problems", "repeated", "bad")] == [3, 1, 1, 1]
        assert told["whole"]
        renamed = await previewed(client, file_id=table, columns={"question": "Frage"})
        assert renamed["problems"][0]["question"] == "x"

        lines = await previewed(client, file_id=await uploaded(client, "lines.jsonl", BAD))
        assert [fault["row"] for fault in lines["faults"]] == [1, 3]
        assert "columns" in lines["faults"][0]["reason"]
        assert lines["faults"][1]["text"] == ""
        assert (await client.get("/v1/datasets")).json()["data"] == []

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))


def test_columns_that_no_page_can_name_or_list_are_counted(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        odd = await uploaded(client, "odd.jsonl", '{"question": "1 + 1?", "solution": "2", "\\ud800": "x"}\n')
        told = await previewed(client, file_id=odd)
        assert (told["columns"], told["unlisted_columns"]) == (["question", "solution"], 1)
        assert len(told["problems"]) == 1
        names = [f"c{number}" for number in range(5000)]
        wide = await uploaded(client, "wide.csv", f"{','.join(names)}\n{','.join(names)}\n")
        told = await previewed(client, file_id=wide)
        assert (told["columns"], told["unlisted_columns"]) == (names[:500], 4500)

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))


def test_a_file_without_one_usable_row_is_told_and_one_without_rows_is_refused(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        told = await previewed(client, file_id=await uploaded(client, "lines.jsonl", '{"a": 1}\n'))
        assert (told["problems"], told["columns"], len(told["faults"])) == ([], ["a"], 1)
        empty = {"file_id": await uploaded(client, "empty.jsonl", "\n")}
        refused = await client.post("/v1/datasets/preview", json=empty)
        assert refused.status_code == 422
        assert "no rows in it" in refused.json()["detail"]
        unknown = await client.post("/v1/datasets/preview", json=empty | {"columns": {"frage": "a"}})
        assert unknown.status_code == 422

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))


def test_a_source_that_takes_long_is_told_of_so_far(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> Iterator[Row]:
        while True:
            yield 1, {"question": "1 + 1?", "solution": "x" * 2000}

    async def endless(*asked: object) -> RowSource:
        return RowSource("endless", "JSONL", rows())

    monkeypatch.setattr(previews, "READ_SECONDS", 0.2)
    monkeypatch.setattr(previews, "open_source", endless)

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        told = await previewed(client, source="owner/name")
        assert not told["whole"]
        assert told["intake"]["repeated"] == told["intake"]["rows"] - 1
        assert told["problems"][0]["solution"] == "x" * 1000 + "…"

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))
