"""The GPU's benchmark runs from end to end at toy size on a CPU, and its rewards are the reference's."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_score import main, seen_pairs
from student.reading import assemble
from student.scoring.attention import seen
from student.scoring.plan import packs


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_table_has_figures_and_the_rewards_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "figures.json"
    report = main(["--device", "cpu", "--tiny", "--dtype", "float32", "--repeats", "1", "--json", str(written)])
    assert json.loads(written.read_text()) == report
    printed = capsys.readouterr().out
    for title in ("2 x 3 explanations of 60 tokens", "2 x 3 explanations of 8 tokens"):
        assert title in printed
        assert report[title]["reward_difference"] < 1e-5
        rows = {row["what"]: row for row in report[title]["figures"]}
        assert len(rows) == 5
        assert rows["reference, neither"]["times_without_collection"] == 1.0
        assert all(row["seconds_per_explanation"] > 0 for row in rows.values())
        assert rows["ours, teacher's log-probs known"]["share_of_matrix_rate"] > 0
    assert [row["what"] for row in report["lengths"]] == ["64 tokens", "200 tokens"]
    assert len(report["parts"]) == 6
    assert all(part["error"] < 1e-4 and not math.isnan(part["milliseconds"]) for part in report["parts"])


def test_pairs_are_counted_as_they_are_seen() -> None:
    groups = [assemble([1] * 7, [2] * length, [], [3]) for length in (3, 5)]
    [pack] = packs([*groups, assemble([4], [5] * 4, [], [])], 100)
    assert seen_pairs(pack) == int(seen(pack, len(pack.ids), torch.device("cpu")).sum())
