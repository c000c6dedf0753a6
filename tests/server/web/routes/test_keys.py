"""Keys by REST, and on the System page."""

import re
from pathlib import Path

import httpx

from server.service import Parts
from tests.server.console.test_pages import PAGE, form_token, sign_in, told
from tests.server.in_process import bearer, in_app


def test_a_key_is_made_listed_used_and_revoked(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, operator = await parts.keys.create("operator", ("admin",))
        made = await client.post("/v1/admin/keys", json={"name": "laptop"}, headers=bearer(operator))
        assert made.status_code == 201
        body = made.json()
        key = body.pop("key")
        assert (body["name"], body["scopes"], body["revoked_at"]) == ("laptop", ["explain", "datasets"], None)
        listed = (await client.get("/v1/admin/keys", headers=bearer(operator))).json()["data"]
        assert [each["name"] for each in listed] == ["operator", "laptop"]
        assert listed[1] == body
        assert key not in str(listed)
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 200
        assert (await client.get("/v1/admin/keys", headers=bearer(key))).status_code == 403
        revoked = await client.delete(f"/v1/admin/keys/{body['id']}", headers=bearer(operator))
        assert revoked.json()["revoked_at"] >= body["created_at"]
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 401
        assert (await client.delete("/v1/admin/keys/key_none", headers=bearer(operator))).status_code == 404

    in_app(tmp_path, scenario)


def test_the_first_key_closes_the_service_at_once(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        assert (await client.get("/v1/admin/keys")).json()["data"] == []
        key = (await client.post("/v1/admin/keys", json={"name": "first", "scopes": ["admin"]})).json()["key"]
        assert (await client.get("/v1/admin/keys")).status_code == 401
        assert (await client.get("/v1/admin/keys", headers=bearer(key))).status_code == 200

    in_app(tmp_path, scenario)


def test_a_key_that_cannot_be_is_refused_with_its_field(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        for body, param in (
            ({"name": ""}, "name"),
            ({"name": "two\nlines"}, "name"),
            ({"name": " "}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"name": "a", "scopes": []}, "scopes"),
            ({"name": "a", "scopes": ["root"]}, "scopes.0"),
        ):
            answer = await client.post("/v1/admin/keys", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
        assert await parts.keys.all() == []

    in_app(tmp_path, scenario)


def test_the_page_that_makes_the_first_key_stays_signed_in(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        token = form_token(await client.get(PAGE))
        fields = {"form_token": token, "name": "<b>first</b>", "scopes": ["explain", "admin"]}
        made = await client.post("/console/system/keys", data=fields)
        assert made.status_code == 200
        [key] = re.findall(r'<code class="key">(rlt_[\w-]+)</code>', made.text)
        assert "It is the first one" in made.text
        assert "<b>first" not in made.text
        page = await client.get(PAGE)
        assert page.status_code == 200
        assert key not in page.text
        assert "Sign out" in page.text
        [known] = await parts.keys.all()
        revoke = f"/console/system/keys/{known.id}/revoke"
        assert (await client.post(revoke, data={"form_token": token})).status_code == 403
        revoked = await client.post(revoke, data={"form_token": form_token(made)})
        assert "is revoked" in revoked.text
        assert (await client.get(PAGE)).status_code == 303

    in_app(tmp_path, scenario)


def test_another_key_is_no_operator_on_the_page_either(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        known, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        page = await client.get(PAGE)
        assert 'id="keys"' not in page.text
        for path in ("/console/system/keys", f"/console/system/keys/{known.id}/revoke"):
            answer = await client.post(path, data={"form_token": form_token(page), "name": "x", "scopes": "admin"})
            assert answer.status_code == 403
            assert "this needs 'admin'" in told(answer)

    in_app(tmp_path, scenario)
