"""Two evaluations compared: the statistics against scipy and cases worked by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from student.cli import main as rlt
from student.compare import Comparison, compare, paired_difference, permutation_p
from student.configs import SamplingSettings
from student.errors import ProblemError
from student.evaluate import Generation, Setup, report


def evaluation(folder: Path, name: str, right: Sequence[Sequence[bool]], first_problem: int = 0) -> Path:
    """A folder as `rlt evaluate` leaves it: one list of grades a problem."""
    rows = [
        Generation(
            id=f"{problem}-{sample}",
            problem_id=str(problem),
            sample=sample,
            digest="d",
            seed=0,
            question="q",
            answer="1",
            text="t",
            solution="1",
            correct=correct,
            finished=True,
            tokens=3,
        )
        for problem, grades in enumerate(right, start=first_problem)
        for sample, correct in enumerate(grades)
    ]
    out = folder / name
    out.mkdir()
    setup = Setup(model=name, samples=len(right[0]), sampling=SamplingSettings())
    made = report(rows, setup, "transformers", "float32")
    (out / "report.json").write_text(json.dumps(made.model_dump(mode="json")))
    (out / "generations.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return out


def test_the_difference_is_paired_and_says_what_was_gained_and_forgotten(tmp_path: Path) -> None:
    before = evaluation(tmp_path, "before", [[True, True], [False, False], [True, False], [True, True]])
    after = evaluation(tmp_path, "after", [[False, False], [True, True], [True, True], [True, True]])
    made = compare(before, after)
    # shares 1 0 .5 1 -> 0 1 1 1: +.125 on average; the second and third gained, the first lost
    assert (made.first_pass_at_1, made.second_pass_at_1) == (0.625, 0.75)
    assert made.difference.value == pytest.approx(0.125)
    assert (made.problems, made.gained, made.lost, made.left_out) == (4, 2, 1, 0)


def test_the_interval_is_scipys_and_near_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    before = rng.binomial(4, 0.4, size=400) / 4
    after = np.clip(before + rng.choice([-0.25, 0, 0.25], p=[0.2, 0.4, 0.4], size=400), 0, 1)
    made = paired_difference(before, after, seed=3)
    theirs = stats.bootstrap(
        (before, after), lambda x, y, axis: np.mean(y - x, axis=axis), paired=True, vectorized=True, rng=3
    ).confidence_interval
    half = 1.96 * (after - before).std(ddof=1) / np.sqrt(400)
    assert (made.low, made.high) == (
        pytest.approx(theirs.low, abs=0.1 * half),
        pytest.approx(theirs.high, abs=0.1 * half),
    )
    assert made.low == pytest.approx(made.value - half, abs=0.1 * half)
    assert paired_difference(before, after, seed=3) == made


def test_the_p_value_of_a_small_case_is_exact() -> None:
    # six problems, all better by the same: 2 of the 64 ways to swap them are as extreme
    assert permutation_p(np.zeros(6), np.ones(6), seed=0) == pytest.approx(2 / 64)
    assert permutation_p(np.ones(5), np.ones(5), seed=0) == 1


@pytest.mark.parametrize(("shares", "low", "high"), [([0.5], -1, 1), ([0.5, 0.5, 0.5], 0, 0)])
def test_one_problem_says_nothing_and_no_change_is_a_point(shares: list[float], low: float, high: float) -> None:
    made = paired_difference(np.array(shares), np.array(shares), seed=0)
    assert (made.value, made.low, made.high) == (0, low, high)


def test_only_shared_problems_are_compared_and_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = evaluation(tmp_path, "one", [[True]] * 3)
    other = evaluation(tmp_path, "other", [[False, True]] * 3, first_problem=1)
    made = compare(one, other)
    assert (made.problems, made.left_out) == (2, 2)
    assert "differ in samples: 1 and 2" in capsys.readouterr().err
    with pytest.raises(ProblemError, match="no problem in common"):
        compare(one, evaluation(tmp_path, "far", [[True]], first_problem=9))


def test_the_verb_prints_a_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = evaluation(tmp_path, "before", [[True], [False], [False]])
    after = evaluation(tmp_path, "after", [[True], [True], [False]])
    out = tmp_path / "comparison.json"
    assert rlt(["compare", str(before), str(after), "--out", str(out)]) == 0
    assert "difference   +33.33%   95 % interval" in capsys.readouterr().out
    assert Comparison.model_validate_json(out.read_text()).gained == 1
    assert rlt(["compare", str(before), str(tmp_path)]) == 1
    assert "no report.json in it; name a folder that `rlt evaluate --out` finished" in capsys.readouterr().err
    (after / "generations.jsonl").write_text("{}\n")
    assert rlt(["compare", str(before), str(after)]) == 1
    assert "generations.jsonl:1: not a generation" in capsys.readouterr().err
