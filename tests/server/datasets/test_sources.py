"""Sources: read as rlt problems reads them, in flat memory, and never a path of the server unless that is allowed."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.datasets.sources import ProblemReader, check_columns, check_file_name, check_name, open_name
from server.errors import Invalid
from student.configs import ProblemSource
from student.errors import ProblemError
from student.problem_files import take_in
from student.rows import Row, RowSource
from student.tags import RLT

LINES = [
    {"question": "1 + 1?", "solution": "2"},
    {"problem": "2 + 2?", "response": "4", "final_answer": 4},
    {"question": "", "solution": "3"},
    {"question": "1 + 1?", "solution": "2", "answer": "2"},
    {"question": "3 + 3?", "solution": "so #### 6"},
]


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return str(path)


def reader(source: str) -> ProblemReader:
    return ProblemReader(open_name(source, "train", local=True), {}, RLT)


def test_problems_are_those_that_the_other_verbs_read(source: str) -> None:
    ours = reader(source)
    theirs = take_in(ProblemSource(problems=source, skip_invalid=True), RLT)
    assert list(ours.read(None, skip_invalid=True)) == theirs.problems
    counts = {name: ours.summary()[name] for name in ("rows", "problems", "repeated", "bad")}
    assert counts == {"rows": 5, "problems": 3, "repeated": 1, "bad": 1}
    assert ours.summary()["bad_examples"] == [{"row": 3, "reason": "question is empty"}]


def test_a_bad_row_stops_the_dataset_unless_it_may_be_left_out(source: str) -> None:
    with pytest.raises(ProblemError, match=r"question is empty.*skip_invalid"):
        list(reader(source).read(None, skip_invalid=False))


def test_a_limit_leaves_the_rest_unread(source: str) -> None:
    ours = reader(source)
    assert [problem.solution for problem in ours.read(2, skip_invalid=False)] == ["2", "4"]
    assert ours.summary()["rows"] == 2


@pytest.mark.parametrize("rows", [[], [(1, "torn"), (2, "torn")]])
def test_a_source_without_a_problem_is_refused(rows: list[Row]) -> None:
    empty = ProblemReader(RowSource("file", "JSONL", iter(rows)), {}, RLT)
    with pytest.raises(ProblemError):
        list(empty.read(None, skip_invalid=True))


def test_ten_times_the_rows_take_no_more_memory() -> None:
    def rows(count: int) -> Iterator[Row]:
        return ((number, {"question": f"{number} + 1?", "solution": "x"}) for number in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        read = ProblemReader(RowSource("rows", "none", rows(count)), {}, RLT).read(None, skip_invalid=False)
        assert sum(1 for _ in read) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(500)
    assert peak(5000) < peak(500) + 50_000


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secrets.jsonl", "file.jsonl", "a/b/c", "https://a.example/x", "s3://a/b", "~/x", ""]
)
def test_paths_and_addresses_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_name(name, local=False)
    assert refused.value.param == "source"
    with pytest.raises(ProblemError):
        open_name(name, "train", local=False)


def test_a_folder_with_a_hub_name_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    check_name("own/folder", local=False)
    for name in ("own/folder", "own/folder:train", "../.."):
        with pytest.raises(ProblemError, match="no dataset of the hub"):
            open_name(name, "train", local=False)


def test_a_file_must_say_its_format_and_columns_their_fields() -> None:
    check_file_name("A.JSONL")
    check_columns({"question": "q"})
    with pytest.raises(Invalid, match=r"'problems\.xlsx'"):
        check_file_name("problems.xlsx")
    with pytest.raises(Invalid, match="quetsion"):
        check_columns({"quetsion": "q"})
