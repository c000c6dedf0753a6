"""A census: what is counted of rows, from tables and from a file, without growing with them."""

from pathlib import Path

import pyarrow.parquet as pq

from student.cards.census import FURTHER, MOST, Asked, Census, Origin, Reader, census_of
from student.explanations import Verdict
from student.provenance import Provenance
from tests.student.cards.rows import census_of_rows, row, table

KEPT, AGAINST = Verdict(filter="closed", kept=True), Verdict(filter="closed", kept=False, detail="cut")
ROWS = [
    row(0, reward=-1, leak=0.0, license="MIT", teacher="t", verdicts=(KEPT,), student="s", student_digest="d"),
    row(1, reward=-3, leak=0.5, license="MIT", teacher="t", verdicts=(AGAINST,), dropped="closed: cut: there"),
    row(2, error="too long"),
    row(3, provenance=Provenance(engine="vllm", top_p=0.9), temperature=0.7),
]


def test_rows_are_counted_by_what_became_of_them() -> None:
    census = census_of_rows(*ROWS)
    assert (census.rows, census.kept, census.failed, dict(census.dropped)) == (4, 2, 1, {"closed": 1})
    assert census.filters == {"closed": Asked(rows=2, against=1)}
    assert dict(census.licences) == {"MIT": 2, None: 2}
    assert dict(census.readers) == {Reader("s", "d"): 1, Reader(None, None): 3}
    nothing = dict.fromkeys(Origin._fields)
    assert dict(census.origins) == {
        Origin(**nothing | {"teacher": "t"}): 2,
        Origin(**nothing): 1,
        Origin(**nothing | {"engine": "vllm", "top_p": 0.9, "temperature": 0.7}): 1,
    }


def test_measures_are_told_apart_by_kept_and_dropped_and_failed_rows_have_none() -> None:
    census = census_of_rows(*ROWS, row(4, reward=-9, error="broken"))
    kept, dropped = census.kept_measures, census.dropped_measures
    assert (kept["reward"].count, kept["reward"].mean, dropped["reward"].count) == (1, -1, 1)
    assert (kept["leak"].mean, dropped["leak"].mean, kept["gain"].count) == (0, 0.5, 0)


def test_a_file_gives_the_same_census_as_its_rows(tmp_path: Path) -> None:
    pq.write_table(table(ROWS * 3), tmp_path / "rows.parquet", row_group_size=5)
    found, told = census_of(tmp_path / "rows.parquet"), census_of_rows(*ROWS * 3)
    names = ("rows", "failed", "dropped", "licences", "origins", "readers", "filters")
    assert [getattr(found, name) for name in names] == [getattr(told, name) for name in names]
    assert found.kept_measures["reward"].count == told.kept_measures["reward"].count == 3


def test_names_beyond_a_thousand_are_counted_together() -> None:
    census = Census()
    for start in (0, MOST):
        census.add(
            table([row(number, license=f"l{number}", teacher=f"t{number}") for number in range(start, 2 * MOST)])
        )
    assert len(census.licences) == len(census.origins) == MOST + 1
    assert census.licences[FURTHER] == census.origins[None] == 2 * MOST
    assert census.licences.total() == census.rows == 3 * MOST


def test_no_rows_make_an_empty_census() -> None:
    census = census_of_rows()
    assert (census.rows, census.kept, census.filters) == (0, 0, {})
