"""The benchmark of `rlt export` runs from end to end, and ten times the rows take no more memory."""

import json
from pathlib import Path

import pytest

from benchmarks.exports import main


def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--rows", "20000", "--rows", "200000"]
    small, large = main([*sizes, "--format", "trl-prompt-completion", "--json", str(tmp_path / "figures.json")])
    assert (small.rows, large.rows) == (20_000, 200_000)
    assert large.written_mb > 5 * small.written_mb
    assert large.peak_mb < small.peak_mb + 60  # the rows themselves are 230 MB
    assert "| trl-prompt-completion | parquet |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "figures.json").read_text())) == 2
