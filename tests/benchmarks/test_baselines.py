"""The baselines learn from what they say: the first right attempt, what verifies, the best by the reward."""

import json
from pathlib import Path

import pytest

from benchmarks.baselines import STUDENTS, best_of_each, first_of_each, main
from student.explanations import Explanation, Score, read_explanations
from student.tags import RLT


def row(problem: str, sample: int, reward: float = 0.0, *, closed: bool = True) -> Explanation:
    return Explanation(
        problem_id=problem,
        sample=sample,
        question="3 +1",
        solution="4",
        explanation="+1 = 4",
        closed=closed,
        finished=closed,
        score=Score(reward=reward, rss=0, ss_mean=0, ss_min=0),
    )


def test_one_row_a_problem_is_the_first_or_the_best() -> None:
    rows = [row("a", 0, -2), row("a", 1, -1), row("b", 0, -3), row("b", 1, -3)]
    assert [each.id for each in first_of_each(rows)] == ["a-0", "b-0"]
    assert [each.id for each in best_of_each(rows)] == ["a-1", "b-0"]


@pytest.mark.slow
def test_the_comparison_runs_from_nothing_to_its_table(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--seeds", "1", "--out", str(tmp_path), "--recipe", str(small_recipe)])
    found = json.loads((tmp_path / "seed-0" / "results.json").read_text())
    assert list(found) == ["base", *STUDENTS, "star"]
    assert "| rlt_teacher | 28 | 24 |" in capsys.readouterr().out  # 1 step of 2 x 2, and 24 explanations
    assert found["gold"]["complete"] == 1
    assert (found["best_of_16"]["rows"], found["best_of_16"]["samples"]) == (24, 384)
    assert 0 < found["rejection"]["rows"] <= 24
    assert found["rejection"]["rows"] <= found["rejection_all"]["rows"]
    scored = read_explanations(str(tmp_path / "seed-0" / "scores" / "candidates.jsonl"), RLT)
    verifying = {row.problem_id for row in scored if row.closed and row.measures and row.measures.verified}
    assert found["rationalised"]["rows"] == len(verifying)
    # four rounds of two attempts at 24 problems, and of two explanations at most
    assert 192 < found["star"]["samples"] <= 384
