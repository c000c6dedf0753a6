"""Requests for datasets that meet a limit of the service; those that miss its rules are in test_datasets.py."""

from pathlib import Path

import httpx
import pytest

from server.datasets.dataset_requests import check_room
from server.errors import TooMany
from server.service import Parts
from tests.server.in_process import in_app


def test_no_more_jobs_are_taken_on_than_may_be_unfinished(tmp_path: Path) -> None:
    async def script(client: httpx.AsyncClient, parts: Parts) -> None:
        await parts.jobs.create("dataset", {}, "ds_1")
        await check_room(parts)
        await parts.jobs.create("batch", {}, "batch_1")
        with pytest.raises(TooMany) as refused:
            await check_room(parts)
        assert (refused.value.code, refused.value.retry_after) == ("too_many_jobs", 30)

    in_app(tmp_path, script, datasets=2)


def test_a_service_without_a_teacher_makes_no_datasets_and_says_so(tmp_path: Path) -> None:
    async def script(client: httpx.AsyncClient, parts: Parts) -> None:
        answer = await client.post("/v1/datasets", json={"source": "a/b"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_teacher")

    in_app(tmp_path, script)
