"""Leaks are found among leaks planted: nearly all in the toy world, and by kind in rationales that people wrote."""

from pathlib import Path

import pytest

from benchmarks.leaks import main

GSM8K = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"


def test_leaks_of_the_toy_world_are_told_from_its_other_styles(capsys: pytest.CaptureFixture[str]) -> None:
    [figure] = main(["--rows", "500"])["toy world"]
    assert figure.rows == 1000
    assert figure.recall >= 0.95
    assert figure.precision >= 0.95
    assert "toy world" in capsys.readouterr().out


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not here")
def test_leaks_planted_in_rationales_are_found_by_kind_and_seldom_seen_where_none_is() -> None:
    figures = {figure.what: figure for figure in main(["--problems", str(GSM8K), "--rows", "400"])["rationales"]}
    least = {"verbatim": 0.95, "reference": 0.3, "answer": 0.85, "answer_later": 0.75}
    assert {what: figures[what].recall >= bound for what, bound in least.items()} == dict.fromkeys(least, True)
    assert figures["reference"].precision >= 0.8
    assert all(figure.precision >= 0.99 for what, figure in figures.items() if what != "reference")
