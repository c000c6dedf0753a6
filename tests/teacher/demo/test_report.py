"""report.json as it was promised, and the page made of it: whole, escaped, and true to the figures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from teacher.demo.pictures import COLOURS
from teacher.demo.report import checks, closing_table, leak_tempts, ratio, render, write_report
from teacher.demo.results import (
    ABLATIONS,
    Ablation,
    DemoReport,
    Example,
    Figures,
    RankPoint,
    SeedResult,
    Step,
    StyleReward,
    Written,
    pearson,
    reward_by_style,
    write_json,
)
from teacher.demo.settings import read_recipe
from teacher.demo.world import STYLES, Style
from tests.toy_rows import scored_row

HOSTILE = '<script>alert("1 & 2")</script>'
SHARES: dict[Style, float] = dict.fromkeys(STYLES, 1 / len(STYLES))


def seed_result(seed: int, rlt: float = 0.85, base: float = 0.125) -> SeedResult:
    accuracy = {"answers_only": 0.1, "base_teacher": base, "rlt_teacher": rlt, "gold": 0.95}
    transfer = {"base_teacher": 0.12, "rlt_teacher": 0.48}
    names = ("base", *accuracy, *(f"subtracts_{name}" for name in transfer))
    written = Written(text=HOSTILE, style="other", reward=-2.0)
    return SeedResult(
        seed=seed,
        accuracy=accuracy,
        transfer=transfer,
        untaught=0.17,
        intervals=dict.fromkeys(names, (0.1, 0.2)),
        styles_before=SHARES,
        styles_after=SHARES,
        reward_by_style={"complete": StyleReward(share=0.2, reward=-0.5, rss=-0.4, rkl=0.03)},
        steps=[Step(step=step, reward=-2 + step, rss=-1.5, rkl=0.1, styles=SHARES) for step in (1, 2)],
        examples=[Example(question=HOSTILE, solution="1", before=written, after=written)],
        cpu_seconds=100.0,
        wall_seconds=110.0,
        phases={"problems": 100.0},
    )


def report(seeds: int, *, full: bool = False) -> DemoReport:
    figures = Figures(accuracy=0.1, leak_share=0.99)
    ablation = Ablation(accuracy=0.1, leak_share=0.99, by_seed=dict.fromkeys(range(seeds), figures))
    points = [RankPoint(seed=0, rank=rank, reward=-rank, accuracy=rank / 10) for rank in range(1, 5)]
    return DemoReport(
        seeds=[seed_result(seed) for seed in range(seeds)],
        ablations=dict.fromkeys(ABLATIONS, ablation) if full else {},
        reward_rank_pearson=1.0 if full else None,
        reward_ranks=points if full else [],
        held_out=2000,
        corpus={"complete": 0.2},
        recipe=read_recipe("toy").model_dump(mode="json"),
        versions={"python": "3.11.0"},
    )


@pytest.fixture(scope="module", params=[(1, False), (3, False), (1, True), (3, True)], ids=str)
def page(request: pytest.FixtureRequest) -> str:
    seeds, full = request.param
    return render(report(seeds, full=full))


def test_report_json_has_the_promised_keys(tmp_path: Path) -> None:
    write_json(report(2, full=True), tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert {"seeds", "ablations", "reward_rank_pearson"} <= found.keys()
    seed = found["seeds"][0]
    promised = {"seed", "accuracy", "transfer", "styles_before", "styles_after", "cpu_seconds", "wall_seconds"}
    assert promised <= seed.keys()
    assert set(seed["accuracy"]) == {"answers_only", "base_teacher", "rlt_teacher", "gold"}
    assert set(seed["transfer"]) == {"base_teacher", "rlt_teacher"}
    assert {"rss_only", "rkl_only", "lambda_1"} < found["ablations"].keys()
    assert all({"accuracy", "leak_share"} <= ablation.keys() for ablation in found["ablations"].values())


def test_a_demo_that_is_not_full_has_no_ablations_and_no_correlation(tmp_path: Path) -> None:
    write_json(report(1), tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["ablations"] == {}
    assert found["reward_rank_pearson"] is None


class Tags(HTMLParser):
    """Collects the opening tags with their attributes, and notes tags that are closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)


