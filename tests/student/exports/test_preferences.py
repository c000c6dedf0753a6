"""Pairs and labels come from the rewards of one problem's explanations, and of no other's."""

from pathlib import Path
from typing import Any

import pytest

from student.errors import ProblemError
from student.explanations import Explanation, Score
from tests.student.exports.test_export import ROW, SYSTEM, USER, WRITTEN, export, write_rows


def rows_of(**rewards: list[float | None]) -> list[Explanation]:
    """Explanations of problems by their rewards; each says its own id."""
    return [
        ROW.model_copy(
            update={
                "id": f"{problem}-{sample}",
                "problem_id": problem,
                "sample": sample,
                "explanation": f"{problem}-{sample}",
                "score": None if reward is None else Score(reward=reward, rss=reward, ss_mean=reward, ss_min=reward),
            }
        )
        for problem, values in rewards.items()
        for sample, reward in enumerate(values)
    ]


def pairs(found: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    return [(row["rlt_id"], row["rlt_rejected_id"], row["rlt_margin"]) for row in found]


def test_the_best_of_a_problem_is_preferred_to_its_worst(tmp_path: Path) -> None:
    rows = rows_of(a=[-1.0, -0.5, None, -3.0], b=[-9.0], c=[2.0, 2.0], d=[1.0, 1.25], e=[None, None])
    source = write_rows(tmp_path / "rows.parquet", rows)
    found = export(source, "trl-preference", tmp_path / "out")
    assert pairs(found) == [("a-1", "a-3", 2.5), ("d-1", "d-0", 0.25)]
    assert found[0]["prompt"] == [SYSTEM, USER]
    assert found[0]["chosen"] == [{"role": "assistant", "content": WRITTEN.replace("One\nand one.", "a-1")}]
    assert found[0]["rejected"] == [{"role": "assistant", "content": WRITTEN.replace("One\nand one.", "a-3")}]
    assert pairs(export(source, "trl-preference", tmp_path / "far", margin=1)) == [("a-1", "a-3", 2.5)]


def test_a_problem_that_two_batches_share_is_one_problem(tmp_path: Path) -> None:
    rows = rows_of(long=[float(number) for number in range(1500)], short=[0.0, 1.0])
    found = export(write_rows(tmp_path / "rows.parquet", rows), "trl-preference", tmp_path / "out")
    assert pairs(found) == [("long-1499", "long-0", 1499.0), ("short-1", "short-0", 1.0)]


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [
        (None, {"a-0": False, "a-1": True, "a-2": True}),  # the mean of a is 0; b is alone, so at its mean
        (1.0, {"a-0": False, "a-1": True, "a-2": True, "b-0": True}),
        (1.5, {"a-0": False, "a-1": False, "a-2": False, "b-0": True}),
    ],
)
def test_an_explanation_is_good_from_the_threshold_or_above_its_problems_mean(
    threshold: float | None, labels: dict[str, bool], tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows_of(a=[-2.0, 1.0, 1.0], b=[5.0], c=[None]))
    found = export(source, "trl-kto", tmp_path / "out", threshold=threshold)
    assert {row["rlt_id"]: row["label"] for row in found} == labels
    assert all(row["completion"][0]["content"] == WRITTEN.replace("One\nand one.", row["rlt_id"]) for row in found)


def test_rows_without_rewards_make_no_preferences(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows_of(a=[None, None]))
    with pytest.raises(ProblemError, match=r"trl-preference needs problems with several explanations.*run `rlt score`"):
        export(source, "trl-preference", tmp_path / "out")
