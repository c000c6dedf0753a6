"""A dataset's rows and the page of one of them in a real browser: of rows that are made up, and of a real dataset."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, expect

from server.console.pages import TEMPLATES
from student.explanations import Explanation, Score
from student.measures.results import Measures
from student.replays import Replay
from tests.server.console.conftest import Watched
from tests.server.console.test_browser import serious
from tests.server.in_process import Served, on_a_port
from tests.server.service_process import Service
from tests.server.stored_datasets import row, store_dataset

XSS = """<script>document.title='hurt'</script><img src=x onerror="document.title='hurt'">'"><b hx-get="/x">{{ 7*7 }}"""
SPACED = f"  so\t then\r\n\n\n   {XSS}  "
SHARES = (0, 0.25, 0.5, 0.75, 1)
RANDOM = np.random.default_rng(0)


def made_up(problem: int, sample: int) -> Explanation:
    """A scored row, one in seven dropped."""
    number = 2 * problem + sample
    return row(
        problem,
        sample,
        question=f"{problem} + 1? {XSS}",
        explanation=SPACED,
        score=Score(reward=RANDOM.normal(-2, 1), rss=-1, ss_mean=-1, ss_min=-3),
        measures=Measures(leak=RANDOM.uniform(), tokens=int(RANDOM.integers(20, 4000)), verified=bool(number % 2)),
        dropped=f"best_of: {XSS}" if number % 7 == 0 else None,
    )


