"""The Datasets pages in a real browser: from a file with bad rows to a download, and what becomes of what fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from server.engine.protocol import Generation
from server.errors import EngineRefused
from tests.server.console.conftest import Watched
from tests.server.console.test_browser import serious
from tests.server.in_process import Script, Served, on_a_port

XSS = """<script>document.title='hurt'</script><img src=x onerror="document.title='hurt'">'"><b hx-get="/x">{{ 7*7 }}"""
PROBLEMS = [{"question": f"{number} + 1?", "solution": f"{number + 1}. {XSS}"} for number in range(6)]
LINES = [
    json.dumps(PROBLEMS[0]),
    json.dumps({"question": XSS}),
    *map(json.dumps, PROBLEMS[1:]),
    '{"question": "torn',
]
FILE = {"name": f"{XSS.replace('/', '')}.jsonl", "mimeType": "application/jsonl", "buffer": "\n".join(LINES).encode()}
WRITTEN = "So it is.<|end_of_explanation|>"


@pytest.fixture
def served(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Served]:
    """A service whose teacher writes what the test wants, when it wants, and that works on datasets."""
    with on_a_port(tmp_path, Script(tiny_model_folder, WRITTEN), works=True, upload_bytes=50_000) as found:
        yield found


def fails(asked: Generation) -> str:
    """What a teacher does whose engine refuses everything."""
    raise EngineRefused(f"the prompt does not fit {XSS}")


def made(served: Served, **body: Any) -> str:
    """A dataset of the problems, made by the API."""
    answer = httpx.post(f"{served.url}/v1/datasets", json={"problems": PROBLEMS} | body)
    return str(answer.raise_for_status().json()["id"])


def inert(page: Page) -> bool:
    """Whether nothing that somebody wrote became a part of the page."""
    hurt = page.locator("script:not([src]), img[src=x], [hx-get='/x'], [onerror]").count()
    return page.title() != "hurt" and not hurt


