"""The table of a comparison: means and ranges over seeds, differences within them; no seed is run twice."""

import json
from pathlib import Path

import pytest

from benchmarks.toy import Result, Results, best_of_each, first_of_each, run, table
from teacher.demo.settings import Recipe
from tests.toy_rows import scored_row

SEEDS: list[Results] = [
    {"base": Result(0.2), "rlt": Result(0.7, rows=10, samples=100, complete=0.5)},
    {"base": Result(0.4), "rlt": Result(0.8, rows=20, samples=300, complete=1.0)},
]


def test_the_table_has_means_ranges_and_the_paired_difference() -> None:
    _, _, base, rlt = table(SEEDS, "rlt").splitlines()
    assert rlt == "| rlt | 200 | 15 | 0.75 | 0.750 | 0.700 to 0.800 |  |"
    # differences .5 and .4: mean .45, standard error .05, Student's t of one degree of freedom 12.706
    assert base == "| base | 0 | 0 |  | 0.300 | 0.200 to 0.400 | +.450 (-.185 to +1.085) |"


def test_one_row_a_problem_is_the_first_or_the_best() -> None:
    rows = [scored_row("a", 0, -2), scored_row("a", 1, -1), scored_row("b", 0, -3), scored_row("b", 1, -3)]
    assert [each.id for each in first_of_each(rows)] == ["a-0", "b-0"]
    assert [each.id for each in best_of_each(rows)] == ["a-1", "b-0"]


def test_a_seed_that_has_its_results_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []

    def one_seed(recipe: Recipe, seed: int) -> Results:
        asked.append(seed)
        assert Path(recipe.base.out).is_relative_to(tmp_path / f"seed-{seed}")
        return SEEDS[seed - 3]

    arguments = ["--out", str(tmp_path), "--first-seed", "3", "--seeds"]
    run("", "unused", "rlt", one_seed, [*arguments, "1"])
    run("", "unused", "rlt", one_seed, [*arguments, "2"])
    assert asked == [3, 4]
    assert table(SEEDS, "rlt") in capsys.readouterr().out
    assert json.loads((tmp_path / "seed-3" / "results.json").read_text())["rlt"]["rows"] == 10
