"""Which explanations the ablations choose, and that each of them is reported."""

from pathlib import Path

import pytest

from student.explanations import Explanation
from teacher.demo.ablations import PICKS, QUARTILES, Ablations, chosen
from teacher.demo.chain import Chain
from teacher.demo.labels import ABLATION_LABELS
from teacher.demo.results import ABLATIONS
from teacher.demo.settings import read_recipe
from tests.toy_rows import scored_row

REWARDS = [-3.0, -1.0, -2.0, -0.5, *[-4.0 - number for number in range(12)]]
"""Of 16 candidates; the best of the first 2 is number 1, of the first 4 and of all number 3."""


def candidates() -> list[Explanation]:
    """Two problems' 16 candidates; rSS and rKL are the higher, the later a candidate is."""
    return [
        scored_row(problem, number, reward, rss=number, rkl=number)
        for problem in "ab"
        for number, reward in enumerate(REWARDS)
    ]


@pytest.fixture(scope="module")
def picked() -> dict[str, list[int]]:
    return {name: [row.sample for row in taken] for name, taken in chosen(candidates(), seed=0).items()}


def test_the_best_of_n_is_chosen_among_the_first_n_of_each_problem(picked: dict[str, list[int]]) -> None:
    assert picked["best_of_2"] == [1, 1]
    assert picked["best_of_4"] == picked["best_of_8"] == picked["best_of_16"] == [3, 3]


def test_the_best_by_one_term_has_the_highest_rss_or_the_lowest_rkl(picked: dict[str, list[int]]) -> None:
    assert picked["best_of_16_by_rss"] == [15, 15]
    assert picked["best_of_16_by_rkl"] == [0, 0]


def test_each_quarter_gives_one_explanation_of_its_rank(picked: dict[str, list[int]]) -> None:
    quarters = [{3, 1, 2, 0}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}]
    for name, quarter in zip(QUARTILES, quarters, strict=True):
        assert len(picked[name]) == 2
        assert set(picked[name]) <= quarter


def test_the_same_seed_chooses_the_same(picked: dict[str, list[int]]) -> None:
    assert {name: [row.sample for row in taken] for name, taken in chosen(candidates(), seed=0).items()} == picked


def test_the_other_rewards_differ_from_the_papers_in_one_weight(tmp_path: Path) -> None:
    recipe = read_recipe("toy")
    changed = Ablations(Chain(recipe, 0), recipe, tmp_path).rewards()
    assert changed == {"rss_only": {"kl_weight": 0.0}, "rkl_only": {"ss_weight": 0.0}, "lambda_1": {"kl_weight": 1.0}}


def test_every_ablation_is_evaluated_reported_and_named_for_people(tmp_path: Path) -> None:
    recipe = read_recipe("toy")
    phases = Ablations(Chain(recipe, 0), recipe, tmp_path).phases()
    evaluated = {phase.name.removeprefix("evaluate ") for phase in phases if phase.name.startswith("evaluate ")}
    assert evaluated == set(ABLATIONS) == set(ABLATION_LABELS)
    assert set(PICKS) < evaluated


def test_no_two_phases_of_a_full_demo_share_a_name(tmp_path: Path) -> None:
    recipe = read_recipe("toy")
    chain = Chain(recipe, 0)
    names = [phase.name for phase in (*chain.phases(), *Ablations(chain, recipe, tmp_path).phases())]
    assert len(set(names)) == len(names)
