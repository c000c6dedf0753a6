"""The Training pages in a real browser, over the folder of a real run that a watchdog paused and that went on."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from student.problems import Problem
from student.run_folder import begin
from teacher.configs import WatchSettings
from teacher.errors import RewardHacked
from tests.server.console.conftest import Watched
from tests.server.console.test_browser import serious
from tests.server.in_process import Served, on_a_port
from tests.teacher.rl import run, settings

XSS = """<img src=x onerror="document.title='hurt'"><script>document.title='hurt'</script>'"{{ 7*7 }}"""


@pytest.fixture(scope="module")
def trained(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run: paused by a watchdog, gone on, killed before its end (it has no report)."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "teacher"
    config = settings(tiny_model_folder, out, steps=12, save_steps=4, held_out=6)
    watch = WatchSettings(kl_tail_rise=1e-9, leak_rise=1e-9, window=1, sample_steps=2)
    config = config.model_copy(update={"watch": watch})
    begin(out, config)
    with pytest.raises(RewardHacked):
        run(tiny_model_folder, tiny_problems, config)
    run(tiny_model_folder, tiny_problems, config.model_copy(update={"watch": WatchSettings(sample_steps=2)}))
    for path in out.iterdir():  # pages need none of the weights
        shutil.rmtree(path) if path.is_dir() else path.suffix in (".json", ".jsonl") or path.unlink()
    return out.parent.parent


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def served(runs: Path, tmp_path: Path) -> Iterator[Served]:
    """The application over those runs, without models."""
    with on_a_port(tmp_path / "data", runs=str(runs)) as found:
        yield found


def entries(runs: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (runs / "deep/teacher" / name).read_text().splitlines()]


def add(runs: Path, name: str, entry: dict[str, object]) -> None:
    with (runs / "deep/teacher" / name).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def open_run(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/console/training")
    page.get_by_role("link", name="deep/teacher").click()
    expect(page.locator(".curve canvas").first).to_be_visible()


def figure(page: Page, name: str) -> list[str]:
    """A row of the table: first, last, least, most."""
    row = page.locator("#figures tr", has=page.get_by_role("rowheader", name=name, exact=True))
    return row.locator("td.number").all_text_contents()


def shown(value: object) -> str:
    return f"{value:.4g}".replace("-", "−")


def test_a_run_is_followed_from_the_list_to_its_charts_and_a_new_line_appears(
    runs: Path, served: Served, watched: Watched
) -> None:
    page = watched.page
    page.goto(f"{served.url}/console/training")
    row = page.get_by_role("row", name="deep/teacher")
    expect(row).to_contain_text("running")
    expect(row).to_contain_text("12 of 12")
    assert serious(page) == []
    open_run(page, served)
    rewards = [float(str(each["reward"])) for each in entries(runs, "metrics.jsonl")]
    assert figure(page, "reward") == [shown(value) for value in (rewards[0], rewards[-1], min(rewards), max(rewards))]
    chart = page.get_by_role("img", name="Chart of Reward")
    told = f"reward from {shown(rewards[0])} to {shown(rewards[-1])}"
    assert told in (chart.get_attribute("aria-label") or "")
    for title in ("Reward", "rSS", "rKL", "Leaks", "Length", "Seconds a phase", "Loss"):
        expect(page.get_by_role("img", name=f"Chart of {title}")).to_have_count(1)
    canvas = chart.locator("canvas").element_handle()
    before = chart.get_attribute("aria-label")
    add(runs, "metrics.jsonl", {"step": 13, "reward": 7.25})
    expect(page.locator("#figures")).to_contain_text("7.25")
    expect(page.locator("#standing")).to_contain_text("13 of 12")
    expect(chart).not_to_have_attribute("aria-label", before or "")
    assert canvas.evaluate("canvas => canvas.isConnected")  # the same chart, not one drawn anew
    assert watched.said == []
    assert watched.outside(served.url) == []


def test_watchdog_best_checkpoint_and_the_ways_a_run_ends_are_marked_and_told(
    runs: Path, served: Served, watched: Watched
) -> None:
    page = watched.page
    paused = next(each for each in entries(runs, "events.jsonl") if each["event"] == "paused")
    best = [each for each in entries(runs, "held_out.jsonl") if each["best"]][-1]
    open_run(page, served)
    marks = page.get_by_role("img", name="Chart of Reward").locator(".mark")
    expect(marks.filter(has_text="watchdog")).to_have_count(1)
    expect(marks.filter(has_text="best checkpoint")).to_have_count(1)
    expect(marks.filter(has_text="went on from here")).to_have_count(1)
    labels = [mark.bounding_box() or {} for mark in marks.locator("span").all()]
    tops = [label["y"] for label in labels]
    assert len(set(tops)) == len(tops) >= 3  # the watchdog fired at the step from which the run then went on
    told = page.locator(".events")
    expect(told).to_contain_text(f"step {paused['step']}: paused: {paused['reason']}")
    expect(told).to_contain_text("watch.leak_rise 1e−09")
    expect(told).to_contain_text(f"step {best['step']}: the best checkpoint")
    add(runs, "events.jsonl", {"time": 1.8e9, "step": 11, "event": "paused", "reason": "the reward rose", "watch": {}})
    expect(page.locator("#standing")).to_contain_text("paused by a watchdog")
    expect(page.locator("#standing .problem")).to_have_text("the reward rose")
    expect(marks.filter(has_text="watchdog")).to_have_count(2)
    assert serious(page) == []
    assert watched.said == []


def test_explanations_of_two_steps_stand_side_by_side(runs: Path, served: Served, watched: Watched) -> None:
    page = watched.page
    open_run(page, served)
    samples = entries(runs, "samples.jsonl")
    held_out = [each for each in samples if each["held_out"]]
    sides = page.locator("#samples .pair > section")
    expect(sides.first.get_by_role("heading")).to_have_text(f"Step {held_out[0]['step']}")
    expect(sides.last.get_by_role("heading")).to_have_text(f"Step {held_out[-1]['step']}")
    question = str(held_out[0]["question"])
    for side, step in ((sides.first, held_out[0]["step"]), (sides.last, held_out[-1]["step"])):
        [one] = [each for each in held_out if each["step"] == step and each["question"] == question]
        assert side.get_by_label("Question").text_content() == question
        assert side.get_by_label("Explanation").text_content() == one["explanation"]
        expect(side.locator(".head")).to_contain_text(f"reward {shown(one['score']['reward'])}")  # type: ignore[index]
    page.get_by_label("Step on the left").focus()
    page.get_by_label("Step on the left").select_option("1")
    expect(page.locator("#samples")).to_contain_text("no problem in common")
    expect(sides.first.get_by_role("heading")).to_have_text("Step 1")
    expect(page.get_by_label("Step on the left")).to_be_focused()
    first = [each for each in samples if each["step"] == 1 and each["question"] == samples[0]["question"]]
    assert sides.first.get_by_label("Explanation").all_text_contents() == [each["explanation"] for each in first]
    assert watched.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_read_in_both_colours_and_fit_narrow_and_wide_windows(
    served: Served, watched: Watched, scheme: str
) -> None:
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    open_run(page, served)
    assert serious(page) == []
    pixels = "canvas => canvas.toDataURL()"
    canvas = page.locator(".curve canvas").first
    drawn = canvas.evaluate(pixels)
    page.get_by_label("Colours").select_option({"light": "dark", "dark": "light"}[scheme])
    expect(canvas).to_be_visible()
    assert page.locator(".curve canvas").first.evaluate(pixels) != drawn
    assert serious(page) == []
    for width in (360, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function("width => document.querySelector('.u-wrap').clientWidth < width", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.said == []


def test_what_a_folder_holds_stays_text(runs: Path, served: Served, watched: Watched) -> None:
    page = watched.page
    folder = runs / "deep/teacher"
    name = XSS.replace("/", "∕")
    for file in ("settings.json", "report.json"):
        (folder / file).write_text(json.dumps({XSS: XSS, "teacher": XSS, "grpo": {"steps": XSS}}))
    add(runs, "metrics.jsonl", {"step": 13, f"style/{XSS}": 0.5})
    add(runs, "events.jsonl", {"time": 1, "step": 3, "event": "failed", "reason": XSS, "watch": {XSS: 1}})
    for step in (20, 21):
        text = {"question": XSS, "solution": XSS, "explanation": XSS}
        add(runs, "samples.jsonl", {"step": step, "score": {}, "held_out": True, **text})
    folder.rename(runs / name)
    page.goto(f"{served.url}/console/training")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator(".events")).to_contain_text("<script>")
    expect(page.locator(".curve .u-legend").filter(has_text="style/<img")).to_have_count(1)
    page.get_by_label("Step on the left").select_option("20")
    page.get_by_label("Step on the right").select_option("21")
    expect(page.locator("#samples").get_by_label("Explanation").first).to_have_text(XSS)
    page.get_by_text("All ").last.click()
    assert page.title() != "hurt"
    assert page.locator("script:not([src]), img[src=x], [onerror]").count() == 0
    assert watched.said == []


def test_where_there_are_no_runs_a_page_says_how_to_have_some(tmp_path: Path, watched: Watched) -> None:
    page = watched.page
    with on_a_port(tmp_path / "unset") as served:
        page.goto(f"{served.url}/console/training")
        expect(page.locator("main")).to_contain_text("start it with --runs FOLDER")
        page.goto(f"{served.url}/console/training/run_0")
        expect(page.get_by_role("alert")).to_contain_text("start it with --runs FOLDER")
    empty = tmp_path / "empty"
    empty.mkdir()
    with on_a_port(tmp_path / "data", runs=str(empty)) as served:
        page.goto(f"{served.url}/console/training")
        expect(page.locator("main")).to_contain_text("No run is in")
        (empty / "metrics.jsonl").write_text("")
        os.utime(empty / "metrics.jsonl", (1, 1))
        page.get_by_role("link", name="empty").click()  # it appeared by itself
        expect(page.locator("main")).to_contain_text("Nothing has been measured yet")
        expect(page.locator("#standing")).to_contain_text("silent for long")
        assert serious(page) == []
    assert [said for said in watched.said if "404" not in said] == []
