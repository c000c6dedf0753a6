"""How the service says it stands."""

from pathlib import Path

import httpx

from server.service import Parts
from tests.server.in_process import Script, bearer, in_app
from tests.server.service_process import Service


def test_every_part_of_a_running_service_is_well(service: Service, servable_model_folder: Path) -> None:
    with service.client() as client:
        system = client.get("/v1/admin/system").json()
    parts = {part["kind"]: part for part in system["parts"]}
    assert list(parts) == ["engine", "student", "database", "storage"]
    assert {part["problem"] for part in parts.values()} == {None}
    assert parts["engine"]["name"].startswith(f"{servable_model_folder.name} on transformers ")
    assert parts["engine"]["in_flight"] == 0
    assert parts["student"]["name"] == servable_model_folder.name
    assert parts["database"]["place"].endswith("rlt.sqlite")
    assert system["queue"] == {"running": 0, "places": 256, "waiting": 0, "longest": 512, "jobs": {}}
    assert {"python", "torch", "transformers"} <= system["versions"].keys()


def test_a_part_that_is_gone_says_why(tmp_path: Path, tiny_model_folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        (tmp_path / "storage").rename(tmp_path / "elsewhere")
        system = (await client.get("/v1/admin/system")).json()
        problems = {part["kind"]: part["problem"] for part in system["parts"]}
        assert "it is not there, or cannot be written to" in problems.pop("storage")
        assert problems == {"engine": None, "database": None}
        page = await client.get("/console/system")
        assert '<span class="light bad">not well</span>' in page.text
        assert "it is not there, or cannot be written to" in page.text

    in_app(tmp_path, scenario, script=Script(tiny_model_folder, "so"))


def test_how_it_stands_is_for_operators(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain", "datasets"))
        assert (await client.get("/v1/admin/system", headers=bearer(key))).status_code == 403

    in_app(tmp_path, scenario)


def test_browsers_are_led_to_the_console_and_programs_are_told_where_it_is(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        browser = await client.get("/", headers={"accept": "text/html,application/xhtml+xml"})
        assert (browser.status_code, browser.headers["location"]) == (303, "/console")
        assert (await client.get("/")).json()["console"] == "/console"

    in_app(tmp_path, scenario)
