"""A visit to the console of `rlt serve` as people start it: with the demo's teacher, on a vLLM of its own, the demo's
student scoring, and a key. All processes are real, and so is the browser. Left out: what depends on timing, and the
details of a page, which are tested beside this."""

import json
import re
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import unquote_plus

import psutil
import pytest
from playwright.sync_api import FilePayload, Locator, Page, Request, expect

from teacher.demo.world import ADDS, draw_problems
from tests.server.conftest import free_port
from tests.server.console.conftest import Watched
from tests.server.console.demo_models import demo_folder
from tests.server.console.test_browser import serious
from tests.server.console.test_try import FIELDS, XSS, cells, numbers, traces, unlike
from tests.server.engine.test_vllm_child import left_after_a_moment
from tests.server.service_process import Service

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROBLEM = {"question": "8 +2 +1 +1 +2 +1", "solution": "5", "max_tokens": "24", "temperature": "1", "seed": "7"}
CHAINS = draw_problems(ADDS, 8, "held_out", seed=0)
FILE: FilePayload = {
    "name": "chains.jsonl",
    "mimeType": "application/jsonl",
    "buffer": "\n".join(json.dumps({"question": each.question, "solution": each.solution}) for each in CHAINS).encode(),
}
HARM = "script:not([src]), img[src=x], [onerror], [hx-get='/x']"
"""What XSS would be if it were not text."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`rlt serve` in a folder where `rlt demo` was run, with nothing said but the port, the data and one thread."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    service = Service(demo_folder(tmp_path_factory.mktemp("live")), free_port(), {"threads": 1}, {})
    service.key = service.create_key()
    service.start()
    yield service
    assert service.end() in (0, -signal.SIGKILL), service.output()


def test_a_visit_from_a_wrong_key_to_signing_out(live: Service, watched: Watched) -> None:
    page = watched.page
    a_wrong_key_is_refused(live, page)
    sign_in(live, page)
    an_explanation_streams_in_and_its_heat_map_is_what_the_api_says(live, page)
    a_dataset_is_made_of_a_file_and_watched_until_it_is_whole(page)
    its_rows_are_filtered_and_those_that_match_are_downloaded(live, page)
    sign_out(live, page)
    assert [said for said in watched.said if "401" not in said] == []
    assert watched.outside(live.url) == []


def a_wrong_key_is_refused(live: Service, page: Page) -> None:
    page.goto(f"{live.url}/console")
    page.get_by_label("API key").fill("rlt_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("rlt keys create")
    assert serious(page) == []


def sign_in(live: Service, page: Page) -> None:
    page.goto(f"{live.url}/console/sign-in")
    page.get_by_label("API key").fill(live.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_out(live: Service, page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{live.url}/console/try")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def an_explanation_streams_in_and_its_heat_map_is_what_the_api_says(live: Service, page: Page) -> None:
    page.get_by_role("link", name="Try").click()
    expect(page.locator("#model")).to_have_value("rlt_teacher")
    fill(page, PROBLEM)
    with page.expect_response(f"{live.url}/console/try") as streamed:
        page.get_by_role("button", name="Explain").click()
    assert streamed.value.headers["content-type"].startswith("text/event-stream")
    view = page.locator(".view")
    expect(view).to_have_count(1)
    [trace] = traces(page)
    with live.client() as client:
        said = client.post("/v1/scores", json=trace).raise_for_status().json()
    explanation = view.locator(".tokens[data-kind=explanation]")
    assert trace["explanation"]
    assert "".join(explanation.locator(".words").all_text_contents()) == trace["explanation"]
    assert unlike(cells(explanation), numbers(said["explanation_tokens"], FIELDS[0])) == []
    solution = view.locator(".tokens[data-kind=solution]").first
    assert unlike(cells(solution), numbers(said["solution_tokens"], FIELDS[1])) == []
    assert f"Reward {said['score']['reward']:.3f}" in (view.text_content() or "")
    assert serious(page) == []


def a_dataset_is_made_of_a_file_and_watched_until_it_is_whole(page: Page) -> None:
    page.get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name="New dataset").click()
    page.get_by_label("File", exact=True).set_input_files(FILE)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#preview")).to_contain_text("8 problems in 8 rows")
    page.get_by_label("Name").fill("eight chains")
    page.get_by_label("Explanations to keep").fill("2")
    page.get_by_label("Longest, tokens").fill("24")
    page.get_by_role("button", name="Create the dataset").click()
    standing = page.locator("#standing")
    expect(standing).to_contain_text("completed")
    expect(standing).to_contain_text("16 to train on, 0 failed, 0 dropped")
    expect(page.get_by_role("heading", level=1)).to_have_text("eight chains")
    assert serious(page) == []


def its_rows_are_filtered_and_those_that_match_are_downloaded(live: Service, page: Page) -> None:
    rows = f"/v1/datasets/{page.url.rpartition('/')[2]}/rows"
    with live.client() as client:
        rewards = [row["score"]["reward"] for row in client.get(rows).raise_for_status().json()["data"]]
        least = {"min_reward": sorted(rewards)[8]}
        kept = client.get(rows, params=least).raise_for_status().json()["data"]
        exported = rows.replace("/rows", "/export")
        whole = client.get(exported, params=least | {"format": "jsonl"}).raise_for_status()
    page.get_by_role("link", name="Look at the rows").click()
    page.get_by_label("reward, least").fill(str(least["min_reward"]))
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(f"{len(kept)} of 16 rows match")).to_be_visible()
    table = page.get_by_role("region", name="Rows, in the order")
    assert table.get_by_role("rowheader").all_text_contents() == [row["id"] for row in kept]
    assert serious(page) == []
    with page.expect_download() as download:
        page.get_by_role("link", name="jsonl", exact=True).click()
    assert download.value.path().read_bytes() == whole.content
    assert {json.loads(line)["question"] for line in whole.content.splitlines()} <= {each.question for each in CHAINS}


def fill(page: Page, values: dict[str, str]) -> None:
    """Types values into the fields of these names."""
    for name, value in values.items():
        page.locator(f"#{name}").fill(value)


@pytest.mark.parametrize("path", ["try", "system", "sign-in", "datasets/new", "datasets/new?file_id={file}"])
def test_what_anybody_types_stays_text_in_every_field(path: str, live: Service, watched: Watched) -> None:
    page = watched.page
    address = f"{live.url}/console/{path.format(file=uploaded(live))}"
    sign_in(live, page)
    open_quietly(page, address)
    names = fields(page).evaluate_all("all => all.map(each => each.name)")
    assert len(names) > 1
    for place, name in enumerate(names):
        open_quietly(page, address)
        if path == "try":
            fill(page, PROBLEM)
        send_harm_in(fields(page).nth(place), page)
        assert page.title() != "hurt", name
        assert page.locator(HARM).count() == 0, name
    assert watched.outside(live.url) == []
    assert [url for url in watched.asked if url.endswith("/x")] == []
    assert [said for said in watched.said if not re.search(r"\b4\d\d\b", said)] == []


def uploaded(live: Service) -> str:
    """The id of a file of problems."""
    with live.client() as client:
        file = (FILE["name"], FILE["buffer"], FILE["mimeType"])
        sent = client.post("/v1/files", files={"file": file}, data={"purpose": "user_data"})
        return str(sent.raise_for_status().json()["id"])


def open_quietly(page: Page, address: str) -> None:
    """Opens a page and waits for what it asks for by itself."""
    page.goto(f"{address}{'&' if '?' in address else '?'}next={XSS}")
    page.wait_for_load_state("networkidle")


def fields(page: Page) -> Locator:
    """What the forms of a page send, hidden or not; those inside a table, one a row, and files aside."""
    return page.locator("main form:not(td form) [name]:not([type=file])")


def send_harm_in(field: Locator, page: Page) -> None:
    """Puts XSS into a field, whatever the page would let people type there, and sends its form wherever it goes."""
    field.evaluate(
        """(field, text) => {
            field.form.noValidate = true;
            if (field.tagName === "SELECT") field.selectedOptions[0].value = text;
            else if (field.type === "checkbox") Object.assign(field, {value: text, checked: true});
            else { if (field.tagName === "INPUT") field.type = "text"; field.value = text; }
        }""",
        XSS,
    )
    for button in field.locator("xpath=ancestor::form").locator("[type=submit], [hx-post$='/view']").all():
        if button.evaluate("button => button.matches('[hx-post], [hx-post] *')"):
            with page.expect_request(carries_harm) as sent:
                button.evaluate("button => button.click()")
            await_answer(page, sent.value)
        else:
            with page.expect_request(carries_harm), page.expect_navigation():
                button.evaluate("button => button.click()")


def carries_harm(request: Request) -> bool:
    """Whether XSS was sent."""
    return "<script>" in unquote_plus(request.post_data or request.url)


def await_answer(page: Page, request: Request) -> None:
    """Waits until htmx has put the whole answer into the page, or led to another."""
    response = request.response()
    if response is not None and "hx-redirect" in response.headers:
        page.wait_for_url(f"**{response.headers['hx-redirect']}")
    page.wait_for_function("() => !document.querySelector('.htmx-request, [aria-busy=true]')")


def test_kill_9_of_the_service_leaves_no_process(live: Service) -> None:
    """The last test of this module: it ends the service."""
    assert live.process is not None
    processes = psutil.Process(live.process.pid).children(recursive=True)
    assert "VLLM::EngineCore" in {process.name() for process in processes}
    live.end(signal.SIGKILL)
    assert not left_after_a_moment(processes)
