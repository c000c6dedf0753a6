"""Result files: killed, torn, moved, full disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from student.config import Config
from student.errors import OutputError
from student.row_file import RowFile

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64()), ("maker", pa.string())])
IDS = [f"row{number}" for number in range(10)]
SAME = {"maker": "m1"}


class Row(BaseModel):
    id: str
    value: int
    maker: str = "m1"


class Settings(Config):
    seed: int = 0


def rows(start: int, stop: int) -> list[Row]:
    return [Row(id=IDS[number], value=number) for number in range(start, stop)]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "new" / "out.jsonl")
    file.append(rows(0, 4))
    file.append(rows(4, 10))
    assert not file.out.exists()
    file.finish()
    assert [json.loads(line)["id"] for line in file.out.read_text().splitlines()] == IDS
    assert not file.partial.exists()
    assert file.whole(IDS, SAME)


def test_parquet_holds_the_same_rows_with_typed_columns(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.parquet", SCHEMA)
    file.append(rows(0, 10))
    file.finish()
    table = pq.read_table(file.out)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [row.model_dump() for row in rows(0, 10)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet"]
    assert file.whole(IDS, SAME)


def test_a_torn_last_line_is_owed_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.jsonl")
    file.append(rows(0, 5))
    whole = file.partial.read_bytes()
    for torn in (b'{"id": "row5", "val', b'{"id": "row5", "val\n', b"\0\0\0\n", b"7\n"):
        file.partial.write_bytes(whole + torn)
        assert [row["id"] for row in file.resume(IDS, SAME)] == IDS[:5]
        assert file.partial.read_bytes() == whole


def test_only_whole_batches_are_kept_unless_nothing_is_owed(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.jsonl")
    file.append(rows(0, 7))
    assert len(file.resume(IDS, SAME, unit=4)) == 4
    file.append(rows(4, 10))
    assert len(file.resume(IDS, SAME, unit=4)) == 10


def test_nothing_written_yet_is_no_rows(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.jsonl")
    assert file.resume(IDS, SAME) == []
    assert not file.whole(IDS, SAME)


def test_rows_of_other_problems_or_another_maker_are_refused(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.jsonl")
    file.append(rows(0, 3))
    with pytest.raises(OutputError, match=r"partial:2: holds 'row1' where the problems now ask for 'other'; choose"):
        file.resume(["row0", "other", "row2"], SAME)
    with pytest.raises(OutputError, match=r"partial:3: holds 'row2' where the problems now ask for 'no more rows'"):
        file.resume(IDS[:2], SAME)
    with pytest.raises(OutputError, match="partial:1: maker was 'm1', now 'm2'; choose another name, or remove it"):
        file.resume(IDS, {"maker": "m2"})


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_whole_file_of_other_problems_or_another_maker_is_refused(tmp_path: Path, name: str) -> None:
    file = RowFile(tmp_path / name, SCHEMA)
    file.append(rows(0, 3))
    file.finish()
    with pytest.raises(OutputError, match="has 3 rows and the problems now make 10"):
        file.whole(IDS, SAME)
    with pytest.raises(OutputError, match=":1: maker was 'm1', now 'm2'"):
        file.whole(IDS[:3], {"maker": "m2"})


def test_other_settings_are_refused_once_rows_are_there(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "out.jsonl")
    file.claim(Settings(seed=1))
    file.claim(Settings(seed=2))  # nothing was made with the first: it binds nobody
    file.append(rows(0, 1))
    file.claim(Settings(seed=2))
    with pytest.raises(OutputError, match="seed was 2, now 3"):
        file.claim(Settings(seed=3))


def test_a_file_of_unknown_origin_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(OutputError, match="nothing says how it was made; choose another name"):
        RowFile(tmp_path / "out.jsonl").claim(Settings())
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


def test_a_name_that_cannot_hold_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out.csv: rows are written as .jsonl or .parquet; name the file so"):
        RowFile(tmp_path / "out.csv", SCHEMA)
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        RowFile(tmp_path / "out.jsonl", SCHEMA)


FILL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_row_file import SCHEMA, RowFile, rows
file = RowFile(Path(sys.argv[2]), SCHEMA)
file.append(rows(0, 5))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    file.append(rows(5, 10))
    file.finish()
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize(("name", "limit"), [("out.jsonl", 250), ("out.parquet", 500)])
def test_a_disk_that_fills_up_leaves_whole_rows_and_no_result(tmp_path: Path, name: str, limit: int) -> None:
    # Five rows take 195 bytes and ten 390; as Parquet they take more than 500. The kernel refuses what goes beyond.
    command = [sys.executable, "-c", FILL, str(Path(__file__).parent), str(tmp_path / name), str(limit)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True).stdout
    assert "File too large" in said
    assert str(tmp_path / name) in said
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.partial"]
    file = RowFile(tmp_path / name, SCHEMA)
    kept = len(file.resume(IDS, SAME))
    assert kept == (5 if name == "out.jsonl" else 10)
    file.append(rows(kept, 10))
    file.finish()
    assert file.whole(IDS, SAME)
