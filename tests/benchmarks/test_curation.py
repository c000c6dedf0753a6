"""The benchmark of `rlt select` runs from end to end, and what is planted is found at small size too."""

import json
from pathlib import Path

import pytest

from benchmarks.curation import EDITS, EXACT, OTHERS, main


def test_what_is_planted_is_found_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "figures.json"
    found = main(["--rows", "2000", "--json", str(written)])
    assert json.loads(written.read_text()) == found
    shares = {row["kind"]: row["share"] for row in found["recall"]}
    assert all(row["planted"] == 20 for row in found["recall"])
    assert all(shares[kind] == 1 for kind in (*EXACT, *(name for name in shares if name.startswith("test question"))))
    assert all(shares[kind] >= 0.95 for kind in EDITS)
    assert shares[OTHERS] <= 0.05
    assert all(precision >= 0.98 for precision in found["precision"].values())
    assert "2,000 rows:" in capsys.readouterr().out
