"""Who may do what, and how often."""

from pathlib import Path

import httpx
import pytest

from server.service import Parts
from tests.server.in_process import bearer, in_app

PURPOSE = {"purpose": "user_data"}
EXPLAIN = {"question": "1 + 1?", "solution": "2"}


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and error code."""
    return response.status_code, response.json()["error"]["code"]


def test_without_any_key_loopback_answers_everybody_whatever_key_they_send(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/v1/models", headers=bearer("no-key-needed"))).status_code == 200
        assert (await client.get("/v1/admin/workers")).status_code == 200

    in_app(tmp_path, scenario)


def test_without_any_key_a_name_that_is_not_this_machines_is_refused(tmp_path: Path) -> None:
    """A page in a browser could point a name of its own at 127.0.0.1 (DNS rebinding)."""

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        for name in ("localhost", "127.0.0.1:8080", "[::1]:8080", "[::1]"):
            assert (await client.get("/v1/models", headers={"host": name})).status_code == 200
        for name in ("evil.example:8080", "localhost.evil.example", ""):
            assert code(await client.get("/v1/models", headers={"host": name})) == (403, "foreign_host")

    in_app(tmp_path, scenario)


def test_without_any_key_a_page_of_another_site_is_refused(tmp_path: Path) -> None:
    """Browsers send its forms, files too, wherever they go, without asking; only the answer is kept from it."""

    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        async def upload(origin: str) -> httpx.Response:
            headers = {"host": "localhost:8080", "origin": origin}
            return await client.post("/v1/files", files={"file": ("a.jsonl", b"{}")}, data=PURPOSE, headers=headers)

        for origin in ("http://evil.example", "http://localhost:3000", "null", "http://[", ""):
            assert code(await upload(origin)) == (403, "foreign_page")
        assert (await upload("http://localhost:8080")).status_code == 200
        _, key = await parts.keys.create("laptop", ("explain",))
        elsewhere = bearer(key) | {"origin": "http://evil.example"}
        assert (await client.get("/v1/models", headers=elsewhere)).status_code == 200

    in_app(tmp_path, scenario)


def test_without_any_key_another_address_than_loopback_answers_nobody(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert code(await client.get("/v1/models")) == (401, "missing_api_key")

    in_app(tmp_path, scenario, host="0.0.0.0")


def test_once_there_is_a_key_every_request_needs_one_that_is_known(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        key, text = await parts.keys.create("laptop", ("explain",))
        missing = await client.get("/v1/models")
        assert code(missing) == (401, "missing_api_key")
        assert missing.headers["www-authenticate"] == "Bearer"
        for wrong in (bearer(text + "x"), bearer(""), {"authorization": f"Basic {text}"}, bearer("x" * 10_000)):
            assert code(await client.get("/v1/models", headers=wrong)) == (401, "invalid_api_key")
        assert (await client.get("/v1/models", headers=bearer(text))).status_code == 200
        await parts.keys.revoke(key.id)
        assert code(await client.get("/v1/models", headers=bearer(text))) == (401, "invalid_api_key")
        assert code(await client.get("/v1/models")) == (401, "missing_api_key")

    in_app(tmp_path, scenario)


@pytest.mark.parametrize("path", ["/", "/health/live", "/docs", "/openapi.json"])
def test_what_tells_nothing_about_anybody_needs_no_key(tmp_path: Path, path: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        await parts.keys.create("laptop", ("explain",))
        assert (await client.get(path)).status_code == 200

    in_app(tmp_path, scenario)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/explanations", "explain"),
        ("POST", "/v1/scores", "explain"),
        ("POST", "/v1/chat/completions", "explain"),
        ("GET", "/v1/datasets", "datasets"),
        ("POST", "/v1/datasets", "datasets"),
        ("GET", "/v1/files", "datasets"),
        ("GET", "/v1/batches", "datasets"),
        ("GET", "/v1/admin/workers", "admin"),
        ("POST", "/v1/admin/teacher", "admin"),
        ("GET", "/metrics", "admin"),
    ],
)
def test_each_resource_needs_its_scope(tmp_path: Path, method: str, path: str, scope: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        others = [other for other in ("explain", "datasets", "admin") if other != scope]
        _, without = await parts.keys.create("without", others)
        _, having = await parts.keys.create("with", (scope,))
        refused = await client.request(method, path, headers=bearer(without))
        assert code(refused) == (403, "insufficient_scope")
        assert f"needs '{scope}'" in refused.json()["detail"]
        assert (await client.request(method, path, headers=bearer(having))).status_code not in (401, 403)

    in_app(tmp_path, scenario)


def test_a_body_is_not_read_before_the_key_is_known(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        await parts.keys.create("laptop", ("datasets",))
        taken = 0

        async def upload():  # type: ignore[no-untyped-def]
            nonlocal taken
            for _ in range(100):
                taken += 1
                yield b"x" * 1000

        assert code(await client.post("/v1/files", content=upload())) == (401, "missing_api_key")
        assert taken == 0

    in_app(tmp_path, scenario)


def test_more_requests_than_the_minute_allows_are_429_for_that_key_alone(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, busy = await parts.keys.create("busy", ("explain",))
        _, calm = await parts.keys.create("calm", ("explain",))
        answers = [await client.get("/v1/models", headers=bearer(busy)) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
        assert code(answers[3]) == (429, "rate_limited")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert (await client.get("/v1/models", headers=bearer(calm))).status_code == 200

    in_app(tmp_path, scenario, requests_per_minute=3)


def test_who_tries_keys_is_slowed_down_too(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        await parts.keys.create("laptop", ("explain",))
        statuses = [(await client.get("/v1/models", headers=bearer(f"guess{n}"))).status_code for n in range(4)]
        assert statuses == [401, 401, 401, 429]

    in_app(tmp_path, scenario, requests_per_minute=3)


@pytest.mark.parametrize("path", ["/v1/models/a%00b", "/v1/datasets/%00", "/v1/files?after=%00"])
def test_a_nul_character_reaches_no_database(tmp_path: Path, path: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert code(await client.get(path)) == (400, "invalid_body")

    in_app(tmp_path, scenario)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../../key-secret",
        "/v1/files/%2e%2e%2f%2e%2e%2fkey-secret/content",
        "/v1/files/..%5c..%5ckey-secret",
        "/v1/datasets/..%2f..%2frlt.sqlite/export",
        "/v1/models/../../../etc/passwd",
        "/v1/batches/%2fetc%2fpasswd",
    ],
)
def test_no_id_leads_out_of_its_folder(tmp_path: Path, path: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        response = await client.get(path)
        assert response.status_code == 404
        assert (tmp_path / "key-secret").read_bytes() not in response.content

    in_app(tmp_path, scenario)
