"""Cards: front matter that the hub takes, what the text says, and hostile text that can be nothing but text."""

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from PIL import Image

from student.cards.card import CARD, SIZES, About, card_files
from student.cards.census import Census
from student.cards.licences import KNOWN
from student.cards.recipe import recipe_of
from student.explanations import Explanation, Verdict
from student.measures.results import Measures
from student.provenance import Provenance
from tests.student.cards.rows import census_of_rows, row

HOSTILE = (
    "x` | <script>alert(1)</script> ![i](http://evil/i.png) [l](http://evil) **b**\n---\nlicense: mit\n# Heading\n"
    "```\n| a | b |\u202e\u2028\n</details>&lt; \\| <img src=x> \\` {{ 7*7 }} *[ "
)
ABOUT = About("lessons", 1, 1)


def text_of(census: Census, about: About = ABOUT) -> str:
    return card_files(census, about)[CARD].decode()


def front_matter_of(text: str) -> dict[str, Any]:
    data: dict[str, Any] = DatasetCard(text).data.to_dict()
    return data


def hostile_row(sample: int) -> Explanation:
    return row(
        sample,
        reward=-1,
        license=HOSTILE,
        teacher=HOSTILE,
        teacher_digest=HOSTILE,
        student=HOSTILE,
        student_digest=HOSTILE,
        verdicts=(Verdict(filter=HOSTILE.replace(":", ""), kept=False),),
        dropped=HOSTILE if sample else None,
        provenance=Provenance(engine=HOSTILE, software=HOSTILE, precision=HOSTILE, prompt_digest=HOSTILE),
    )


@pytest.mark.parametrize("names", [["MIT"], ["CC-BY-SA-4.0"], ["MIT", None], [None], ["My own: [licence]"], [HOSTILE]])
def test_the_front_matter_is_of_words_that_the_hub_knows(names: list[str | None]) -> None:
    text = text_of(census_of_rows(*(row(number, license=name) for number, name in enumerate(names))))
    data = front_matter_of(text)
    assert data["license"] in KNOWN
    assert (data["license"] == "other") == ("license_name" in data)
    listed = json.loads((files("datasets.utils.resources") / "size_categories.json").read_text())
    assert set(data["size_categories"]) < set(listed)
    assert data["task_categories"] == ["text-generation"]
    assert data["tags"][0] == "rlt"


def test_every_size_that_may_be_named_is_one_of_the_hub() -> None:
    listed = json.loads((files("datasets.utils.resources") / "size_categories.json").read_text())
    assert {name for _, name in SIZES} < set(listed)
    assert [bound for bound, _ in SIZES] == [10**power for power in range(3, 10)]


def test_a_single_licence_is_named_and_several_are_listed() -> None:
    assert front_matter_of(text_of(census_of_rows(row(license="Apache-2.0"))))["license"] == "apache-2.0"
    text = text_of(census_of_rows(row(0, license="MIT"), row(1, license="GPL-3.0"), row(2)))
    assert front_matter_of(text)["license_name"] == "mixed"
    assert all(line in text for line in ("| `MIT` | 1 |", "| `GPL-3.0` | 1 |", "| (none named) | 1 |"))


def test_hostile_text_is_nothing_but_text() -> None:
    census = census_of_rows(hostile_row(0), hostile_row(1))
    about = About(HOSTILE, 1, 1, {HOSTILE: {HOSTILE: [HOSTILE]}})
    text = text_of(census, about)
    clean = text_of(census_of_rows(row(0, reward=-1, teacher="t", student="s"), row(1, reward=-2, dropped="f: g")))
    assert front_matter_of(text).keys() == front_matter_of(clean).keys() | {"license_name"}
    tokens = MarkdownIt("commonmark").enable("table").parse(DatasetCard(text).text)
    inner = [child for token in tokens for child in token.children or []]
    html = [token.content.strip() for token in [*tokens, *inner] if token.type.startswith("html")]
    assert html == ["<details><summary>Settings, the last step first</summary>", "</details>"]
    assert {child.attrs["href"] for child in inner if child.type == "link_open"} == {"https://arxiv.org/abs/2506.08388"}
    assert {child.attrs["src"] for child in inner if child.type == "image"} == {"card/reward.png", "card/rss.png"}
    sections = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert sections[1:] == ["What is here", "Rows", "Measures", "How it was made", "Licence", "Limits"]
    assert [child.type for child in inner if child.content == "Heading"] == []
    assert not any(character in text for character in ("\u202e", "\u2028"))


