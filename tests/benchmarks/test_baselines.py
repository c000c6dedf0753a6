"""The baselines learn from what they say: the first right attempt, what verifies, the best by the reward."""

import json
from pathlib import Path

import pytest

from benchmarks.baselines import STUDENTS, main
from student.explanations import read_explanations
from student.tags import RLT


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
