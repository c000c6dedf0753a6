"""Datasets over a real port: rows are those of rlt explain and rlt score, failures are data, and nothing is lost."""

import io
import json
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import httpx
import pytest
from huggingface_hub import DatasetCard

from student.cli import main
from student.explanations import Explanation, read_explanations
from student.manifests import manifest_of
from student.problems import Problem
from student.tags import RLT
from tests.server.conftest import StartService
from tests.server.scoring import same_measures
from tests.server.service_process import Service

SAMPLING = {"temperature": 1.0, "max_tokens": 12}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def body(problem: Problem) -> dict[str, Any]:
    return {"question": problem.question, "solution": problem.solution, "answer": problem.answer}


def made(client: httpx.Client, **asked: Any) -> dict[str, Any]:
    """A dataset, once it has ended."""
    answer = client.post("/v1/datasets", json={"sampling": SAMPLING} | asked)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/datasets/{answer.json()['id']}"
    return ended(client, answer.json()["id"])


def ended(client: httpx.Client, dataset: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = client.get(f"/v1/datasets/{dataset}").json()
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        time.sleep(0.05)


def exported(client: httpx.Client, dataset: str, path: Path, form: str = "jsonl", include: str = "ok") -> bytes:
    answer = client.get(f"/v1/datasets/{dataset}/export", params={"format": form, "include": include})
    assert answer.status_code == 200, answer.text
    assert dataset in answer.headers["content-disposition"]
    path.write_bytes(answer.content)
    return answer.content


def without(rows: list[Explanation], *fields: str) -> list[dict[str, Any]]:
    return [row.model_dump(exclude=set(fields)) for row in rows]


def test_the_rows_are_those_of_rlt_explain_and_rlt_score(
    client: httpx.Client, tiny_problems: list[Problem], servable_model_folder: Path, tmp_path: Path
) -> None:
    problems = tiny_problems[:5]
    dataset = made(client, problems=[body(problem) for problem in problems], n=2, seed=7, measures=True)
    assert dataset["status"] == "completed"
    assert dataset["counts"]["done"] == dataset["counts"]["total"] == 10
    exported(client, dataset["id"], tmp_path / "ours.jsonl")
    ours = read_explanations(str(tmp_path / "ours.jsonl"), RLT)

    source = tmp_path / "problems.jsonl"
    source.write_text("".join(json.dumps(body(problem)) + "\n" for problem in problems), encoding="utf-8")
    explain = ["explain", "--teacher", str(servable_model_folder), "--problems", str(source)]
    explain += ["--samples", "2", "--sampling.seed", "7", "--sampling.temperature", "1", "--sampling.max-tokens", "12"]
    assert main([*explain, "--out", str(tmp_path / "theirs.jsonl")]) == 0
    theirs = read_explanations(str(tmp_path / "theirs.jsonl"), RLT)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.provenance is not None
        assert other.provenance is not None
        for same in ("prompt_digest", "top_p", "max_tokens"):
            assert getattr(mine.provenance, same) == getattr(other.provenance, same)
    # The service's name for the teacher is not its folder; and the rows of rlt explain are not measured yet.
    named = ("teacher", "score", "provenance", "measures", "student", "student_digest")
    assert without(ours, *named) == without(theirs, *named)

    score = ["score", "--student", str(servable_model_folder), "--teacher", str(servable_model_folder)]
    assert main([*score, "--traces", str(tmp_path / "theirs.jsonl"), "--out", str(tmp_path / "scored.jsonl")]) == 0
    for mine, other in zip(ours, read_explanations(str(tmp_path / "scored.jsonl"), RLT), strict=True):
        assert mine.score is not None
        assert other.score is not None
        assert mine.score.model_dump(exclude={"notes"}) == pytest.approx(
            other.score.model_dump(exclude={"notes"}), abs=1e-5
        )
        assert mine.score.notes == other.score.notes
        same_measures(mine, other)
        assert mine.student_digest == other.student_digest


def test_every_format_holds_the_same_rows_and_rlts_verbs_read_them(
    client: httpx.Client, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    dataset = made(client, problems=[body(problem) for problem in tiny_problems[:3]], n=2)["id"]
    exported(client, dataset, tmp_path / "rows.jsonl", "jsonl")
    exported(client, dataset, tmp_path / "rows.parquet", "parquet")
    with tarfile.open(fileobj=io.BytesIO(exported(client, dataset, tmp_path / "rows.tar", "datasets"))) as tar:
        tar.extractall(tmp_path, filter="data")
    rows = [read_explanations(str(tmp_path / name), RLT) for name in ("rows.jsonl", "rows.parquet", dataset)]
    assert [row.sample for row in rows[0]] == [0, 1] * 3
    assert rows[0] == rows[1] == rows[2]


def test_a_trainers_format_is_downloaded_with_its_own_files_and_loads(
    client: httpx.Client, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    asked = {"problems": [body(problem) for problem in tiny_problems[:3]], "n": 2, "filters": {"finished": False}}
    dataset = made(client, **asked)["id"]
    path = f"/v1/datasets/{dataset}/export"
    answer = client.get(path, params={"format": "axolotl-chat", "keep_unclosed": True, "columns": ["id", "seed"]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="{dataset}-axolotl-chat.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / f"{dataset}-axolotl-chat"
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["messages", "rlt_id", "rlt_seed"]
    assert [row["messages"][1]["content"] for row in loaded] == [
        problem.question for problem in tiny_problems[:3] for _ in range(2)
    ]
    assert json.loads((folder / "export.json").read_text())["written"] == 6
    assert (folder / "axolotl.yaml").exists()
    whole = client.get(path, params={"format": "folder"})
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        assert {f"{dataset}/{name}" for name in ("rows.parquet", "manifest.jsonl", "README.md")} <= set(
            archive.namelist()
        )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"format": "trl-preference"}, "none of 2 rows is one to train on"),
        ({"format": "bespoke-stratos", "tags": "think"}, "leave out --tags"),
        ({"format": "trl-kto", "include": "all"}, "include: trl-kto holds rows to train on"),
        ({"format": "jsonl", "margin": 1}, "margin: goes with a trainer's format"),
        ({"format": "folder", "include": "failed"}, "include: a folder holds all rows"),
        ({"format": "nonsense"}, "format"),
        ({"format": "trl-kto", "colour": 1}, "colour"),
    ],
)
def test_a_download_that_cannot_be_is_refused_before_its_first_byte(
    client: httpx.Client, asked: dict[str, Any], told: str
) -> None:
    problem = {"question": "1 + 1?", "solution": "2"}
    dataset = made(client, problems=[problem], n=2, filters={"finished": False}, sampling={"max_tokens": 2})["id"]
    answer = client.get(f"/v1/datasets/{dataset}/export", params=asked)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


def test_a_dataset_whose_storage_is_s3_is_made_and_exported(
    s3: str, start_service: StartService, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    with start_service(environment={"RLT_STORAGE_URL": s3}).client() as client:
        problems = "".join(json.dumps(body(problem)) + "\n" for problem in tiny_problems)
        sent = {"file": ("problems.jsonl", problems)}
        file = client.post("/v1/files", files=sent, data={"purpose": "user_data"}).json()["id"]
        dataset = made(client, file_id=file, n=2)
        assert (dataset["status"], dataset["counts"]["done"]) == ("completed", 80)
        exported(client, dataset["id"], tmp_path / "rows.parquet", "parquet")
        assert len(read_explanations(str(tmp_path / "rows.parquet"), RLT)) == 80
        assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 200


def test_a_problem_that_cannot_be_explained_is_failed_rows_and_its_siblings_go_on(client: httpx.Client) -> None:
    problems = [
        {"question": "1 + 1?", "solution": "2"},
        {"question": "word " * 2000, "solution": "2"},
        {"question": "2 + 2?", "solution": "4"},
    ]
    dataset = made(client, problems=problems, n=2)
    assert dataset["counts"] | {"tokens": 0} == {"total": 6, "done": 6, "failed": 2, "dropped": 0, "tokens": 0}
    assert dataset["errors"] == {"context_length_exceeded": 2}
    rows = client.get(f"/v1/datasets/{dataset['id']}/rows", params={"include": "failed"}).json()["data"]
    assert [row["sample"] for row in rows] == [0, 1]
    assert all("context holds 1024" in row["error"] for row in rows)

    retried = client.post(f"/v1/datasets/{dataset['id']}/retry")
    assert retried.status_code == 202
    assert ended(client, dataset["id"])["counts"] == dataset["counts"]


def test_filters_and_best_of_keep_what_they_promise(client: httpx.Client, tiny_problems: list[Problem]) -> None:
    problems = [body(problem) for problem in tiny_problems[:3]]
    every = {"include": "all", "limit": 100}
    plain = made(client, problems=problems, n=3, score=True)["id"]
    rows = client.get(f"/v1/datasets/{plain}/rows", params=every).json()["data"]
    rewards = [row["score"]["reward"] for row in rows]
    bound = sorted(rewards)[4]

    dataset = made(client, problems=problems, n=1, best_of=3, filters={"min_reward": bound})
    rows = client.get(f"/v1/datasets/{dataset['id']}/rows", params=every).json()["data"]
    assert [row["score"]["reward"] for row in rows] == pytest.approx(rewards, abs=1e-5)
    assert [row["sample"] for row in rows] == [0, 1, 2] * 3
    best = [max(rewards[start : start + 3]) for start in (0, 3, 6)]
    kept = [row["score"]["reward"] for row in rows if row["dropped"] is None]
    assert kept == pytest.approx([reward for reward in best if reward >= bound], abs=1e-5)
    assert dataset["counts"]["dropped"] == 9 - len(kept)


def test_rows_are_kept_by_any_measure_and_ranked_by_it(client: httpx.Client, tiny_problems: list[Problem]) -> None:
    problems = [body(problem) for problem in tiny_problems[:3]]
    dataset = made(client, problems=problems, n=1, best_of=3, rank_by="gain", filters={"at_most": {"repetition": 1}})
    rows = client.get(f"/v1/datasets/{dataset['id']}/rows", params={"include": "all", "limit": 9}).json()["data"]
    gains = [row["measures"]["gain"] for row in rows]
    assert [row["measures"]["gain"] for row in rows if row["dropped"] is None] == [
        max(gains[start : start + 3]) for start in (0, 3, 6)
    ]
    assert dataset["selection"]["dropped"] == {"best_of": 6}
    assert dataset["selection"]["measures"]["gain"]["kept"]["rows"] == 3


def test_further_samples_go_to_the_problems_whose_best_row_is_below(
    client: httpx.Client, tiny_problems: list[Problem]
) -> None:
    problems = [body(problem) for problem in tiny_problems[:4]]
    every = {"include": "all", "limit": 100}
    plain = made(client, problems=problems, n=3, score=True)["id"]
    rows = client.get(f"/v1/datasets/{plain}/rows", params=every).json()["data"]
    firsts = sorted(row["score"]["reward"] for row in rows if row["sample"] == 0)
    threshold = (firsts[1] + firsts[2]) / 2

    def wanted(group: list[dict[str, Any]]) -> list[str]:
        """The first row, and the next ones until one is good enough."""
        good = (place for place, row in enumerate(group) if row["score"]["reward"] >= threshold)
        return [row["id"] for row in group[: next(good, 2) + 1]]

    further = {"threshold": threshold, "samples": 2, "budget_tokens": 10_000}
    dataset = made(client, problems=problems, further=further)
    ours = client.get(f"/v1/datasets/{dataset['id']}/rows", params=every).json()["data"]
    expected = [name for start in range(0, 12, 3) for name in wanted(rows[start : start + 3])]
    assert [row["id"] for row in ours] == expected
    assert 4 < len(ours) < 12
    texts = {row["id"]: row["explanation"] for row in rows}
    assert all(row["explanation"] == texts[row["id"]] for row in ours)
    assert dataset["counts"]["total"] == dataset["counts"]["done"] == len(ours)


def test_rows_are_kept_by_their_steps_and_by_what_the_student_answers_and_measured_for_that(
    client: httpx.Client, tiny_problems: list[Problem]
) -> None:
    problems = [body(problem) for problem in tiny_problems[:2]]

    def rows_of(**asked: Any) -> list[dict[str, Any]]:
        dataset = made(client, problems=problems, n=2, sampling={"max_tokens": 24}, **asked)
        rows: list[dict[str, Any]] = client.get(f"/v1/datasets/{dataset['id']}/rows", params={"include": "all"}).json()[
            "data"
        ]
        return rows

    for row in rows_of(filters={"at_least": {"step_credit": -0.001}}):
        credits = [step["credit"] for step in row["measures"]["steps"]]
        assert row["measures"]["step_credit"] == min(credits, default=None)
        assert sum(credits) == pytest.approx(row["measures"]["gain"], abs=1e-6)
        assert (row["dropped"] is None) == (min(credits, default=-1) >= -0.001)
        assert row["measures"]["verified"] is None
    rows = rows_of(filters={"verified": True}, measures={"own_tokens": 8, "repetition": False})
    assert [row["measures"]["verified"] for row in rows] == [False] * 4  # its weights are random
    assert all(row["measures"]["student_answer"] is not None and row["measures"]["repetition"] is None for row in rows)
    assert {row["dropped"] for row in rows} == {"verified: the student answered wrong after it"}


def test_pages_of_rows_joined_are_all_rows(client: httpx.Client, tiny_problems: list[Problem]) -> None:
    problems = [body(problem) for problem in tiny_problems] + [{"question": "word " * 2000, "solution": "2"}]
    dataset = made(client, problems=problems, sampling={"max_tokens": 1})["id"]
    for include, count in {"ok": 40, "failed": 1, "all": 41, "dropped": 0}.items():
        ids, after = [], None
        while True:
            params = {"include": include, "limit": 7} | ({"after": after} if after else {})
            page = client.get(f"/v1/datasets/{dataset}/rows", params=params).json()
            ids += [row["id"] for row in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
            assert len(page["data"]) == 7
        assert len(ids) == len(set(ids)) == count
    answer = client.get(f"/v1/datasets/{dataset}/rows", params={"after": "../../etc"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "after")


def test_a_card_and_manifests_tell_where_rows_are_from(
    client: httpx.Client, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    problems = [body(problem) for problem in tiny_problems[:3]]
    asked = {"name": "<script>alert(1)</script>", "license": "MIT", "n": 1, "best_of": 2, "metadata": {"of": "mine"}}
    dataset = made(client, problems=problems, **asked)["id"]
    answer = client.get(f"/v1/datasets/{dataset}/card")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    card = DatasetCard(answer.text)
    assert card.data.to_dict()["license"] == "mit"
    assert "# `<script>alert(1)</script>`" in card.text
    assert "6 explanations" in card.text
    assert "of 3 problems; 3 of them are kept" in card.text
    assert "](data:image/png;base64,iVBOR" in card.text
    assert "mine" not in card.text

    rows = client.get(f"/v1/datasets/{dataset}/rows", params={"include": "all"}).json()
    page = client.get(f"/v1/datasets/{dataset}/manifests", params={"include": "all"}).json()
    assert page["last_id"] == rows["last_id"]
    theirs = [manifest_of(Explanation.model_validate(row)).model_dump(mode="json") for row in rows["data"]]
    assert page["data"] == theirs
    assert [row["verdicts"][0]["filter"] for row in theirs] == ["best_of"] * 6
    assert all(row["teacher"]["weights"] and row["prompt_template"] and row["engine"]["software"] for row in theirs)

    exported(client, dataset, tmp_path / "folder.zip", "folder", "all")
    with zipfile.ZipFile(tmp_path / "folder.zip") as archive:
        archive.extractall(tmp_path)
    kept = datasets.load_dataset(str(tmp_path / dataset), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(kept["id"]) == sorted(row["id"] for row in rows["data"] if row["dropped"] is None)


def test_a_file_in_its_own_columns_is_a_source_and_bad_rows_are_told(client: httpx.Client) -> None:
    content = "frage,loesung\n1 + 1?,2\n,3\n1 + 1?,2\n2 + 2?,4\n"
    upload = {"file": ("aufgaben.csv", content.encode())}
    file = client.post("/v1/files", files=upload, data={"purpose": "user_data"}).json()["id"]
    asked = {"file_id": file, "columns": {"question": "frage", "solution": "loesung"}}
    refused = made(client, **asked)
    assert refused["status"] == "failed"
    assert "aufgaben.csv:3: question" in refused["error"]
    assert refused["counts"]["total"] is None
    dataset = made(client, **asked, skip_invalid=True)
    assert dataset["counts"]["done"] == 2
    assert {name: dataset["intake"][name] for name in ("rows", "problems", "repeated", "bad")} == {
        "rows": 4,
        "problems": 2,
        "repeated": 1,
        "bad": 1,
    }
    assert dataset["request"]["file_id"] == file


def test_cold_start_takes_only_problems_with_an_answer(client: httpx.Client) -> None:
    problems = [{"question": "1 + 1?", "solution": "two"}, {"question": "2 + 2?", "solution": "so \\boxed{4}"}]
    dataset = made(client, problems=problems, purpose="cold_start")
    assert dataset["errors"] == {"no_answer": 1}
    [row] = client.get(f"/v1/datasets/{dataset['id']}/rows").json()["data"]
    assert row["answer"] == "4"


def test_events_tell_the_progress_until_the_end(client: httpx.Client, tiny_problems: list[Problem]) -> None:
    asked = {"problems": [body(problem) for problem in tiny_problems], "sampling": {"max_tokens": 40}}
    dataset = client.post("/v1/datasets", json=asked).json()["id"]
    events = []
    with client.stream("GET", f"/v1/datasets/{dataset}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
    assert set(events[:-1]) <= {"progress"}
    assert events[-1] == "done"
    assert (last["status"], last["counts"]["done"]) == ("completed", 40)


def test_a_cancelled_dataset_keeps_what_was_made_and_can_be_deleted(
    client: httpx.Client, service: Service, tiny_problems: list[Problem]
) -> None:
    asked = {"problems": [body(problem) for problem in tiny_problems], "n": 40, "sampling": {"max_tokens": 400}}
    dataset = client.post("/v1/datasets", json=asked).json()["id"]
    early = client.get(f"/v1/datasets/{dataset}/export")
    assert (early.status_code, early.json()["error"]["code"]) == (400, "wrong_state")
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 400
    assert client.post(f"/v1/datasets/{dataset}/cancel").json()["status"] in ("cancelling", "cancelled")
    cancelled = ended(client, dataset)
    assert cancelled["status"] == "cancelled"
    assert client.post(f"/v1/datasets/{dataset}/cancel").status_code == 400
    lines = client.get(f"/v1/datasets/{dataset}/export", params={"include": "all"}).content.splitlines()
    assert len(lines) == cancelled["counts"]["done"] < 1600
    assert client.delete(f"/v1/datasets/{dataset}").json() == {
        "id": dataset,
        "object": "dataset.deleted",
        "deleted": True,
    }
    assert client.get(f"/v1/datasets/{dataset}").status_code == 404
    assert not (service.data / "storage" / "jobs" / dataset).exists()


def test_the_same_idempotency_key_makes_one_dataset(client: httpx.Client) -> None:
    asked = {"problems": [{"question": "1 + 1?", "solution": "2"}], "sampling": {"max_tokens": 2}}
    first, again = (
        client.post("/v1/datasets", json=asked, headers={"idempotency-key": "one"}).json() for _ in range(2)
    )
    assert first["id"] == again["id"]
    other = client.post("/v1/datasets", json=asked | {"n": 2}, headers={"idempotency-key": "one"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_datasets_are_listed_newest_first_page_by_page(client: httpx.Client) -> None:
    asked = {"problems": [{"question": "1 + 1?", "solution": "2"}], "sampling": {"max_tokens": 1}}
    ids = [client.post("/v1/datasets", json=asked).json()["id"] for _ in range(3)]
    page = client.get("/v1/datasets", params={"limit": 2}).json()
    assert [each["id"] for each in page["data"]] == ids[:0:-1]
    assert page["has_more"]
    page = client.get("/v1/datasets", params={"limit": 1, "after": page["last_id"]}).json()
    assert [each["id"] for each in page["data"]] == ids[:1]


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({}, 422, None),
        ({"problems": []}, 422, "problems"),
        ({"problems": [{"question": "q", "solution": "s"}], "source": "a/b"}, 422, None),
        ({"problems": [{"question": "q"}]}, 422, "problems.0.solution"),
        ({"source": "/etc/passwd"}, 422, "source"),
        ({"source": "../../etc/passwd"}, 422, "source"),
        ({"file_id": "file-../../x"}, 404, "file_id"),
        ({"source": "a/b", "columns": {"nonsense": "x"}}, 422, "columns"),
        ({"source": "a/b", "n": 65}, 422, "n"),
        ({"source": "a/b", "n": 3, "best_of": 2}, 422, None),
        ({"source": "a/b", "sampling": {"max_tokens": 20000}}, 422, "sampling.max_tokens"),
        ({"source": "a/b", "model": "nobody"}, 404, "model"),
        ({"source": "a/b", "colunms": {}}, 422, "colunms"),
        ({"source": "a/b", "measures": {"step_credits": True}}, 422, None),
        ({"source": "a/b", "measures": {"verified": True, "own_tokens": 513}}, 422, "measures.own_tokens"),
        ({"source": "a/b", "measures": {"step_credit": True, "most_steps": 33}}, 422, "measures.most_steps"),
        ({"source": "a/b", "filters": {"at_least": {"rewards": 0}}}, 422, None),
        ({"source": "a/b", "contamination": {"file_ids": ["file-x"]}}, 404, "contamination.file_ids"),
        ({"source": "a/b", "further": {"threshold": 0, "samples": 64, "budget_tokens": 1}}, 422, "further.samples"),
        ({"problems": [{"question": "q" * 400_001, "solution": "s"}]}, 422, "problems.0.question"),
    ],
)
def test_what_cannot_work_is_refused_at_once_and_says_which_field(
    client: httpx.Client, asked: dict[str, Any], status: int, param: str | None
) -> None:
    answer = client.post("/v1/datasets", json=asked)
    assert answer.status_code == status, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_a_hub_dataset_that_cannot_be_had_fails_the_dataset_with_the_reason(client: httpx.Client) -> None:
    dataset = made(client, source="nobody/no-such-dataset")
    assert dataset["status"] == "failed"
    assert "nobody/no-such-dataset" in dataset["error"]


@pytest.mark.parametrize("path", ["", "/rows", "/manifests", "/card", "/export", "/events"])
def test_a_dataset_that_is_not_there_is_404(client: httpx.Client, path: str) -> None:
    for name in ("ds_nobody", "..%2F..%2Fetc%2Fpasswd", "batch_x"):
        answer = client.get(f"/v1/datasets/{name}{path}")
        assert answer.status_code == 404, answer.text
