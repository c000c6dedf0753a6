"""Pages without a browser: the rules they are sent with, signing in and out, forms of others, errors for people."""

import html
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from server.console import datasets_page, new_dataset_page, row_page, rows_page, training_page
from server.service import Parts
from server.web import sessions
from server.web.access import SIGN_INS_PER_MINUTE
from tests.server.in_process import in_app

SIGN_IN = "/console/sign-in"
PAGE = "/console/system"
RULES = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def form_token(response: httpx.Response) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', response.text)
    assert found, response.text
    return found[1]


async def sign_in(client: httpx.AsyncClient, key: str, onwards: str = "") -> httpx.Response:
    """Fills the form in and sends it."""
    token = form_token(await client.get(SIGN_IN))
    return await client.post(SIGN_IN, data={"form_token": token, "key": key, "next": onwards})


def told(response: httpx.Response) -> str:
    """What a page says in its alert."""
    found = re.search(r'role="alert"[^>]*>(.*?)</(?:div|p)>\n', response.text, re.DOTALL)
    assert found, response.text
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", found[1])).split())


@pytest.mark.parametrize(
    "path", ["/console", SIGN_IN, PAGE, "/console/nowhere", "/console/static/console.css", "/console/static/nothing"]
)
def test_every_answer_carries_the_rules_that_browsers_keep(tmp_path: Path, path: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        headers = (await client.get(path)).headers
        assert {name: headers[name] for name in RULES} == RULES
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert "content-security-policy" not in (await client.get("/health/live")).headers

    in_app(tmp_path, scenario)


def test_without_any_key_the_console_needs_no_signing_in(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        front = await client.get("/console", follow_redirects=True)
        assert front.status_code == 200
        assert "Sign out" not in front.text
        foreign = await client.get(PAGE, headers={"host": "evil.example"})
        assert foreign.status_code == 403
        assert "is not this machine" in told(foreign)

    in_app(tmp_path, scenario)


def test_a_key_opens_the_console_and_signing_out_closes_it(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("admin",))
        asked = await client.get(PAGE)
        assert (asked.status_code, asked.headers["location"]) == (303, "/console/sign-in?next=%2Fconsole%2Fsystem")
        signed = await sign_in(client, f" {key}\n", PAGE)
        assert (signed.status_code, signed.headers["location"]) == (303, PAGE)
        page = await client.get(PAGE)
        assert page.status_code == 200
        assert page.headers["cache-control"] == "no-store"
        out = await client.post("/console/sign-out", data={"form_token": form_token(page)})
        assert (out.status_code, out.headers["location"]) == (303, SIGN_IN)
        assert (await client.get(PAGE)).status_code == 303

    in_app(tmp_path, scenario)


def test_no_cookie_holds_the_key_or_is_seen_by_scripts_or_other_sites(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        page = await client.get(SIGN_IN)
        cookies = page.headers.get_list("set-cookie") + (await sign_in(client, key)).headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= set(cookie.split("; "))
            assert "Secure" not in cookie
            assert key not in cookie
            assert key.removeprefix("rlt_") not in cookie
        behind_tls = await client.get(SIGN_IN, headers={"x-forwarded-proto": "https", "cookie": ""})
        assert "Secure" in behind_tls.headers["set-cookie"].split("; ")

    in_app(tmp_path, scenario)


def test_wrong_keys_are_told_what_to_do(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        known, key = await parts.keys.create("laptop", ("explain",))
        await parts.keys.revoke(known.id)
        for wrong in ("rlt_wrong", key, "", "x" * 10_000, "ünicode", "<script>"):
            answer = await sign_in(client, wrong)
            assert answer.status_code == 401
            assert "`rlt keys create --key NAME` makes one" in told(answer)
            assert (await client.get(PAGE)).status_code == 303

    in_app(tmp_path, scenario)


def test_guessing_keys_is_slowed_down(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        page = await client.get(SIGN_IN)
        fields = {"form_token": form_token(page), "key": "rlt_wrong"}
        answers = [(await client.post(SIGN_IN, data=fields)).status_code for _ in range(SIGN_INS_PER_MINUTE)]
        assert set(answers) == {401}
        refused = await client.post(SIGN_IN, data=fields | {"key": key})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "come again in" in told(refused)
        assert (await client.get(SIGN_IN)).status_code == 200

    in_app(tmp_path, scenario)


def forged(cookie: str) -> list[str]:
    """Session cookies that look like `cookie` and are not."""
    handle, until, signature = cookie.split(".")
    flipped = "0" if signature[0] != "0" else "1"
    later = str(int(until) + 1)
    return [f"{handle}.{later}.{signature}", f"{handle}.{until}.{flipped}{signature[1:]}", handle, "", "..", '"\\351"']


def test_a_session_that_was_forged_has_ended_or_whose_key_was_revoked_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        known, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        name, cookie = next((each.name, each.value or "") for each in client.cookies.jar if "session" in each.name)

        async def status(value: str) -> int:
            return (await client.get(PAGE, headers={"cookie": f"{name}={value}"})).status_code

        assert await status(cookie) == 200
        for other in forged(cookie):
            assert await status(other) == 303, other
        with monkeypatch.context() as later:
            now = time.time()
            later.setattr(sessions.time, "time", lambda: now + sessions.SESSION_SECONDS + 1)
            assert await status(cookie) == 303
        await parts.keys.revoke(known.id)
        assert await status(cookie) == 303

    in_app(tmp_path, scenario)


@pytest.mark.parametrize(
    "onwards", ["https://evil.example", "//evil.example", "/\\evil", "/v1/models", "/console/../v1"]
)
def test_signing_in_leads_to_no_other_place(tmp_path: Path, onwards: str) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        assert (await sign_in(client, key, onwards)).headers["location"] == "/console"

    in_app(tmp_path, scenario)


Forge = Callable[[httpx.AsyncClient, str], Awaitable[dict[str, str]]]


async def _none(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    return {}


async def _made_up(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    return {"form_token": token[::-1]}


async def _of_another_browser(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    return {"form_token": form_token(await client.get(SIGN_IN, headers={"cookie": ""}))}


@pytest.mark.parametrize("forge", [_none, _made_up, _of_another_browser])
def test_a_form_that_no_page_of_this_browser_sent_is_refused(tmp_path: Path, forge: Forge) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        token = form_token(await client.get(PAGE))
        refused = await client.post("/console/sign-out", data=await forge(client, token))
        assert refused.status_code == 403
        assert "reload it and send the form again" in told(refused)
        assert (await client.get(PAGE)).status_code == 200

    in_app(tmp_path, scenario)


def test_a_form_from_before_signing_in_is_no_longer_taken(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        before = form_token(await client.get(SIGN_IN))
        await sign_in(client, key)
        assert (await client.post("/console/sign-out", data={"form_token": before})).status_code == 403

    in_app(tmp_path, scenario)


def test_errors_are_pages_for_people_and_pieces_for_htmx(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        page = await client.get("/console/<b>nowhere</b>")
        assert page.status_code == 404
        assert page.text.startswith("<!doctype html>")
        assert "there is no such route" in told(page)
        assert page.headers["x-request-id"] in page.text
        assert "<b>nowhere" not in page.text
        piece = await client.get("/console/nowhere", headers={"hx-request": "true"})
        assert piece.text.startswith('<div class="problem" role="alert">')
        _, _ = await parts.keys.create("laptop", ("explain",))
        asked = await client.get("/console/system/standing", headers={"hx-request": "true"})
        assert asked.headers["hx-redirect"] == SIGN_IN
        assert (await client.get("/v1/nowhere")).headers["content-type"] == "application/problem+json"

    in_app(tmp_path, scenario)


def test_a_body_that_is_too_long_is_told_as_a_page(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        answer = await client.post(SIGN_IN, data={"key": "x" * 2000})
        assert answer.status_code == 413
        assert "body: longer than" in told(answer)

    in_app(tmp_path, scenario, body_bytes=1000)


def test_files_are_kept_for_ever_at_the_address_that_names_their_content(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        page = await client.get(SIGN_IN)
        addresses = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text)
        assert len(addresses) >= 5
        total = len(page.content)
        for address in set(addresses):
            answer = await client.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            total += len(answer.content)
        assert total <= 150_000
        assert (await client.get(addresses[0].split("?")[0])).headers["cache-control"] == "no-cache"

    in_app(tmp_path, scenario)


def test_what_only_an_operator_may_see_is_not_shown_to_another_key(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        page = await client.get(PAGE)
        assert page.status_code == 200
        assert "sign in with a key that has the scope <code>admin</code>" in page.text
        assert "rlt.sqlite" not in page.text

    in_app(tmp_path, scenario)


@pytest.mark.parametrize("module", [datasets_page, new_dataset_page, rows_page, row_page, training_page])
def test_a_key_that_may_only_explain_opens_no_other_page_and_does_nothing_there(
    tmp_path: Path, module: ModuleType
) -> None:
    async def scenario(client: httpx.AsyncClient, parts: Parts) -> None:
        _, key = await parts.keys.create("laptop", ("explain",))
        await sign_in(client, key)
        token = form_token(await client.get("/console/try"))
        for route in module.router.routes:
            path = re.sub(r"{[^}]+}", "x", route.path)
            for method in route.methods:
                sent = {"data": {"form_token": token}} if method == "POST" else {}
                answer = await client.request(method, path, **sent)
                if path == "/console/training":  # it says what it would show, and to whom
                    assert (answer.status_code, "run_" in answer.text) == (200, False)
                else:
                    assert answer.status_code == 403, (method, path)

    in_app(tmp_path, scenario)
