"""`rlt estimate` on a tiny model: the pilot's rows are the job's own, and `rlt explain` is told beside the estimate."""

from pathlib import Path
from typing import Any

import pytest

from student.cli import main as rlt
from student.configs import SamplingSettings
from student.errors import ConfigError, OutputError
from student.estimates import Estimate, read_estimate
from student.explanations import read_explanations
from student.problem_files import write_problems
from student.problems import Problem
from student.tags import RLT
from teacher.configs import EstimateConfig, ExplainConfig
from teacher.estimate import main, run_pilot
from teacher.explain import main as explain

SAMPLING = SamplingSettings(temperature=1.0, max_tokens=12, batch_size=8, seed=5, engine="transformers")


@pytest.fixture
def problem_file(tmp_path: Path, tiny_problems: list[Problem]) -> Path:
    path = tmp_path / "problems.jsonl"
    write_problems(tiny_problems[:20], path)
    return path


def settings(problems: Path, teacher: Path, **changes: Any) -> EstimateConfig:
    values = {"problems": str(problems), "teacher": str(teacher), "samples": 2, "device": "cpu", "threads": 1}
    return EstimateConfig.model_validate({**values, "sampling": SAMPLING, **changes})


def explained(problems: Path, teacher: Path, out: Path, **changes: Any) -> ExplainConfig:
    values = {"problems": str(problems), "teacher": str(teacher), "out": str(out), "samples": 2, "device": "cpu"}
    return ExplainConfig.model_validate({**values, "threads": 1, "sampling": SAMPLING, **changes})


def test_the_pilots_rows_are_rows_of_the_job(
    tmp_path: Path, tiny_model_folder: Path, problem_file: Path, tiny_problems: list[Problem]
) -> None:
    pilot = run_pilot(settings(problem_file, tiny_model_folder), tiny_problems[7:10], "any")
    explain(explained(problem_file, tiny_model_folder, tmp_path / "all.jsonl"))
    job = {row.id: row.token_ids for row in read_explanations(str(tmp_path / "all.jsonl"), RLT)}
    assert [row.token_ids for row in pilot.rows] == [
        job[f"{each.id}-{n}"] for each in tiny_problems[7:10] for n in (0, 1)
    ]
    assert [len(batch.lengths) for batch in pilot.batches][:3] == [3, 2, 1]
    assert {len(batch.lengths) for batch in pilot.batches[3:]} == {
        8,
        4,
    }  # it was short: timed again, as full as the job
    assert all(batch.seconds > 0 for batch in pilot.batches)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_what_explaining_took_is_told_beside_the_estimate(
    form: str, tmp_path: Path, tiny_model_folder: Path, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, out = tmp_path / "estimate.json", tmp_path / f"rows.{form}"
    everything = {"pilot": {"at_least": 20}, "form": form, "out": str(told)}
    main(settings(problem_file, tiny_model_folder, **everything))
    assert "20 problems, 40 rows; pilot of 20 problems" in capsys.readouterr().out
    explain(explained(problem_file, tiny_model_folder, out, estimate=str(told)))
    tokens = sum(len(row.token_ids or ()) for row in read_explanations(str(out), RLT))
    estimate = read_estimate(told)
    assert estimate.tokens.low == estimate.tokens.value == estimate.tokens.high == tokens
    assert f"tokens {tokens:,} of {tokens:,} ({tokens:,} to {tokens:,}): as estimated" in capsys.readouterr().out
    assert estimate.bytes.value == pytest.approx(out.stat().st_size, rel=0 if form == "jsonl" else 0.05)


def test_one_percent_within_the_bounds_is_tried_and_scored_where_a_student_is_named(
    tmp_path: Path, tiny_model_folder: Path, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["estimate", "--problems", str(problem_file), "--teacher", str(tiny_model_folder), "--device", "cpu"]
    arguments += ["--student", str(tiny_model_folder), "--sampling.max-tokens", "8", "--threads", "1"]
    assert rlt([*arguments, "--pilot.at-least", "4", "--out", str(tmp_path / "estimate.json")]) == 0
    estimate = read_estimate(tmp_path / "estimate.json")
    assert (estimate.problems, estimate.pilot_problems, estimate.rows) == (20, 4, 20)
    assert estimate.score_seconds is not None
    assert estimate.scored_bytes is not None
    assert estimate.scored_bytes.value > estimate.bytes.value
    printed = capsys.readouterr()
    assert "time to score" in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["estimate.json", "problems.jsonl"]


def test_an_estimate_of_another_job_is_refused_before_any_work(
    tmp_path: Path, tiny_model_folder: Path, problem_file: Path
) -> None:
    told = tmp_path / "estimate.json"
    main(settings(problem_file, tiny_model_folder, pilot={"at_least": 2}, out=str(told)))
    out = tmp_path / "rows.jsonl"
    with pytest.raises(ConfigError, match="is of 40 rows and these are 60"):
        explain(explained(problem_file, tiny_model_folder, out, samples=3, estimate=str(told)))
    other = read_estimate(told).model_copy(update={"teacher_digest": "other"})
    told.write_text(Estimate.model_validate(other).model_dump_json())
    with pytest.raises(ConfigError, match="another teacher's weights"):
        explain(explained(problem_file, tiny_model_folder, out, estimate=str(told)))
    assert not list(tmp_path.glob("rows.jsonl*"))


def test_a_problem_that_is_too_long_counts_as_empty(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems([*tiny_problems[:3], Problem(question="How many? " * 2000, solution="4")], tmp_path / "some.jsonl")
    main(settings(tmp_path / "some.jsonl", tiny_model_folder, out=str(tmp_path / "estimate.json")))
    assert "2 of the pilot's 8 rows are impossible" in capsys.readouterr().err
    assert read_estimate(tmp_path / "estimate.json").tokens.value == 3 * 2 * 12


def test_what_cannot_be_meant_is_refused(tmp_path: Path, tiny_model_folder: Path, problem_file: Path) -> None:
    with pytest.raises(ValueError, match="is more than at_most"):
        settings(problem_file, tiny_model_folder, pilot={"at_least": 9, "at_most": 8})
    with pytest.raises(OutputError, match=r"written as \.json"):
        main(settings(problem_file, tiny_model_folder, out=str(tmp_path / "estimate.txt")))
