"""Forms of the Datasets pages without a browser: whose they are, how long they may be, which request they stand for."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.console.datasets_page import SHOWN_DATASETS
from server.console.new_dataset_page import asked_for
from server.datasets.dataset_requests import checked_spec
from server.errors import Invalid
from server.service import Parts
from server.state.ids import new_id
from server.state.tables import Job
from server.wire import DatasetRequest
from tests.server.console.test_pages import form_token, sign_in
from tests.server.in_process import Script, in_app


async def spec_of(parts: Parts) -> dict[str, Any]:
    """What a job is told that shall make a dataset."""
    return (await checked_spec(parts, DatasetRequest(source="owner/name"))).model_dump(mode="json")


def test_a_form_with_a_file_must_come_from_our_page_and_is_bounded(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        token = form_token(await client.get("/console/datasets/new"))
        file = {"file": ("a.jsonl", b"{}" * 2000)}
        assert (await client.post("/console/files", files=file)).status_code == 403
        assert (await client.post("/console/files", files=file, data={"form_token": "0" * 64})).status_code == 403
        assert (await client.get("/v1/files")).json()["data"] == []
        kept = await client.post("/console/files", files=file, data={"form_token": token})
        assert kept.status_code == 303
        assert kept.headers["location"].startswith("/console/datasets/new?file_id=file-")
        two = [("file", ("a.jsonl", b"{}")), ("file", ("b.jsonl", b"{}"))]
        assert (await client.post("/console/files", files=two, data={"form_token": token})).status_code == 400
        many = {f"field-{number}": "x" for number in range(200)}
        assert (await client.post("/console/files", files=file, data=many | {"form_token": token})).status_code == 400
        long = {"file": ("a.jsonl", bytes(100_000))}
        assert (await client.post("/console/files", files=long, data={"form_token": token})).status_code == 413
        assert len((await client.get("/v1/files")).json()["data"]) == 1

    in_app(tmp_path, scenario, body_bytes=1000, upload_bytes=10_000)


def test_pages_of_datasets_need_a_key_for_datasets(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        for path in ("/console/datasets", "/console/datasets/new", "/console/datasets/ds_x", "/console/datasets/list"):
            refused = await client.get(path)
            assert refused.status_code == 403
            assert "datasets" in refused.text
        _, key = await parts.keys.create("desktop", ("datasets",))
        await sign_in(client, key)
        assert (await client.get("/console/datasets")).status_code == 200
        ended = await parts.jobs.create("dataset", await spec_of(parts), new_id("ds_"))
        await parts.jobs.request_cancel(ended.id)
        assert (await client.get(f"/console/datasets/{ended.id}/export")).status_code == 400  # it is being ended
        async with parts.database.session() as session:
            (await session.get_one(Job, ended.id)).status = "cancelled"
        download = await client.get(f"/console/datasets/{ended.id}/export?format=parquet")
        assert (download.status_code, download.content[:4]) == (200, b"PAR1")
        assert f'filename="{ended.id}.parquet"' in download.headers["content-disposition"]
        assert (await client.get(f"/v1/datasets/{ended.id}/export")).status_code == 401

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))


def test_a_long_list_of_datasets_is_walked_page_by_page(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        spec = await spec_of(parts)
        made = [(await parts.jobs.create("dataset", spec, new_id("ds_"))).id for _ in range(SHOWN_DATASETS + 1)]
        seen, path = [], "/console/datasets"
        while path:
            shown = (await client.get(path)).text
            assert "every 2s" in shown  # nobody works on them yet
            seen += re.findall(r'<tr id="(\w+)">', shown)
            older = re.search(r'href="([^"]+)">Older ones', shown)
            path = older[1] if older else ""
        assert seen == made[::-1]
        assert "Nobody works on it" in (await client.get(f"/console/datasets/{made[0]}")).text

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, ""))


def test_the_form_is_the_body_of_the_request() -> None:
    form = {
        "form_token": "x",
        "file_id": "file-1",
        "columns.question": "Frage",
        "n": "2",
        "best_of": "4",
        "score": "true",
        "measures": "true",
        "measures.step_credit": "true",
        "filters.closed": "true",
        "filters.min_reward": "-1",
        "filters.at_most.leak": "0.4",
        "sampling.temperature": "0.9",
    }
    body = asked_for(form)
    assert body.columns == {"question": "Frage"}
    assert (body.n, body.best_of, body.score, body.sampling.temperature) == (2, 4, True, 0.9)
    assert body.measuring is not None
    assert body.measuring.step_credit
    assert body.measuring.repetition
    assert (body.filters.closed, body.filters.at_least, body.filters.at_most) == (True, {"reward": -1}, {"leak": 0.4})
    with pytest.raises(Invalid, match="nonsense"):
        asked_for(form | {"nonsense": "1"})
