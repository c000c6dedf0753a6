"""Rows out of every format, and what is said of files that cannot be read."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from student.errors import ProblemError
from student.rows import FORMATS, JSON_LIMIT, Row, open_rows, parse_line, read_rows

ROWS: list[dict[str, Any]] = [{"question": "1 + 1?", "answer": "2"}, {"question": 'Say "hi",\nnow', "answer": "hi"}]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import pandas

    pandas.DataFrame(rows).to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(rows), path)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": write_lines,
    ".ndjson": write_lines,
    ".json": write_json,
    ".csv": write_csv,
    ".tsv": write_csv,
    ".parquet": write_parquet,
}


def test_every_format_has_a_test() -> None:
    assert {suffix for form in FORMATS for suffix in form.suffixes} == WRITERS.keys()


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_same_rows_come_out_of_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, ROWS)
    assert [row for _, row in read_rows(path)] == ROWS


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_file_has_no_rows_or_says_that_it_is_empty(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    path.touch()
    if suffix == ".parquet":
        with pytest.raises(ProblemError, match="0 bytes"):
            list(read_rows(path))
    else:
        assert list(read_rows(path)) == []


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert list(read_rows(path)) == [(1, {"a": 1}), (4, {"a": 2})]
    table = tmp_path / "rows.csv"
    table.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"1\r\n2",3\r\n4,5\r\n')
    assert list(read_rows(table)) == [(3, {"a": "1\r\n2", "b": "3"}), (5, {"a": "4", "b": "5"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": \xff}', "not UTF-8 (byte 0xff at column 7)"),
        (b'{"a": }', "not JSON (Expecting value at column 7)"),
        (b"[1, 2]", "not a JSON object but [1, 2]"),
        (b'{"a": "torn', "not JSON (Invalid control character at column 12)"),
        (b"nonsense", "not JSON"),
        (b"\0\0\0", "a NUL byte at column 1"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_a_reason_and_its_siblings_are_read(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    (_, first), (number, bad), (_, last) = read_rows(path)
    assert (first, number, last) == ({"a": 1}, 2, {"a": 2})
    assert isinstance(bad, str)
    assert bad.startswith(reason)


@given(st.binary(max_size=40))
def test_any_bytes_on_a_line_are_an_object_or_a_reason(line: bytes) -> None:
    assert isinstance(parse_line(line), dict | str)


def test_a_line_of_100_mb_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(100_000_000)
        file.seek(0, 2)
        file.write(b'\n{"a": 1}\n')
    tracemalloc.start()
    rows = list(read_rows(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == [(1, "the line is longer than 16 MB; is each row on a line of its own?"), (2, {"a": 1})]
    assert peak_bytes < 64 * 2**20


def test_jsonl_is_read_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_lines(path, [{"text": "x" * 1000}] * 20_000)
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == 20_000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20


def test_a_list_inside_a_json_object_is_found_by_being_the_only_one_or_by_the_split(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 2, "data": ROWS}))
    assert [row for _, row in read_rows(path)] == ROWS
    path.write_text(json.dumps({"train": ROWS, "test": ROWS[:1]}))
    assert [row for _, row in read_rows(path, "test")] == ROWS[:1]
    with pytest.raises(ProblemError, match="an object that holds one list"):
        list(read_rows(path, "dev"))


def test_json_lines_that_are_called_json_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    write_lines(path, ROWS)
    assert [row for _, row in read_rows(path)] == ROWS


def test_a_json_file_too_large_to_hold_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with path.open("wb") as file:
        file.truncate(JSON_LIMIT + 1)
    with pytest.raises(ProblemError, match="write it as JSONL"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", b'[{"a": 1},\n {"a": }]', r"a.json:2: not JSON \(Expecting value at column 8\)"),
        ("a.json", b'[\n"\xff"]', r"a.json:2: not UTF-8 \(byte 0xff\)"),
        ("a.json", b"[" * 100_000, "a.json: not JSON"),
        ("a.json", b"5", "a list of rows is expected"),
        ("a.csv", b'a,b\n1,2\n"3,4\n5,6\n', "a.csv:3: not CSV"),
        ("a.csv", b"a,a\n1,2\n", "two columns of one name"),
        ("a.parquet", b"PAR1" + bytes(200) + b"PAR1", "not readable as Parquet from the start"),
        ("a.txt", b"hello", "the format '.txt' is not read here"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0), "the format '.gz' is not read here"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProblemError, match=complaint) as caught:
        list(read_rows(path))
    assert "\n" not in str(caught.value)


def test_a_quote_that_never_closes_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,2\n"' + (b"x" * 4000 + b"\n") * 10_000)
    tracemalloc.start()
    with pytest.raises(ProblemError, match=r"rows.csv:3: a row longer than 16 MB"):
        list(read_rows(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 200 * 2**20


def test_a_row_with_other_cells_than_the_header_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1\n1,2\n1,2,3\n")
    assert [row if isinstance(row, dict) else row[:23] for _, row in read_rows(path)] == [
        "1 cells under 2 columns",
        {"a": "1", "b": "2"},
        "3 cells under 2 columns",
    ]


def test_a_parquet_file_cut_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{"text": str(number) * 50} for number in range(5000)])
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(len(content) // 2) + content[1000 + len(content) // 2 :])
    with pytest.raises(ProblemError, match="not readable as Parquet"):
        list(read_rows(path))


def test_text_in_parquet_that_is_not_utf8_is_a_reason(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    texts = pyarrow.array([b"good", b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet")
    rows = list(read_rows(tmp_path / "rows.parquet"))
    assert rows == [(1, {"text": "good"}), (2, "not UTF-8 (byte 0xe9); write the file again as UTF-8")]


def test_a_folder_that_datasets_saved_is_read_with_and_without_splits(tmp_path: Path) -> None:
    import datasets

    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "whole")
    datasets.DatasetDict({"test": whole}).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": whole, "dev": whole.select([0])}).save_to_disk(tmp_path / "two")
    assert [row for _, row in read_rows(tmp_path / "whole")] == ROWS
    assert [row for _, row in read_rows(tmp_path / "one")] == ROWS
    assert [row for _, row in read_rows(tmp_path / "two", "dev")] == ROWS[:1]
    with pytest.raises(ProblemError, match="no split 'train'; choose one of test, dev"):
        list(read_rows(tmp_path / "two"))


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="did not write; name a file in it"):
        list(read_rows(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ProblemError, match="cannot be loaded by `datasets`"):
        list(read_rows(tmp_path))


@pytest.mark.parametrize("name", ["rows.jsonl", "data/rows.jsonl", "/no/such/rows", "./data/rows", "rows"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ProblemError, match="no such file or folder, and no hub name"):
        open_rows(name)


def test_a_hub_name_that_cannot_be_reached_is_refused_in_one_line() -> None:
    with pytest.raises(ProblemError, match="nobody/no-such-dataset: ") as caught:
        list(read_rows("nobody/no-such-dataset:main"))
    assert "hub" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200), suffix=st.sampled_from(list(WRITERS)))
def test_any_bytes_are_rows_or_one_error(content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bytes") / f"rows{suffix}"
    path.write_bytes(content)
    outcome = rows_or_error(path)
    assert isinstance(outcome, list) or "\n" not in outcome


def rows_or_error(path: Path) -> list[Row] | str:
    try:
        return list(read_rows(path))
    except ProblemError as error:
        return str(error)
