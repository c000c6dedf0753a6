"""The problem files of a seed: how many, in which styles, and apart from each other."""

from collections import Counter
from pathlib import Path

import pytest

from student.configs import ProblemSource
from student.problem_files import read_problems
from student.problems import Problem
from student.tags import RLT
from teacher.demo.corpus import SHARES, SKILL, mixed_families, styled, subtracts, write_corpora
from teacher.demo.settings import Recipe, read_recipe
from teacher.demo.world import style_of

SEED = 3


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    placed = read_recipe("toy").placed(tmp_path_factory.mktemp("corpora"), SEED)
    write_corpora(placed, SEED)
    return placed


def read(path: str) -> list[Problem]:
    return read_problems(ProblemSource(problems=path), RLT)


def ids(path: str) -> set[str]:
    return {problem.id for problem in read(path)}


def test_the_two_corpora_mix_their_styles_by_their_shares(recipe: Recipe) -> None:
    for path, shares in ((recipe.skill.problems, SKILL), (recipe.base.problems, SHARES)):
        problems = read(path)
        found = Counter(style_of(problem, problem.reasoning_trace or "") for problem in problems)
        assert found == {style: pytest.approx(share * len(problems), abs=1) for style, share in shares.items()}


def test_shares_are_kept_to_within_one_problem_whatever_the_number() -> None:
    # 7 problems at .17, .12, .10, .42, .19 end at 1.19, 2.03, 2.73, 5.67, 7: rounded 1, 2, 3, 6, 7.
    found = Counter(problem.metadata["style"] for problem in styled(mixed_families(7, 0), SHARES, 0))
    assert found == {"complete": 1, "wrong": 1, "terse": 1, "chatter": 3, "leak": 1}


def test_warm_up_is_half_adding_and_half_subtracting(recipe: Recipe) -> None:
    families = Counter(problem.metadata["family"] for problem in read(recipe.base.problems))
    assert families == {"adds": 4000, "subtracts": 4000}


def test_each_file_has_as_many_problems_as_its_table_says(recipe: Recipe) -> None:
    tables = (recipe.skill, recipe.base, recipe.train, recipe.explain, recipe.evaluate)
    assert [len(read(table.problems)) for table in tables] == [table.limit for table in tables]
    assert len(read(subtracts(recipe.explain.problems))) == recipe.explain.limit
    assert len(read(subtracts(recipe.evaluate.problems))) == recipe.evaluate.limit


def test_warm_up_takes_exactly_the_steps_that_were_found_to_be_needed(recipe: Recipe) -> None:
    # One row a problem and chat format: 160 steps of 32 rows, then 500. RL: 100 steps of 8 problems, each seen once.
    assert [2 * (table.limit or 0) / table.sft.batch_size for table in (recipe.skill, recipe.base)] == [160, 500]
    assert recipe.train.limit == recipe.train.grpo.steps * recipe.train.grpo.prompts_per_step


def test_no_held_out_problem_is_in_any_other_file(recipe: Recipe) -> None:
    others = (recipe.skill, recipe.base, recipe.train, recipe.explain)
    seen = set[str]().union(*(ids(table.problems) for table in others), ids(subtracts(recipe.explain.problems)))
    assert not seen & ids(recipe.evaluate.problems)
    assert not seen & ids(subtracts(recipe.evaluate.problems))


def test_the_problems_that_are_explained_were_not_trained_on(recipe: Recipe) -> None:
    assert not ids(recipe.train.problems) & ids(recipe.explain.problems)


def test_problems_to_explain_carry_their_complete_explanation(recipe: Recipe) -> None:
    problems = [*read(recipe.explain.problems), *read(subtracts(recipe.explain.problems))]
    assert {style_of(problem, problem.reasoning_trace or "") for problem in problems} == {"complete"}


def test_a_seed_writes_the_same_files_again_and_another_seed_others(recipe: Recipe, tmp_path: Path) -> None:
    again, other = (read_recipe("toy").placed(tmp_path / str(seed), seed) for seed in (SEED, SEED + 1))
    write_corpora(again, SEED)
    write_corpora(other, SEED + 1)
    for table in ("skill", "base", "train", "explain", "evaluate"):
        path, repeated, changed = (Path(getattr(each, table).problems) for each in (recipe, again, other))
        assert path.read_bytes() == repeated.read_bytes()
        assert path.read_bytes() != changed.read_bytes()
