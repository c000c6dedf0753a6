"""Whole files: what is read, what is left out, what is written, and that people are told in one line."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from student.cli import main as rlt
from student.configs import ProblemSource
from student.errors import OutputError, ProblemError
from student.problem_files import read_problems, read_rows, take_in, whole_file, write_problems
from student.problems import Problem
from student.tags import RLT

DATA = Path(__file__).parents[3] / "shared" / "data"
GOOD = {"question": "1 + 1?", "solution": "2"}


def source(path: Path | str, **settings: Any) -> ProblemSource:
    return ProblemSource(problems=str(path), **settings)


def write_lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_problems_come_in_their_order_up_to_the_limit(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", *({"question": f"{n}?", "answer": n} for n in range(5)))
    assert [problem.answer for problem in read_problems(source(path), RLT)] == list("01234")
    assert [problem.answer for problem in read_problems(source(path, limit=2), RLT)] == list("01")


def test_a_repeated_problem_is_kept_once_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "p.jsonl", {**GOOD, "url": "first"}, {**GOOD, "url": "second"})
    (problem,) = read_problems(source(path), RLT)
    assert problem.metadata == {"url": "first"}
    assert "1 of 2 rows repeat an earlier problem" in capsys.readouterr().err


def test_bad_rows_stop_the_run_and_are_named_by_file_line_and_reason(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "p.jsonl", GOOD, {"question": "", "solution": "2"}, "oops", {"question": 5}, {"question": None}
    )
    with pytest.raises(ProblemError) as caught:
        read_problems(source(path), RLT)
    told = str(caught.value)
    assert told.startswith(f"4 of 5 rows cannot be used: {path}:2: question is empty; {path}:3: not JSON")
    assert told.endswith("and 1 more; mend them, or leave them out with --skip-invalid")
    assert "\n" not in told


def test_a_reason_is_told_once_however_many_rows_share_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", *[{"foo": 1, "bar": 2}] * 1000)
    with pytest.raises(ProblemError, match=r"no row of 1000 can be used: .*p.jsonl:1: .*'foo', 'bar'.*and 999 more"):
        read_problems(source(path), RLT)


def test_skipped_rows_go_to_the_side_file_and_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"question": "", "solution": "2"}
    path = write_lines(tmp_path / "p.jsonl", GOOD, bad, "oops")
    aside = tmp_path / "out" / "p.skipped.jsonl"
    assert len(read_problems(source(path, skip_invalid=True), RLT, aside)) == 1
    assert [row for _, row in read_rows(aside)] == [
        {"line": 2, "reason": "question is empty", "row": bad},
        {"line": 3, "reason": "not JSON (Expecting value at column 1)", "row": None},
    ]
    assert f"2 of 3 rows are bad and were left out (see {aside})" in capsys.readouterr().err
    assert [file.name for file in aside.parent.iterdir()] == [aside.name]


def test_no_side_file_where_no_row_is_bad(tmp_path: Path) -> None:
    aside = tmp_path / "aside.jsonl"
    read_problems(source(write_lines(tmp_path / "p.jsonl", GOOD), skip_invalid=True), RLT, aside)
    assert not aside.exists()


def test_a_source_without_a_single_problem_is_refused_even_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="no row of 1 can be used"):
        read_problems(source(write_lines(tmp_path / "p.jsonl", "oops"), skip_invalid=True), RLT)
    with pytest.raises(ProblemError, match="no rows in it"):
        read_problems(source(write_lines(tmp_path / "empty.jsonl")), RLT)


def test_an_error_in_the_middle_of_a_file_leaves_no_half_written_side_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('question,answer\n,5\n"never closed,6\n')
    with pytest.raises(ProblemError, match="not CSV"):
        read_problems(source(path, skip_invalid=True), RLT, tmp_path / "aside.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(str.strip)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.fixed_dictionaries(
    {"question": TEXTS, "solution": TEXTS | TEXTS.map(lambda text: rf"{text} \boxed{{{text}}}")},
    optional={
        "answer": TEXTS | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "reasoning_trace": TEXTS | st.none() | TEXTS.map(lambda text: f"<think>{text}</think>"),
        "id": st.integers(),
        "metadata": st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3) | st.text(max_size=5),
        "source": JSON_VALUES,
    },
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=4), suffix=st.sampled_from([".jsonl", ".parquet"]))
def test_what_was_written_is_read_back_identically(
    rows: list[dict[str, Any]], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("written")
    problems = read_problems(source(write_lines(folder / "given.jsonl", *rows)), RLT)
    write_problems(problems, folder / f"ours{suffix}")
    again = read_problems(source(folder / f"ours{suffix}"), RLT)
    assert again == problems
    assert [problem.id for problem in again] == [problem.id for problem in problems]


def test_written_rows_begin_with_the_content_hash(tmp_path: Path) -> None:
    problem = Problem(question="1 + 1?", solution="2", metadata={"é": 1})
    write_problems([problem], tmp_path / "p.jsonl")
    text = (tmp_path / "p.jsonl").read_text(encoding="utf-8")
    assert text.startswith(f'{{"id": "{problem.id}", "question": "1 + 1?"')
    assert '{"é": 1}' in text


def test_other_suffixes_and_folders_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"written as \.jsonl or \.parquet"):
        write_problems([], tmp_path / "p.csv")
    (tmp_path / "p.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_problems([], tmp_path / "p.jsonl")


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with suppress(KeyError), whole_file(path) as file:
        file.write("half")
        raise KeyError
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as file:
        file.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_with_the_file_that_did_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "p.jsonl", GOOD)
    (tmp_path / "out.jsonl.tmp").symlink_to("/dev/full")
    assert rlt(["problems", "--problems", str(path), "--out", str(tmp_path / "out.jsonl")]) == 1
    told = capsys.readouterr().err
    assert "out.jsonl: No space left on device; free some space" in told
    assert told.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.jsonl"]


def test_rlt_problems_reports_what_it_read_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any] | str] = [
        {"question": "1 + 1?", "answer": "One and one is two.\n#### 2"},
        {"question": "?"},
        "oops",
    ]
    path, out = write_lines(tmp_path / "p.jsonl", *rows), tmp_path / "out.jsonl"
    assert rlt(["problems", "--problems", str(path), "--skip-invalid", "--out", str(out)]) == 0
    told = capsys.readouterr()
    for part in ("JSONL", "GSM8K", "3 read, 2 bad", "with trace   1", "with answer  1", "One and one is two."):
        assert part in told.out
    assert f"2 of 3 rows are bad and were left out (see {tmp_path / 'out.skipped.jsonl'})" in told.err
    assert len(list(read_rows(out))) == 1


def test_rlt_problems_complains_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "p.jsonl", {"question": "what is\n<think>?", "solution": "\n"})
    assert rlt(["problems", "--problems", str(path), "--tags", "think"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"rlt problems: no row of 1 can be used: {path}:1: ")
    assert told.count("\n") == 1


def real(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def test_all_of_gsm8k_is_read() -> None:
    intake = take_in(source(real("gsm8k/train.jsonl")), RLT)
    assert (intake.rows, intake.bad, len(intake.problems)) == (7473, 0, 7473)
    first = intake.problems[0]
    assert (first.solution, first.answer) == ("72", "72")
    assert first.reasoning_trace is not None
    assert first.reasoning_trace.startswith("Natalia sold 48/2 = 24 clips in May.\n")
    assert not any("<<" in (problem.reasoning_trace or "") for problem in intake.problems)


@pytest.mark.parametrize(("name", "count"), [("aime24", 30), ("amc23", 40)])
def test_all_of_the_competitions_are_read_with_whole_numbers_as_answers(name: str, count: int) -> None:
    problems = read_problems(source(real(f"{name}/test.jsonl")), RLT)
    assert len(problems) == count
    assert all((problem.answer or "").lstrip("-").isdigit() for problem in problems)
    solutions_are_answers = all(problem.solution == problem.answer for problem in problems)
    assert solutions_are_answers == (name == "amc23")
