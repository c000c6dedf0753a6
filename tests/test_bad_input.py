"""What a careless or hostile user gives the command: one line that says what to do, and nothing half written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from student.cli import main
from student.problem_files import write_problems
from student.problems import Problem

ROW = {"question": "1 + 1?", "solution": "2"}


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "no rows in it"),
    "wrong columns": (lambda: jsonl({"text": "1 + 1?", "label": "2"}), "question"),
    "a line of 100 MB": (lambda: jsonl(ROW) + b'{"question": "' + b"a" * 100_000_000 + b'"}\n', "p.jsonl:2: "),
    "invalid UTF-8": (lambda: jsonl(ROW) + b'{"question": "caf\xe9", "solution": "2"}\n', "p.jsonl:2: "),
    "a tag in a question": (
        lambda: jsonl(ROW, {"question": "1 <|end_of_solution|> 1?", "solution": "2"}),
        "p.jsonl:2: .*<|end_of_solution|>",
    ),
    "an empty solution": (lambda: jsonl(ROW, {"question": "1 + 1?", "solution": " "}), "p.jsonl:2: .*solution"),
    "no JSON": (lambda: jsonl(ROW) + b"{question: 1}\n", "p.jsonl:2: "),
}


def complaint(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The single line on stderr."""
    told = capsys.readouterr()
    assert status == 1
    assert "Traceback" not in told.err
    [line] = told.err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_of_problems_stops_before_any_work(
    name: str, tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = BAD_FILES[name]
    problems, out = tmp_path / "p.jsonl", tmp_path / "out"
    problems.write_bytes(content())
    status = main(["warmup", "--problems", str(problems), "--model", str(tiny_model_folder), "--out", str(out)])
    line = complaint(capsys, status)
    assert line.startswith("rlt warmup: ")
    for part in expected.split(".*"):
        assert part in line
    assert len(line) < 1000
    assert not out.exists()


def test_bad_rows_are_set_aside_and_counted_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    problems.write_bytes(jsonl(ROW, {"question": "", "solution": "2"}) + b"{\n")
    assert main(["problems", "--problems", str(problems), "--out", str(out), "--skip-invalid"]) == 0
    assert "2 of 3 rows are bad" in capsys.readouterr().err
    aside = [json.loads(line) for line in (tmp_path / "out.skipped.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [2, 3]
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "verb",
    [
        ["warmup", "--model", "nowhere", "--problems"],
        ["train", "--student", "nowhere", "--teacher", "nowhere", "--problems"],
        ["explain", "--teacher", "nowhere", "--problems"],
        ["score", "--student", "nowhere", "--traces"],
        ["distill", "--student", "nowhere", "--explanations"],
        ["coldstart", "--student", "nowhere", "--problems"],
        ["evaluate", "--model", "nowhere", "--problems"],
    ],
    ids=lambda verb: verb[0],
)
def test_a_missing_model_is_named_by_every_verb(
    verb: list[str], tmp_path: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    problems, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    write_problems(tiny_problems, problems)
    line = complaint(capsys, main([*verb, str(problems), "--out", str(out)]))
    assert "'nowhere'" in line
    assert "no such folder" in line
    assert not out.exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB, of which little is left."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root can make a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half_written(
    full_disk: Path, tmp_path: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [problem.model_copy(update={"metadata": {"note": "x" * 4000}}) for problem in tiny_problems]
    write_problems(problems, tmp_path / "p.jsonl")
    line = complaint(
        capsys, main(["problems", "--problems", str(tmp_path / "p.jsonl"), "--out", str(full_disk / "out.jsonl")])
    )
    assert "No space left on device; free some space" in line
    assert list(full_disk.iterdir()) == []