def test_texts_of_models_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#34;1 &amp; 2&#34;)&lt;/script&gt;") == 3


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert not {tag for tag, _ in tags.opened} & {"link", "script", "img", "iframe", "object", "embed", "base"}
    addresses = [value for _, attributes in tags.opened for name, value in attributes.items() if name.endswith("href")]
    assert all(value is not None and value.startswith("#") for value in addresses)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)


def test_every_tag_is_closed_in_its_turn(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert not tags.unbalanced


def test_pictures_follow_the_theme_of_the_page_and_keep_their_text(page: str) -> None:
    assert page.count("<svg") >= 3
    assert not [placeholder for placeholder in COLOURS.values() if placeholder in page]
    used = set(re.findall(r"var\((--[a-z-]+)\)", page))
    assert used <= set(re.findall(r"(--[a-z-]+):", page))
    assert ">85.0 %</text>" in page


def test_no_two_elements_that_are_referred_to_share_an_id(page: str) -> None:
    referred = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", page))
    assert referred
    ids = re.findall(r'id="([^"]+)"', page)
    assert not {name for name in referred if ids.count(name) != 1}


def test_ablations_are_on_the_page_of_a_full_demo_only() -> None:
    assert "Ablations" not in render(report(1))
    full = render(report(1, full=True))
    assert "RLT rewarded by rSS alone" in full
    assert "Pearson correlation of rank and accuracy: 1.00" in full


def test_the_page_is_the_same_whenever_it_is_made() -> None:
    assert render(report(1, full=True)) == render(report(1, full=True))


def test_what_was_hoped_for_is_measured_in_every_seed() -> None:
    # .85 / .125 = 6.8 and .85 / .95 = 89.5 %; the second seed falls short of both: .5 / .125 = 4, .5 / .95 = 52.6 %.
    good = report(1)
    mixed = good.model_copy(update={"seeds": [seed_result(0), seed_result(1, rlt=0.5)]})
    assert [(check.measured, check.met) for check in checks(good)] == [
        ("6.8 times", True),
        ("89.5 %", True),
        ("4.0 times", True),
    ]
    assert [(check.measured, check.met) for check in checks(mixed)] == [
        ("6.8, 4.0 times", False),
        ("89.5 %, 52.6 %", False),
        ("4.0 times", True),
    ]


def test_the_page_says_that_leaks_tempt_only_where_they_did() -> None:
    complete, leak = (
        StyleReward(share=0.2, reward=reward, rss=rss, rkl=0.1) for reward, rss in ((-0.5, -0.4), (-1.5, -0.1))
    )
    tempted = seed_result(0).model_copy(update={"reward_by_style": {"complete": complete, "leak": leak}})
    assert leak_tempts(tempted)
    assert not leak_tempts(seed_result(0))
    assert not leak_tempts(tempted.model_copy(update={"reward_by_style": {"complete": leak, "leak": complete}}))


def test_a_student_that_solves_nothing_does_not_break_the_report() -> None:
    nothing = report(1).model_copy(update={"seeds": [seed_result(0, rlt=0.0, base=0.0)]})
    assert ratio(0.0, 0.0) == 0.0
    assert ratio(0.5, 0.0) == float("inf")
    assert "0.0 times" in render(nothing)


def test_the_closing_table_has_a_line_a_student_and_the_cost() -> None:
    one, several = closing_table(report(1)), closing_table(report(3, full=True))
    assert re.search(r"RLT teacher's explanations +85.0 % +10.0 to 20.0 %\n", one)
    assert one.endswith("100 CPU seconds in all")
    assert re.search(r"RLT teacher's explanations +85.0 % +± 0.0 %, 85.0 to 85.0 %\n", several)
    assert re.search(r"no teacher: RL on own answers +10.0 %", several)


def test_the_page_is_written_whole_and_its_path_is_given(tmp_path: Path) -> None:
    path = write_report(report(1), tmp_path / "report.html")
    assert path.is_absolute()
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_a_correlation_of_one_value_is_none() -> None:
    assert pearson([], []) is None
    assert pearson([4, 3, 2, 1], [0.1, 0.1, 0.1, 0.1]) is None


def test_the_reward_of_a_style_is_the_mean_of_its_explanations() -> None:
    rows = [scored_row("a", number, reward, rss=number, rkl=number) for number, reward in ((1, -1.0), (3, -2.0))]
    found = reward_by_style(rows)
    assert found == {"complete": StyleReward(share=1.0, reward=-1.5, rss=2.0, rkl=2.0)}