def narrow(page: Page) -> None:
    """Asserts that the page is no wider than a small and a large window, and well to use in both colours."""
    for width, scheme in ((360, "light"), (1600, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(page) == []


def test_from_a_file_with_bad_rows_to_a_download(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets")
    page.get_by_role("link", name="Upload a file of problems").click()
    expect(page.get_by_text("No file of problems was uploaded yet")).to_be_visible()
    narrow(page)
    page.get_by_label("File", exact=True).set_input_files(FILE)
    page.get_by_role("button", name="Upload").click()

    preview = page.locator("#preview")
    expect(preview).to_contain_text("6 problems in 8 rows")
    expect(preview).to_contain_text("2 of 8 rows cannot be used")
    faults = page.get_by_role("region", name="Bad rows").get_by_role("row")
    expect(faults.nth(1)).to_contain_text("2no question with a solution or answer in the columns")
    expect(faults.nth(2)).to_contain_text("8")
    assert inert(page)
    narrow(page)
    page.get_by_label("Name").fill(XSS)
    page.get_by_role("button", name="Create the dataset").click()  # the browser asks what shall become of the bad rows
    expect(page.get_by_label("Leave the bad rows out")).to_be_focused()
    page.get_by_label("Leave the bad rows out").check()
    page.locator("#dataset").evaluate("form => { form.noValidate = true; }")
    page.get_by_label("Longest, tokens").fill("0")
    page.get_by_role("button", name="Create the dataset").click()
    expect(page.get_by_role("alert")).to_contain_text("sampling.max_tokens: Input should be greater than or equal to 1")
    expect(page.get_by_label("Leave the bad rows out")).to_be_checked()
    page.get_by_label("Longest, tokens").fill("32")
    page.get_by_label("Explanations to keep").fill("2")
    page.get_by_role("button", name="What will it take?").click()
    expect(page.locator("#estimate")).to_contain_text("in 12 rows")
    narrow(page)
    served.hold()
    page.get_by_role("button", name="Create the dataset").click()

    standing = page.locator("#standing")
    expect(standing).to_contain_text("running")
    expect(standing).to_contain_text("0 of 12 rows")
    expect(standing).to_contain_text("so far")
    expect(standing).not_to_contain_text("Nobody works")
    served.let_go()
    expect(standing).to_contain_text("completed")
    expect(standing).to_contain_text("12 to train on, 0 failed, 0 dropped")
    expect(standing).to_contain_text("8: 6 problems, 0 repeated, 2 bad")
    assert page.get_by_role("heading", level=1).text_content() == XSS
    page.get_by_text("The request, without").click()
    expect(page.get_by_role("region", name="The request")).to_contain_text('"skip_invalid": true')
    page.get_by_role("button", name="Show the card").click()
    expect(page.get_by_role("region", name="The card")).to_contain_text("12 explanations that lead from a question")
    assert inert(page)
    narrow(page)
    dataset = page.url.rpartition("/")[2]
    page.get_by_text("For a trainer").click()
    for name in ("jsonl", "trl-messages"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        whole = httpx.get(f"{served.url}/v1/datasets/{dataset}/export", params={"format": name})
        assert f'filename="{download.value.suggested_filename}"' in whole.headers["content-disposition"]
        assert Path(download.value.path()).read_bytes() == whole.content
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("There is no dataset yet")).to_be_visible()
    page.goto(f"{served.url}/console/datasets/new")
    page.get_by_role("rowheader").get_by_role("link").click()  # what was uploaded can be taken again
    expect(preview).to_contain_text("6 problems in 8 rows")
    assert watched.outside(served.url) == []
    assert [said for said in watched.said if "422" not in said] == []


def test_what_failed_is_told_with_its_reasons_and_made_anew(served: Served, watched: Watched) -> None:
    page = watched.page
    served.engine.text = fails
    made(served, name="the first")
    page.goto(f"{served.url}/console/datasets")
    page.get_by_role("link", name="the first").click()
    standing = page.locator("#standing")
    expect(standing).to_contain_text("0 to train on, 6 failed")
    expect(page.get_by_role("row", name="engine_refused")).to_contain_text("6")
    expect(page.locator(".reasons li")).to_have_count(1)
    expect(page.locator(".reasons li")).to_contain_text("the prompt does not fit <script>")
    assert inert(page)
    narrow(page)
    page.goto(f"{page.url}/export?format=trl-messages")
    expect(page.get_by_role("alert")).to_contain_text("none of 6 rows is one to train on")
    page.go_back()
    served.engine.text = lambda asked: WRITTEN
    page.get_by_role("button", name="Retry 6 failed rows").click()
    expect(standing).to_contain_text("6 to train on, 0 failed")
    expect(standing).to_contain_text("completed")
    assert [said for said in watched.said if "422" not in said] == []


def test_a_dataset_at_work_is_watched_in_the_list_and_cancelled(served: Served, watched: Watched) -> None:
    page = watched.page
    page.on("dialog", lambda dialog: dialog.accept())
    served.hold()
    dataset = made(served, name=XSS)
    page.goto(f"{served.url}/console/datasets")
    row = page.locator(f"#{dataset}")
    expect(row).to_contain_text("0 of 6")
    link = row.get_by_role("link")
    link.focus()
    for _ in range(2):
        with page.expect_response(f"{served.url}/console/datasets/list"):
            pass
    expect(link).to_be_focused()  # although the list was looked at again
    assert inert(page)
    narrow(page)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#standing")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    served.let_go()
    page.goto(f"{served.url}/console/datasets")
    expect(row).to_contain_text("cancelled")
    assert row.get_by_role("progressbar").count() == 1
    page.goto(f"{served.url}/console/datasets?after={dataset}")
    expect(page.get_by_text("No dataset is older than that")).to_be_visible()
    assert watched.said == []


def test_columns_can_be_chosen_and_files_that_will_not_do_are_refused_in_place(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets/new")
    field, send = page.get_by_label("File", exact=True), page.get_by_role("button", name="Upload")
    field.set_input_files({"name": "problems.txt", "mimeType": "text/plain", "buffer": b"x"})
    send.click()
    expect(page.get_by_role("alert")).to_contain_text("does not say its format")
    field.set_input_files({"name": "long.csv", "mimeType": "text/csv", "buffer": bytes(200_000)})
    send.click()
    assert "split it" in field.evaluate("field => field.validationMessage")
    page.locator("form[enctype]").evaluate("form => { form.noValidate = true; }")
    send.click()
    expect(page.get_by_role("alert")).to_contain_text("longer than")
    field.set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": "Frage,Lösung\n1 + 1?,2\n".encode()})
    send.click()
    preview = page.locator("#preview")
    expect(preview).to_contain_text("Choose the columns above")
    page.get_by_label("question", exact=True).select_option("Frage")
    page.get_by_label("solution", exact=True).select_option("Lösung")
    page.get_by_role("button", name="Read again").click()
    expect(preview).to_contain_text("1 problem in 1 row")
    expect(page.get_by_label("question", exact=True)).to_have_value("Frage")
    page.get_by_role("button", name="Create the dataset").click()
    expect(page.locator("#standing")).to_contain_text("1 to train on")
    page.goto(f"{served.url}/console/datasets/new?source=../etc")
    expect(page.get_by_role("alert")).to_contain_text("is no name of a hub dataset")
    page.goto(f"{served.url}/console/datasets/ds_nothing")
    expect(page.get_by_role("alert")).to_contain_text("there is no dataset")
