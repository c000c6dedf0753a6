"""The Try page in a real browser, against a live service that explains and scores; on a vLLM it is in test_live.py."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from server.console.heat import explanation_rows, solution_cells
from server.console.pages import TEMPLATES
from server.console.try_page import View
from server.wire import ScoreResponse, TokenScore
from student.explanations import Score
from tests.server.console.conftest import Watched
from tests.server.console.test_browser import serious
from tests.server.in_process import Script, Served, on_a_port
from tests.server.service_process import Service

XSS = """<script>document.title='hurt'</script><img src=x onerror="document.title='hurt'">'"><b hx-get="/x">{{ 7*7 }}"""
PROBLEM = {
    "question": "Ann has 3 apples and buys 4 more. How many?",
    "solution": "She has 3 + 4 = 7.\nThe answer is 7.",
}
FIELDS = ("logp", "teacher_logp", "kl"), ("logp", "blind_logp", "gain")


@pytest.fixture
def page(service: Service, watched: Watched) -> Page:
    """The Try page, open."""
    watched.page.goto(f"{service.url}/console/try")
    return watched.page


def ask(page: Page, **fields: str) -> None:
    """Fills the form in and sends it."""
    for name, value in ({"max_tokens": "40", "seed": "3"} | PROBLEM | fields).items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name="Explain").click()


def traces(page: Page) -> list[dict[str, Any]]:
    """What the page would send to POST /v1/scores, an explanation each."""
    return [json.loads(box.input_value()) for box in page.locator("input[name=trace]").all()]


def cells(tokens: Locator) -> list[list[float | None]]:
    """The numbers of the tokens of a text, as the page holds them."""
    held = tokens.locator(".t").evaluate_all("cells => cells.map(cell => cell.dataset.v)")
    return [[None if value == "-" else float(value) for value in text.split(" ")] for text in held]


def numbers(tokens: list[dict[str, Any]], fields: tuple[str, ...]) -> list[list[float | None]]:
    """The same of the API's answer."""
    return [[token["id"], *(token[field] for field in fields)] for token in tokens]


def unlike(shown: list[list[float | None]], said: list[list[float | None]]) -> list[Any]:
    """Where they differ by more than how rows fall into batches (1e-5)."""
    assert len(shown) == len(said)
    return [
        (ours, theirs)
        for row, other in zip(shown, said, strict=True)
        for ours, theirs in zip(row, other, strict=True)
        if ours != theirs and (ours is None or theirs is None or abs(ours - theirs) > 1e-5)
    ]


def test_an_explanation_streams_in_and_its_heat_map_is_what_the_api_says(
    service: Service, watched: Watched, page: Page
) -> None:
    ask(page)
    view = page.locator(".view")
    expect(view).to_have_count(1)
    [trace] = traces(page)
    with service.client() as client:
        said = client.post("/v1/scores", json=trace).raise_for_status().json()
    explanation = view.locator(".tokens[data-kind=explanation]")
    solution = view.locator(".tokens[data-kind=solution]").first
    assert len(said["explanation_tokens"]) >= 3
    steps = said["measures"]["steps"]
    whole = [row for row in cells(explanation) if row]
    split = len(whole) - len(said["explanation_tokens"])  # a token that lies in two steps is two cells
    assert 0 <= split < len(steps)
    if not split:
        assert unlike(whole, numbers(said["explanation_tokens"], FIELDS[0])) == []
    assert unlike(cells(solution), numbers(said["solution_tokens"], FIELDS[1])) == []
    words = explanation.locator(".words")
    assert "".join(words.evaluate_all("all => all.map(each => each.textContent)")) == trace["explanation"]
    assert solution.text_content() == PROBLEM["solution"]
    credits = [float(text.replace("−", "-")) for text in explanation.locator(".credit").all_text_contents()]
    assert credits == [pytest.approx(step["credit"], abs=0.006) for step in steps]
    assert watched.outside(service.url) == []
    assert watched.said == []
    assert serious(page) == []