LONG = row(900, explanation="\n\n".join("word " * 100 for _ in range(200)) + "end", token_ids=tuple(range(20_000)))
ODD = row(0, problem_id="a/b c#1?", error=XSS, explanation="")
UNITS = [[made_up(problem, sample) for problem in range(first, first + 40) for sample in range(2)] for first in (0, 40)]
OK = [each for unit in UNITS for each in unit if each.dropped is None]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The application with one dataset that has ended and one that runs, without models, for all tests here."""
    with on_a_port(tmp_path_factory.mktemp("rows")) as found:
        for units, status, name in ((UNITS, "completed", "ds_done"), ([[LONG, ODD]], "running", "ds_running")):
            stored = store_dataset(found.parts, units, status, name, title=XSS)
            asyncio.run_coroutine_threadsafe(stored, found.loop).result(60)
        yield found


def harmless(watched: Watched, served_at: str) -> None:
    """Nothing that somebody else wrote did anything, and no page was too wide, silent or loud."""
    page = watched.page
    assert page.title() != "hurt"
    assert page.locator("script:not([src]), img[src=x], [hx-get='/x'], [onerror]").count() == 0
    assert watched.outside(served_at) == []
    assert watched.said == []


def drawn(chart: Locator) -> int:
    """How many pixels of its canvas are painted."""
    count = """box => {
        const canvas = box.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, place) => place % 4 === 3 && value > 0).length;
    }"""
    return int(chart.evaluate(count))


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def test_rows_are_filtered_by_their_measures_and_the_histograms_are_of_those_rows(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets/ds_done/rows")
    expect(page.get_by_text(f"{len(OK)} of {len(OK)} rows match")).to_be_visible()
    page.get_by_label("reward, least").fill("-2.5")
    page.get_by_label("leak, most").fill("0.5")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(r"/rows\?include=ok&min_reward=-2.5&max_leak=0.5$"))
    with httpx.Client(base_url=served.url) as client:
        asked = {"min_reward": -2.5, "max_leak": 0.5, "limit": 1000}
        rows = client.get("/v1/datasets/ds_done/rows", params=asked).raise_for_status().json()["data"]
    assert 10 < len(rows) < 50
    expect(page.get_by_text(f"{len(rows)} of {len(OK)} rows match")).to_be_visible()
    table = page.get_by_role("region", name="Rows, in the order")
    assert table.get_by_role("rowheader").all_text_contents() == [each["id"] for each in rows]
    charts = page.locator("fieldset:visible .chart")
    expect(page.get_by_role("img", name=re.compile("Histogram of"))).to_have_count(5)
    assert all(drawn(chart) > 500 for chart in charts.all())
    page.get_by_text("The distributions as numbers").click()
    for name, of in (("reward", "score"), ("leak", "measures"), ("tokens", "measures")):
        told = page.locator(f"tr[data-measure={name}][data-of=matching] td").all_text_contents()
        values = [each[of][name] for each in rows]
        assert number(told[1]) == len(values)
        exact = np.quantile(values, SHARES, method="inverted_cdf")
        assert [number(text) for text in told[2:7]] == pytest.approx(exact, rel=2e-3)
    assert serious(page) == []
    harmless(watched, served.url)


def test_a_drag_across_a_histogram_sets_bounds_and_a_bound_that_nothing_keeps_to_is_named(
    served: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets/ds_done/rows?min_reward=99&include=all&max_leak=")
    expect(page).to_have_url(re.compile(r"/rows\?min_reward=99&include=all$"))
    expect(
        page.get_by_text("min_reward = 99.0 leaves out all of them".replace("min_reward = 99.0 ", ""))
    ).to_be_visible()
    expect(page.get_by_text("No row matches")).to_be_visible()
    page.get_by_role("link", name="Clear the filter").click()
    over = page.locator("fieldset[data-measure=leak] .u-over")
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=4)
    page.mouse.up()
    ends = [page.get_by_label(f"leak, {end}") for end in ("least", "most")]
    expect(ends[0]).not_to_have_value("")
    assert [float(end.input_value()) for end in ends] == pytest.approx([0.2, 0.6], abs=0.02)
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("min_leak=.*max_leak="))
    harmless(watched, served.url)


def test_pages_follow_each_other_and_a_row_leads_to_those_beside_it(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets/ds_done/rows?include=all&min_reward=-9")
    page.get_by_role("link", name="Next page").click()
    first = page.get_by_role("rowheader").first
    expect(first).to_have_text(UNITS[0][50].id)
    with page.expect_download() as coming:
        page.get_by_role("link", name="jsonl", exact=True).click()
    lines = [json.loads(line)["id"] for line in coming.value.path().read_text().splitlines()]
    assert lines == [each.id for unit in UNITS for each in unit]
    first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Row {UNITS[0][50].id}")
    page.get_by_role("link", name="Next row").click()
    page.get_by_role("link", name="Next row").click()
    expect(page).to_have_url(re.compile(rf"/{UNITS[0][52].id}\?.*min_reward=-9"))
    page.get_by_role("link", name="Previous row").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Row {UNITS[0][51].id}")
    assert page.get_by_role("region", name="Explanations of this problem").get_by_role(
        "rowheader"
    ).all_text_contents() == [UNITS[0][50].id, f"{UNITS[0][51].id} (this one)"]
    shown = page.get_by_role("region", name="Text of the explanation")
    assert shown.text_content() == SPACED
    expect(page.locator("dl.facts").get_by_text(UNITS[0][51].id)).to_be_visible()
    harmless(watched, served.url)


def test_a_dataset_that_runs_shows_the_rows_so_far_failed_and_long_ones_too(served: Served, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/datasets/ds_running/rows?include=all")
    expect(page.get_by_text("This dataset is running")).to_be_visible()
    expect(page.get_by_text("These rows were not scored")).to_be_visible()
    assert page.get_by_role("link", name="jsonl").count() == 0
    page.get_by_role("link", name=ODD.id).click()
    expect(page.get_by_text("This row failed:")).to_be_visible()
    assert page.get_by_role("button", name="Make it again").count() == 0
    page.get_by_role("link", name="Previous row").click()
    expect(page.get_by_text("20,000 tokens")).to_be_visible()
    text = page.get_by_role("region", name="Text of the explanation")
    assert text.text_content() == LONG.explanation
    page.get_by_role("button", name="Make it again").click()
    expect(page.get_by_role("alert")).to_contain_text("this service has no teacher")
    assert [said for said in watched.said if "503" not in said] == []
    watched.said.clear()
    harmless(watched, served.url)


@pytest.mark.parametrize(("scheme", "width"), [("dark", 360), ("light", 1600)])
def test_rows_and_a_row_are_readable_in_both_colours_on_any_window(
    served: Served, watched: Watched, scheme: str, width: int
) -> None:
    page = watched.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("rows?include=all&min_reward=-3", f"rows/{UNITS[0][0].id}", "rows?include=failed"):
        page.goto(f"{served.url}/console/datasets/ds_done/{path}", wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(page) == []
    page.goto(f"{served.url}/console/datasets/ds_running/rows/{quote(ODD.id, safe='')}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    harmless(watched, served.url)


def finished(service: Service, **asked: Any) -> tuple[str, list[dict[str, Any]]]:
    """A real dataset of the service, once it has ended, and its rows."""
    with service.client() as client:
        made = client.post("/v1/datasets", json=asked).raise_for_status().json()
        while made["status"] != "completed":
            assert made["status"] not in ("failed", "cancelled"), made
            time.sleep(0.1)
            made = client.get(f"/v1/datasets/{made['id']}").json()
        return made["id"], client.get(f"/v1/datasets/{made['id']}/rows").json()["data"]


def test_a_row_shows_what_the_student_understood_as_the_scorer_says_and_is_made_again(
    service: Service, watched: Watched
) -> None:
    problem = {"question": "Ann has 3 apples. How many?", "solution": "She has 3."}
    sampling = {"max_tokens": 24, "temperature": 1.0}
    dataset, rows = finished(service, problems=[problem], n=2, sampling=sampling, score=True, measures=True)
    page = watched.page
    page.goto(f"{service.url}/console/datasets/{dataset}/rows")
    page.get_by_role("link", name=rows[0]["id"]).click()
    expect(page.get_by_text("each token of the solution").first).to_be_visible()
    trace = json.loads(page.locator("input[name=trace]").input_value())
    page.get_by_role("button", name="See what the student understood").click()
    view = page.locator(".view")
    expect(view).to_have_count(1)
    with service.client() as client:
        said = client.post("/v1/scores", json=trace).raise_for_status().json()
    assert said["score"]["reward"] == pytest.approx(rows[0]["score"]["reward"], abs=1e-5)
    assert trace["token_ids"] == rows[0]["token_ids"]
    solution = view.locator(".tokens[data-kind=solution]").first
    shown = solution.locator(".t").evaluate_all("cells => cells.map(cell => cell.dataset.v.split(' ').map(Number))")
    names = ("id", "logp", "blind_logp", "gain")
    assert np.allclose(shown, [[token[name] for name in names] for token in said["solution_tokens"]], atol=1e-5)
    words = view.locator(".tokens[data-kind=explanation] .words").evaluate_all(
        "all => all.map(each => each.textContent)"
    )
    assert "".join(words) == rows[0]["explanation"]
    page.get_by_role("button", name="Make it again").click()
    expect(page.get_by_text("It came out the same")).to_be_visible()
    assert serious(page) == []
    harmless(watched, service.url)


def test_a_replay_that_differs_says_where(served: Served, watched: Watched) -> None:
    told = {"row": "p0-0", "matches": False, "tokens": 9, "tokens_now": 8, "closed": True, "closed_now": False}
    difference = {"token": 3, "character": 12, "then": f"  {XSS}", "now": "7"}
    page = watched.page
    replay = Replay.model_validate(told | {"difference": difference, "causes": ["weights: a then, b now"]})
    html = TEMPLATES.get_template("row_replay.html").render(replay=replay)
    page.route("**/replay", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(f"{served.url}/console/datasets/ds_done/rows/{OK[0].id}")
    page.get_by_role("button", name="Make it again").click()
    expect(page.get_by_text("They part at token 3, character 12")).to_be_visible()
    assert page.locator("dd.exact").all_text_contents() == [f"  {XSS}", "7"]
    expect(page.get_by_text("weights: a then, b now")).to_be_visible()
    harmless(watched, served.url)