def test_pictures_are_small_and_of_the_measures_that_rows_have() -> None:
    census = census_of_rows(row(0, reward=-1, leak=0.0), row(1, reward=-1, leak=1.0, dropped="leak: 1"))
    made = card_files(census, ABOUT)
    assert made.keys() == {CARD, "card/reward.png", "card/rss.png", "card/leak.png"}
    for name in made.keys() - {CARD}:
        assert Image.open(io.BytesIO(made[name])).size == (506, 253)
        assert len(made[name]) < 30_000
        assert f"]({name})" in made[CARD].decode()


def test_a_picture_shows_where_rows_are() -> None:
    """Columns of the image that hold the colour of kept rows: with all rewards alike, one bin in thirty."""
    [png] = [data for name, data in card_files(census_of_rows(row(reward=-1)), ABOUT).items() if "reward" in name]
    image = Image.open(io.BytesIO(png)).convert("RGB")
    blue = [x for x in range(image.width) if image.getpixel((x, image.height // 2)) == (0x2A, 0x6F, 0x97)]
    assert 5 < len(blue) < 30


def test_limits_are_those_of_what_was_asked() -> None:
    plain = text_of(census_of_rows(row()))
    assert "not compared with any test set" in plain
    assert "Copies were not looked for" in plain
    assert "`leak` knows patterns" not in plain
    assert "No answer was verified" in plain
    asked = tuple(Verdict(filter=name, kept=True) for name in ("contamination", "duplicates"))
    told = text_of(census_of_rows(row(leak=0.0, verdicts=asked)))
    assert "not compared with any test set" not in told
    assert "a copy in other words stays" in told
    assert "`leak` knows patterns" in told
    verified = text_of(census_of_rows(row(measures=Measures(verified=True, step_credit=-0.5))))
    assert "No answer was verified" not in verified
    assert "`step_credit` says how a step helps" in verified
    assert "| `verified` | 1 | 1 | 1 | 1 | 1 |  |" in verified


def test_who_wrote_rows_is_said_of_those_that_have_a_teacher_only() -> None:
    traces, taught, both = (
        text_of(census_of_rows(*(row(number, teacher=name) for number, name in enumerate(names))))
        for names in ([None], ["t"], ["t", None])
    )
    assert ("Who wrote them is not recorded." in traces, "with the solution in view" in traces) == (True, False)
    assert ("A teacher that was shown" in taught, "not recorded." in taught) == (True, False)
    assert "of 1 rows the writer is not recorded" in both


def test_what_was_sampled_with_is_told_as_it_was_set() -> None:
    made = Provenance(engine="vllm", software="vllm 0.31.0", precision="bfloat16", top_p=0.95, max_tokens=1_048_576)
    text = text_of(census_of_rows(row(teacher="t", temperature=0.7, provenance=made)))
    assert "temperature 0.7, top-p 0.95, max tokens 1048576 | `vllm`, `vllm 0.31.0`, `bfloat16` |" in text


def test_no_folder_of_this_machine_is_told() -> None:
    settings = {"rows": "/home/ann/scored.jsonl", "contamination": {"files": ["/data/aime/test.jsonl"]}}
    text = text_of(census_of_rows(row(teacher="/home/ann/teacher")), About("x", 1, 1, recipe_of(Path("x"), settings)))
    assert "/home" not in text
    assert "/data" not in text
    assert all(f"{name}" in text for name in ("scored.jsonl", "test.jsonl", "`teacher`"))


def test_the_recipe_follows_settings_back_to_the_first_file(tmp_path: Path) -> None:
    def settings(name: str, **values: Any) -> None:
        (tmp_path / f"{name}.settings.json").write_text(json.dumps(values))

    settings("scored.jsonl", traces=str(tmp_path / "explained.jsonl"))
    settings("explained.jsonl", teacher="/models/t", problems="p.jsonl")
    found = recipe_of(Path("out"), {"rows": str(tmp_path / "scored.jsonl"), "more": [str(tmp_path / "none.jsonl")]})
    assert list(found) == ["out", "scored.jsonl", "explained.jsonl"]
    assert found["explained.jsonl"] == {"teacher": "t", "problems": "p.jsonl"}


def test_settings_that_name_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.settings.json").write_text(json.dumps({"rows": str(tmp_path / "b")}))
    (tmp_path / "b.settings.json").write_text(json.dumps({"rows": str(tmp_path / "a")}))
    assert list(recipe_of(Path("out"), {"rows": str(tmp_path / "a")})) == ["out", "a", "b"]