def test_tokens_are_coloured_by_what_is_chosen_and_tell_their_numbers(watched: Watched, page: Page) -> None:
    ask(page)
    view = page.locator(".view")
    solution = view.locator(".tokens[data-kind=solution]").first
    token = solution.locator(".t:not(.l0)").first
    back = "cell => getComputedStyle(cell).backgroundColor"
    clear = "rgba(0, 0, 0, 0)"
    assert token.evaluate(back) != clear
    view.get_by_label("KL").check()
    assert token.evaluate(back) == clear
    view.get_by_label("gain").check()
    expect(view.locator(".for-gain")).to_be_visible()
    solution.focus()
    page.keyboard.press("End")
    tip = page.locator("#tip")
    expect(tip).to_contain_text("with the explanation")
    expect(tip).to_contain_text("without it")
    expect(page.get_by_role("status").filter(has_text="gain")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    solution.locator(".t").first.hover()
    expect(tip).to_contain_text("(token ")
    assert watched.said == []


def test_several_are_ranked_and_two_are_compared_side_by_side(watched: Watched, page: Page) -> None:
    ask(page, n="3", temperature="1.5")
    expect(page.locator(".view")).to_have_count(1)
    boxes = page.locator("input[name=trace]")
    expect(boxes).to_have_count(3)
    rewards = [float(text.split()[-1]) for text in page.locator(".ranking span", has_text="reward").all_text_contents()]
    assert rewards == sorted(rewards, reverse=True)
    boxes.nth(2).check()
    page.get_by_role("button", name="Show the student’s view").last.click()
    expect(page.locator(".view")).to_have_count(2)
    chosen = [traces(page)[place]["explanation"] for place in (0, 2)]
    for view, text in zip(page.locator(".view").all(), chosen, strict=True):
        words = view.locator(".tokens[data-kind=explanation] .words").evaluate_all(
            "all => all.map(each => each.textContent)"
        )
        assert "".join(words) == text
    boxes.nth(1).check()
    page.get_by_role("button", name="Show the student’s view").last.click()
    expect(page.get_by_role("alert")).to_contain_text("choose one or two")
    assert [said for said in watched.said if "422" not in said] == []


def test_an_explanation_of_ones_own_is_read_with_its_white_space(page: Page) -> None:
    own = "  She starts\twith 3.\n\n\n  Then   4 more:\n7.  "
    for name, value in PROBLEM.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_text("An explanation of your own").click()
    page.locator("#explanation").fill(own)
    page.get_by_role("button", name="Show the student’s view").click()
    words = page.locator(".view .tokens[data-kind=explanation] .words")
    expect(words.first).to_be_visible()
    assert "".join(words.evaluate_all("all => all.map(each => each.textContent)")) == own


def test_what_anybody_types_stays_text_in_every_field(service: Service, watched: Watched, page: Page) -> None:
    ask(page, question=XSS, solution=XSS)
    expect(page.locator(".view")).to_have_count(1)
    assert page.locator(".tokens[data-kind=solution]").first.text_content() == XSS
    page.get_by_text("An explanation of your own").click()
    page.locator("#explanation").fill(XSS)
    page.get_by_role("button", name="Show the student’s view").first.click()
    words = page.locator(".view .tokens[data-kind=explanation] .words")
    expect(words.first).to_contain_text("<script>")
    assert "".join(words.evaluate_all("all => all.map(each => each.textContent)")) == XSS
    page.locator("#model").evaluate("(model, text) => { model.options[0].value = text; }", XSS)
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("alert")).to_contain_text("<script>")
    page.goto(f"{service.url}/console/{XSS.replace('#', '')}?next={XSS}")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.title() != "hurt"
    assert page.locator("script:not([src]), img[src=x], [hx-get='/x'], [onerror]").count() == 0
    assert watched.outside(service.url) == []
    assert [said for said in watched.said if "404" not in said] == []


def test_bad_values_are_told_where_the_answer_would_be(page: Page) -> None:
    page.locator("#ask").evaluate("form => { form.noValidate = true; }")
    ask(page, max_tokens="0")
    expect(page.get_by_role("alert")).to_contain_text("max_tokens: Input should be greater than or equal to 1")
    ask(page, solution="<|im_end|>")
    expect(page.get_by_role("alert")).to_contain_text("solution:")


@pytest.fixture
def scripted(tmp_path: Path, servable_model_folder: Path) -> Iterator[Served]:
    """A service whose teacher writes what the test wants, when it wants; without a student."""
    with on_a_port(tmp_path, Script(servable_model_folder, f"so\n\n {XSS} 7.</think>")) as served:
        yield served


def test_text_shows_while_it_is_written_and_can_be_stopped(scripted: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{scripted.url}/console/try")
    scripted.hold()
    ask(page)
    expect(page.get_by_role("heading", name="The teacher writes")).to_be_visible()
    scripted.let_go()
    expect(page.get_by_role("heading", name="The explanation")).to_be_visible()
    assert (page.locator(".ranking .text").text_content() or "").startswith("so\n\n <script>")
    assert page.locator(".ranking script").count() == 0
    scripted.hold()
    ask(page)
    expect(page.get_by_role("heading", name="The teacher writes")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", name="Stopped")).to_be_visible()
    assert eventually(lambda: scripted.engine.running == 0)
    scripted.let_go()
    assert watched.said == []


def eventually(true: Callable[[], bool]) -> bool:
    """Whether something comes true within a minute."""
    until = time.monotonic() + 60
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def long_answer(tokens: int) -> ScoreResponse:
    """What the API says of an explanation of so many tokens, a step every hundred."""
    texts = ["word " if place % 100 else "\n\nNext " for place in range(1, tokens + 1)]
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    read = [
        TokenScore(id=place, text=text, start=start, logp=-(place % 9), teacher_logp=-1, kl=place % 5)
        for place, (text, start) in enumerate(zip(texts, starts, strict=False))
    ]
    score = Score(reward=-1, rss=-1, ss_mean=-1, ss_min=-1)
    solution = [TokenScore(id=7, text="7", start=0, logp=-1, blind_logp=-2, gain=1)]
    who = {"student": "s", "student_digest": "d", "teacher": "t", "teacher_digest": "e"}
    return ScoreResponse(score=score, explanation_tokens=read, solution_tokens=solution, **who)


def test_an_explanation_of_20_000_tokens_can_be_walked_through(service: Service, watched: Watched, page: Page) -> None:
    answer = long_answer(20_000)
    text = "".join(token.text for token in answer.explanation_tokens or ())
    view = View(answer, [], explanation_rows(text, answer), solution_cells(answer), long=True)
    html = TEMPLATES.get_template("try_view.html").render(views=[view])
    page.route("**/console/try/view", lambda route: route.fulfill(body=html, content_type="text/html"))
    for name, value in PROBLEM.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_text("An explanation of your own").click()
    page.locator("#explanation").fill("x")
    page.get_by_role("button", name="Show the student’s view").click()
    tokens = page.locator(".tokens[data-kind=explanation]")
    expect(tokens.locator(".t")).to_have_count(20_000)
    page.get_by_label("KL").check()
    tokens.focus()
    page.keyboard.press("End")
    expect(page.locator("#tip")).to_contain_text("(token 19999)")
    page.keyboard.press("Home")
    expect(page.locator("#tip")).to_contain_text("(token 0)")
    assert watched.said == []
