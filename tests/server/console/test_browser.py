"""The console in a real browser: what it loads, signing in and out, colours, the keyboard, what axe-core says of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.server.console.conftest import Watched
from tests.server.in_process import Served, on_a_port

SERIOUS = ("serious", "critical")
FIRST_PAGE_BYTES = 150_000
NAME = """<script>document.title='hurt'</script>"js:document.title='hurt'"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The application on a port, without models and without a key."""
    with on_a_port(tmp_path) as found:
        yield found


def make_key(served: Served, *scopes: str) -> str:
    """A new key of the service, made on its own loop."""
    coming = asyncio.run_coroutine_threadsafe(served.parts.keys.create("laptop", scopes), served.loop)
    return coming.result(30)[1]


def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in SERIOUS]


def test_the_first_page_is_light_and_asks_nobody_outside(served: Served, watched: Watched) -> None:
    sizes: list[int] = []
    watched.page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    watched.page.goto(f"{served.url}/console", wait_until="networkidle")
    expect(watched.page.get_by_role("heading", level=1)).to_be_visible()
    assert watched.outside(served.url) == []
    assert watched.said == []
    assert 10_000 < sum(sizes) <= FIRST_PAGE_BYTES


def test_signing_in_with_a_wrong_key_then_a_right_one_then_out(served: Served, watched: Watched) -> None:
    page = watched.page
    key = make_key(served, "explain", "admin")
    page.goto(f"{served.url}/console/system")
    expect(page).to_have_url(f"{served.url}/console/sign-in?next=%2Fconsole%2Fsystem")
    assert serious(page) == []
    page.get_by_label("API key").fill("rlt_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("rlt keys create")
    assert serious(page) == []
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{served.url}/console/system")
    assert key not in str(page.context.cookies())
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{served.url}/console/system")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert watched.outside(served.url) == []
    assert [said for said in watched.said if "401" not in said] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_they_are_switched(served: Served, watched: Watched, scheme: str) -> None:
    page = watched.page
    other = {"light": "dark", "dark": "light"}[scheme]
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{served.url}/console/system")
    back = "getComputedStyle(document.documentElement).backgroundColor"
    followed = page.evaluate(back)
    assert serious(page) == []
    page.get_by_label("Colours").select_option(other)
    assert page.evaluate(back) != followed
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value(other)
    assert page.evaluate(back) != followed
    assert serious(page) == []
    assert watched.said == []


def test_the_keyboard_reaches_everything_the_content_first(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/system")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("width", [360, 1600])
def test_no_page_is_wider_than_the_window(served: Served, watched: Watched, width: int) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/console/system", "/console/sign-in", "/console/nowhere"):
        page.goto(f"{served.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_system_page_keeps_itself_up_to_date(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/system")
    expect(page.get_by_role("heading", name="Parts")).to_be_visible()
    with page.expect_response(f"{served.url}/console/system/standing"):
        pass
    expect(page.get_by_role("heading", name="Parts")).to_have_count(1)
    assert watched.said == []


def test_the_first_key_is_made_used_and_revoked_on_the_system_page(served: Served, watched: Watched) -> None:
    page = watched.page
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{served.url}/console/system")
    expect(page.get_by_text("There is no key")).to_be_visible()
    page.get_by_label("Name of a new key").fill(NAME)
    page.get_by_label("admin").check()
    page.get_by_role("button", name="Create a key").click()
    key = page.locator("code.key").text_content() or ""
    assert key.startswith("rlt_")
    assert serious(page) == []
    with page.expect_response(f"{served.url}/console/system/standing"):
        pass  # the page looks again, now with a session, and keeps the key in sight
    expect(page.locator("code.key")).to_have_text(key)
    page.get_by_label("Name of a new key").fill("without scopes")
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_role("button", name="Create a key").click()
    expect(page.get_by_role("alert")).to_contain_text("scopes:")
    assert key in page.content()
    page.reload()
    assert key not in page.content()
    expect(page.get_by_role("rowheader", name=NAME)).to_be_visible()
    page.get_by_role("button", name=f"Revoke {NAME}").click()
    expect(page.get_by_role("status")).to_contain_text("is revoked")
    expect(page).to_have_url(f"{served.url}/console/sign-in")  # its own session ended with it
    assert page.title() != "hurt"
    assert [said for said in watched.said if "422" not in said] == []
