"""What is held of a source does not grow with it."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from student import rows
from student.explanations import SCHEMA, Explanation
from student.exports import sources
from student.exports.sources import batches
from student.rows import read_rows
from student.tags import RLT


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 MB that do not compress, in 32 row groups."""
    path, chance = tmp_path_factory.mktemp("large") / "rows.parquet", random.Random(0)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for number in range(32):
            row = Explanation(
                problem_id=str(number), sample=0, question="1?", solution="1", closed=True, finished=True,
                explanation=chance.randbytes(125_000).hex(),
            )  # fmt: skip
            writer.write_table(pa.Table.from_pylist([row.model_dump()], SCHEMA))
    return path


def test_a_parquet_file_is_not_held_whole_while_it_is_exported(
    large_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BATCH_ROWS", 1)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in batches(str(large_file), RLT)]
    assert len(held) == 32
    assert max(held) < 3e6  # 8e6 at the end where Arrow's buffer is on


def test_a_parquet_file_is_not_held_whole_while_it_is_read(large_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PARQUET_ROWS", 1)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_rows(large_file)]
    assert len(held) == 32
    assert max(held) < 3e6


def test_lines_longer_than_a_block_of_the_reader_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1000)
    row = Explanation(
        problem_id="p", sample=0, question="1?", solution="1", closed=True, finished=True, explanation="x" * 5000
    )
    (tmp_path / "rows.jsonl").write_text(2 * (row.model_dump_json() + "\n"))
    with pytest.raises(sources.ProblemError, match=r"rows\.jsonl: not readable as explanations \(straddling object"):
        list(batches(str(tmp_path / "rows.jsonl"), RLT))
