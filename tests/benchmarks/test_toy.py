"""The table of a comparison: means and ranges over seeds, differences within them; no seed is run twice."""

from pathlib import Path

import pytest

from benchmarks.toy import Result, Results, kept, run, table
from teacher.demo.settings import Recipe, read_recipe

SEEDS: list[Results] = [
    {"base": Result(0.2), "rlt": Result(0.7, rows=10, samples=100, complete=0.5)},
    {"base": Result(0.4), "rlt": Result(0.8, rows=20, samples=300, complete=1.0)},
]


def test_the_table_has_means_ranges_and_the_paired_difference() -> None:
    _, _, base, rlt = table(SEEDS, "rlt").splitlines()
    assert rlt == "| rlt | 200 | 15 | 0.75 | 0.750 | 0.700 to 0.800 |  |"
    # differences .5 and .4: mean .45, standard error .05, Student's t of one degree of freedom 12.706
    assert base == "| base | 0 | 0 |  | 0.300 | 0.200 to 0.400 | +.450 (-.185 to +1.085) |"


def test_a_seed_that_has_its_results_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []

    def one_seed(recipe: Recipe, seed: int) -> Results:
        asked.append(seed)
        assert Path(recipe.base.out).is_relative_to(tmp_path / f"seed-{seed}")
        (tmp_path / f"seed-{seed}").mkdir()
        return SEEDS[seed - 3]

    arguments = ["--out", str(tmp_path), "--first-seed", "3", "--seeds"]
    run("", "unused", "rlt", one_seed, [*arguments, "1"])
    run("", "unused", "rlt", one_seed, [*arguments, "2"])
    assert asked == [3, 4]
    assert table(SEEDS, "rlt") in capsys.readouterr().out
    assert kept(tmp_path / "seed-3", read_recipe("toy"), 3, one_seed) == SEEDS[0]
