"""The demo's recipe: complete, and moved to a seed's folder without a path or seed left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from student.errors import ConfigError
from teacher.demo.settings import HOME, read_recipe

TOY = Path("teacher/recipes/toy.toml")


def leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield from leaves(value) if isinstance(value, dict) else [(name, value)]


def test_a_placed_recipe_has_every_path_in_its_folder_and_every_seed_its_own(tmp_path: Path) -> None:
    placed = list(leaves(read_recipe("toy").placed(tmp_path, 7).model_dump()))
    assert not [value for _, value in placed if isinstance(value, str) and HOME in value]
    assert {value for name, value in placed if name == "seed"} == {7}
    assert len([value for _, value in placed if isinstance(value, str) and str(tmp_path) in value]) >= 18


def test_the_recipe_of_seed_0_is_the_file_itself() -> None:
    recipe = read_recipe("toy")
    assert recipe.placed(Path(HOME), 0) == recipe


def test_each_step_of_the_recipe_reads_what_an_earlier_one_writes() -> None:
    recipe = read_recipe("toy")
    assert recipe.base.model == recipe.skill.out
    assert {recipe.train.teacher, recipe.train.student, recipe.score.student, recipe.distill.student} == {
        recipe.base.out
    }
    assert recipe.explain.teacher == recipe.score.teacher == recipe.train.out
    assert recipe.score.traces == recipe.distill.explanations == recipe.explain.out
    assert recipe.evaluate.model == recipe.distill.out


def test_rewards_are_those_of_the_temperature_that_explanations_are_sampled_at() -> None:
    recipe = read_recipe("toy")
    assert recipe.train.reward == recipe.score.reward
    assert recipe.train.reward.temperature == recipe.explain.sampling.temperature


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[score]", "[score-again]", r"\[score\], \[score-again\] missing or unknown"),
        ("limit = 800\n", "\n", r"\[train\]: limit is missing"),
        ("group_size = 16", "group_size = 1", r"\[train\]: grpo.group_size"),
    ],
)
def test_a_recipe_that_a_demo_cannot_use_is_refused_in_one_line(
    old: str, new: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOY.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint) as error:
        read_recipe(str(path))
    assert "\n" not in str(error.value)
