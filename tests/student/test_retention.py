"""What training made a student forget is measured, named and kept; a finished run can be asked for it later."""

import json
from pathlib import Path

import pytest

from student.cli import main as rlt
from student.compare import Comparison
from student.explanations import Explanation, from_trace
from student.problems import Problem

SFT = ["--tags", "think", "--think", "none", "--threads", "1", "--sft.batch-size", "8"]
LONG_ENOUGH = ["--sft.epochs", "60", "--sft.learning-rate", "1e-2"]
SUITE = ["--retention.grading", "exact", "--retention.samples", "1", "--retention.sampling.temperature", "0"]


def answered(problems: list[Problem], answer: str) -> list[Problem]:
    """The first eight questions, with one answer to all."""
    return [Problem(question=each.question, solution=answer, reasoning_trace="none") for each in problems[:8]]


def write(path: Path, rows: list[Problem] | list[Explanation]) -> str:
    path.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def knows_x(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that answers x to everything."""
    folder = tmp_path_factory.mktemp("knows_x")
    rows = write(folder / "x.jsonl", [from_trace(each) for each in answered(tiny_problems, "x")])
    told = ["--explanations", rows, "--student", str(tiny_model_folder), "--out", str(folder / "student")]
    assert rlt(["distill", *told, *SFT, *LONG_ENOUGH]) == 0
    return folder / "student"


@pytest.fixture
def command(knows_x: Path, tiny_problems: list[Problem], tmp_path: Path) -> list[str]:
    """Teaches it to answer y instead."""
    rows = write(tmp_path / "y.jsonl", [from_trace(each) for each in answered(tiny_problems, "y")])
    told = ["--explanations", rows, "--student", str(knows_x), "--out", str(tmp_path / "out")]
    return ["distill", *told, *SFT, *LONG_ENOUGH]


@pytest.fixture
def suite(tiny_problems: list[Problem], tmp_path: Path) -> list[str]:
    """Six questions whose answer was x, and two whose answer is y."""
    mixed = [*answered(tiny_problems, "x")[:6], *answered(tiny_problems, "y")[6:]]
    path = write(tmp_path / "suite.jsonl", mixed)
    return ["--retention.problems", path, *SUITE, "--retention.sampling.max-tokens", "60"]


def test_what_was_forgotten_is_measured_named_and_kept_in_the_runs_report(
    command: list[str], suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rlt([*command, *suite]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = report["retention"]
    # of 8 problems six went from right to wrong and two the other way: 2/8 - 6/8
    assert (found["before"], found["after"], found["gained"], found["lost"]) == (0.75, 0.25, 2, 6)
    assert found["difference"]["value"] == -0.5
    assert found["difference"]["low"] < -0.5 < found["difference"]["high"]
    assert report["used"] == 8
    kept = Comparison.model_validate_json((tmp_path / "out" / "retention" / "comparison.json").read_text())
    assert [(each.answer, each.first, each.second) for each in kept.lost_problems] == [("x", 1, 0)] * 6
    assert [each.answer for each in kept.gained_problems] == ["y", "y"]
    assert f"forgotten: {kept.lost_problems[0].problem_id}, " in capsys.readouterr().out
    assert (tmp_path / "out" / "retention" / "before" / "generations.jsonl").is_file()


def test_a_finished_run_is_asked_later_and_not_trained_again(
    command: list[str], suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rlt(command) == 0
    weights = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert rlt([*command, *suite]) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["retention"]["lost"] == 6
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == weights
    capsys.readouterr()
    assert rlt([*command, *suite]) == 0
    assert capsys.readouterr().out.count("is complete already") == 2
    assert rlt([*command, *suite, "--retention.samples", "2"]) == 1
    assert "samples was 1, now 2" in capsys.readouterr().err


def test_a_suite_that_cannot_be_read_stops_before_training(
    command: list[str], suite: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rlt([*command, *suite, "--retention.problems", str(tmp_path / "nowhere.jsonl")]) == 1
    assert "nowhere.jsonl" in capsys.readouterr().err
    assert rlt([*command, "--retention.samples", "2"]) == 1
    assert "--retention.problems: is required" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_process_measures_it(
    command: list[str], suite: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rlt([*command, *suite]) == 1
    assert "retention: is measured by one process and this run has 2; leave it out" in capsys.readouterr().err
