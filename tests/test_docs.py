"""The documentation keeps its word: tables are those of the code, commands are understood, links lead somewhere."""

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import write_settings
from student.cli import verbs
from student.config import parse_command
from student.configs import RewardConfig
from student.evaluate import Generation
from student.explanations import Explanation, Score
from student.problem_files import WRITTEN_COLUMNS
from student.rewards import score_explanation
from teacher.grpo import group_metrics, score_metrics
from teacher.recipe import read_steps

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `rlt` command in a page's blocks; those with an ellipsis are no commands."""
    for block in blocks(page, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if "rlt " in line and "..." not in line else []
            if words[:1] == ["rlt"]:
                yield words[1:]


def anchors(page: Path) -> set[str]:
    """What a link can point at in a page: its headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_settings_tables_are_those_of_the_config_classes() -> None:
    assert write_settings.main(["--check"]) == 0


def test_a_stale_table_is_found_and_mended(tmp_path: Path) -> None:
    folder = shutil.copytree(write_settings.PAGES, tmp_path / "verbs")
    page = folder / "score.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| `3.0` |", "| `2.0` |"), encoding="utf-8")
    assert write_settings.main(["--check"], folder) == 1
    assert "| `2.0` |" in page.read_text(encoding="utf-8")
    assert write_settings.main([], folder) == 0
    assert page.read_text(encoding="utf-8") == (write_settings.PAGES / "score.md").read_text(encoding="utf-8")


def test_a_page_without_a_place_for_its_settings_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(write_settings.PAGES, tmp_path / "verbs")
    (folder / "run.md").write_text("# rlt run\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"run\.md: has no <!-- settings -->"):
        write_settings.main([], folder)


def test_every_verb_has_a_page_and_every_page_a_verb() -> None:
    assert {page.stem for page in write_settings.PAGES.glob("*.md")} == verbs().keys()


@pytest.mark.parametrize("page", sorted(write_settings.PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_page_of_a_verb_shows_it_at_work(page: Path) -> None:
    assert page.stem in {words[0] for words in commands(page)}


@each_page
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(target), f"{path} has no heading #{anchor}"


@each_page
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = "\n".join(blocks(page, "toml"))
    for verb, *arguments in commands(page):
        for name in arguments:
            if name.endswith(".toml"):
                Path(name).write_text(tables, encoding="utf-8")
        known = verbs()[verb]
        assert isinstance(parse_command(known.config_type, verb, arguments, known.summary), known.config_type)


@each_page
def test_every_recipe_that_is_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "toml")):
        recipe = tmp_path / f"{number}.toml"
        recipe.write_text(block, encoding="utf-8")
        assert len(read_steps(recipe, "problems.jsonl")) == len(tomllib.loads(block))


@pytest.mark.parametrize(
    ("verb", "columns"),
    [
        ("problems", WRITTEN_COLUMNS),
        ("explain", tuple(Explanation.model_fields)),
        ("score", tuple(Score.model_fields)),
        ("evaluate", tuple(Generation.model_fields)),
    ],
)
def test_every_column_of_the_rows_is_explained(verb: str, columns: tuple[str, ...]) -> None:
    text = (write_settings.PAGES / f"{verb}.md").read_text(encoding="utf-8")
    assert [column for column in columns if f"`{column}`" not in text] == []


def test_every_part_of_the_reward_that_is_logged_is_explained() -> None:
    import torch

    score = score_explanation(torch.tensor([-1.0]), torch.tensor([0.5]), RewardConfig())
    text = (write_settings.PAGES / "train.md").read_text(encoding="utf-8")
    assert [
        name for name in {**score_metrics([score, score]), **group_metrics([1.0, 1.0], 2)} if f"`{name}`" not in text
    ] == []
