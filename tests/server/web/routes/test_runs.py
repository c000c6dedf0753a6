"""Training runs by REST: for operators alone, of the folder that was set, and of nothing outside it."""

import json
from pathlib import Path

import httpx
import pytest

from server.service import Parts
from tests.server.in_process import bearer, in_app
from tests.student.test_run_reading import FILES, SPOILT, run_of, sample

RUNS = "/v1/admin/runs"


def test_runs_are_listed_the_last_written_first_and_read_with_their_samples(tmp_path: Path) -> None:
    run_of(tmp_path, "old", metrics=[{"step": 1, "loss": 2.0}])
    run_of(
        tmp_path,
        "deep/new",
        settings={"teacher": "t", "grpo": {"steps": 9}},
        metrics=[{"step": step, "reward": -step} for step in range(1, 6)],
        events=[{"time": 1, "step": 5, "event": "paused", "reason": "leaks", "watch": {"leak_rise": 0.2}}],
        samples=[sample(1, "a"), sample(5, "a", "better")],
    )
    (tmp_path / "deep/new/metrics.jsonl").touch()

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        listed = (await client.get(RUNS)).raise_for_status().json()
        new, old = listed["data"]
        assert (new["name"], new["state"], new["step"], new["steps"], new["reward"]) == ("deep/new", "paused", 5, 9, -5)
        assert (old["name"], old["state"], old["verb"], old["loss"]) == ("old", "stale", None, 2.0)
        assert (listed["folder"], listed["has_more"]) == (str(tmp_path), False)
        run = (await client.get(f"{RUNS}/{new['id']}", params={"points": 2})).raise_for_status().json()
        assert run["figures"]["steps"] == [4, 5]
        assert run["figures"]["series"][0]["values"] == [-2.5, -5]
        assert run["events"][0]["watch"] == {"leak_rise": 0.2}
        known = (await client.get(f"{RUNS}/{new['id']}/samples")).raise_for_status().json()
        assert known["steps"] == [1, 5]
        asked = {"step": [1, 5], "problem": known["problems"][0]["id"]}
        found = (await client.get(f"{RUNS}/{new['id']}/samples", params=asked)).raise_for_status().json()
        assert [each["explanation"] for each in found["data"]] == ["so", "better"]

    in_app(tmp_path / "data", scenario, runs=str(tmp_path))


def test_only_an_operator_sees_them(tmp_path: Path) -> None:
    run_of(tmp_path)

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, operator = await parts.keys.create("operator", ("admin",))
        _, other = await parts.keys.create("other", ("explain", "datasets"))
        [run] = (await client.get(RUNS, headers=bearer(operator))).raise_for_status().json()["data"]
        for path in (RUNS, f"{RUNS}/{run['id']}", f"{RUNS}/{run['id']}/samples"):
            assert (await client.get(path)).status_code == 401
            refused = await client.get(path, headers=bearer(other))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")

    in_app(tmp_path / "data", scenario, runs=str(tmp_path))


@pytest.mark.parametrize("run", ["..", "../secret", "%2e%2e%2fsecret", "run_0000000000000000", "secret", "a/../.."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, run: str) -> None:
    run_of(tmp_path, "secret", metrics=[{"step": 1, "secret": 7}])
    root = tmp_path / "root"
    root.mkdir()
    (root / "secret").symlink_to(tmp_path / "secret")

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert (await client.get(RUNS)).json()["data"] == []
        for path in (f"{RUNS}/{run}", f"{RUNS}/{run}/samples"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert "error" in answer.json()

    in_app(tmp_path / "data", scenario, runs=str(root))


@pytest.mark.parametrize(("runs", "said"), [(None, "start it with --runs FOLDER"), ("gone", "'gone', is not there")])
def test_a_folder_that_is_not_set_or_not_there_is_told_with_the_remedy(
    tmp_path: Path, runs: str | None, said: str
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        for path in (RUNS, f"{RUNS}/run_0", f"{RUNS}/run_0/samples"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_runs_folder")
            assert said in answer.json()["detail"]

    in_app(tmp_path, scenario, runs=runs)


def test_a_number_that_cannot_be_is_named(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        for points in ("1", "9999", "x"):
            answer = await client.get(f"{RUNS}/run_0", params={"points": points})
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, "points")
        many = await client.get(f"{RUNS}/run_0/samples", params={"step": list(range(21))})
        assert (many.status_code, many.json()["error"]["param"]) == (422, "step")

    in_app(tmp_path, scenario, runs=str(tmp_path))


def test_spoilt_folders_are_answered_by_the_api_and_the_pages(tmp_path: Path) -> None:
    for number, spoilt in enumerate(SPOILT):
        folder = run_of(tmp_path, f"<b>{number}\udcff")
        for name in FILES:
            (folder / name).write_bytes(spoilt)

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        listed = (await client.get(RUNS)).raise_for_status().json()["data"]
        assert len(listed) == len(SPOILT)
        assert (await client.get("/console/training")).status_code == 200
        for run in listed:
            for path in ("", "/samples", "/samples?step=1&step=2&step=3"):
                json.loads((await client.get(f"{RUNS}/{run['id']}{path}")).raise_for_status().text)
            for path in ("", "/standing", "/samples?left=1&right=3"):
                page = await client.get(f"/console/training/{run['id']}{path}")
                assert page.status_code == 200
                assert "<b>" not in page.text.replace("<b>–", "")

    in_app(tmp_path / "data", scenario, runs=str(tmp_path))
