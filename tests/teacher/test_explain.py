"""`rlt explain` on a tiny model: whole, killed, refused; and what it makes of a teacher that closes its tags."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from student.cli import main as rlt
from student.configs import SamplingSettings
from student.engine import Request, Sample
from student.errors import ModelError, OutputError, ProblemError
from student.explanations import SCHEMA, Explanation, read_explanations
from student.models import load_tokenizer
from student.problem_files import write_problems
from student.problems import Problem
from student.tags import RLT, THINK
from teacher.configs import ExplainConfig
from teacher.explain import Byline, explain, main
from teacher.prompts import TeacherFormat

SAMPLING = SamplingSettings(temperature=1.0, max_tokens=12, batch_size=4, seed=5, engine="transformers")


@pytest.fixture
def problem_file(tmp_path: Path, tiny_problems: list[Problem]) -> Path:
    path = tmp_path / "problems.jsonl"
    write_problems(tiny_problems[:5], path)
    return path


def settings(problems: Path, teacher: Path, out: Path, **changes: object) -> ExplainConfig:
    values = {"problems": str(problems), "teacher": str(teacher), "out": str(out), "samples": 2, "device": "cpu"}
    return ExplainConfig.model_validate({**values, "threads": 1, "sampling": SAMPLING, **changes})


def rows_of(path: Path) -> list[Explanation]:
    return [Explanation.model_validate_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_every_problem_gets_its_samples_with_all_that_made_them(
    tmp_path: Path,
    tiny_model_folder: Path,
    problem_file: Path,
    tiny_problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "explanations.jsonl"
    main(settings(problem_file, tiny_model_folder, out))
    rows = rows_of(out)
    assert [row.id for row in rows] == [f"{problem.id}-{number}" for problem in tiny_problems[:5] for number in (0, 1)]
    assert [row.question for row in rows[::2]] == [problem.question for problem in tiny_problems[:5]]
    assert all(row.temperature == 1.0 and row.tags == "rlt" and row.teacher == str(tiny_model_folder) for row in rows)
    assert len({row.seed for row in rows}) == len({row.token_ids for row in rows}) == 10
    assert len({row.teacher_digest for row in rows}) == 1
    assert all(len(row.token_ids or ()) == 12 and not row.closed for row in rows)
    assert (
        "10 rows, 10 of them made now; 0.0% closed, 100.0% truncated, 12 tokens on average" in capsys.readouterr().out
    )
    assert read_explanations(str(out), RLT) == rows


def test_parquet_holds_the_same_rows(tmp_path: Path, tiny_model_folder: Path, problem_file: Path) -> None:
    main(settings(problem_file, tiny_model_folder, tmp_path / "a.jsonl"))
    main(settings(problem_file, tiny_model_folder, tmp_path / "a.parquet"))
    assert pq.read_schema(tmp_path / "a.parquet").equals(SCHEMA)
    assert read_explanations(str(tmp_path / "a.parquet"), RLT) == rows_of(tmp_path / "a.jsonl")
    assert not list(tmp_path.glob("*.partial"))


def test_a_complete_result_is_left_alone_and_other_settings_are_refused(
    tmp_path: Path,
    tiny_model_folder: Path,
    problem_file: Path,
    tiny_problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a.jsonl"
    config = settings(problem_file, tiny_model_folder, out)
    main(config)
    before = (out.read_bytes(), out.stat().st_mtime_ns)
    main(config)
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(OutputError, match="samples was 2, now 3"):
        main(settings(problem_file, tiny_model_folder, out, samples=3))
    write_problems(tiny_problems[5:10], problem_file)
    with pytest.raises(OutputError, match=r"a.jsonl:1: holds '.*-0' where the problems now ask for '.*-0'"):
        main(config)
    assert before == (out.read_bytes(), out.stat().st_mtime_ns)


KILLED = """
import sys
from teacher.configs import ExplainConfig
from teacher.explain import main
main(ExplainConfig.model_validate_json(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_writes_the_very_same_file(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    problems = tmp_path / "problems.jsonl"
    write_problems(tiny_problems[:30], problems)
    sampling = SAMPLING.model_copy(update={"max_tokens": 40})
    config = settings(problems, tiny_model_folder, tmp_path / "killed.jsonl", samples=4, sampling=sampling)
    partial = tmp_path / "killed.jsonl.partial"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, config.model_dump_json()], env=environment, stderr=subprocess.DEVNULL
    )
    while child.poll() is None and (not partial.exists() or partial.read_bytes().count(b"\n") < 8):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was to be killed before its end"
    with partial.open("ab") as torn:
        torn.write(b'{"id": "')
    written = partial.read_bytes().splitlines()[:8]
    main(config)
    main(config.model_copy(update={"out": str(tmp_path / "whole.jsonl")}))
    result = (tmp_path / "killed.jsonl").read_bytes()
    assert result == (tmp_path / "whole.jsonl").read_bytes()
    assert result.splitlines()[:8] == written
    assert len(result.splitlines()) == 120


def test_a_prompt_that_does_not_fit_is_a_row_that_says_so(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    long = Problem(question="How many? " * 2000, solution="4")
    write_problems([tiny_problems[0], long, tiny_problems[1]], tmp_path / "problems.jsonl")
    out = tmp_path / "a.jsonl"
    main(settings(tmp_path / "problems.jsonl", tiny_model_folder, out, samples=1))
    first, failed, last = rows_of(out)
    assert failed.error is not None
    assert "tokens and the model's context holds 1024; shorten the problem" in failed.error
    assert (failed.explanation, failed.token_ids, failed.closed, failed.finished) == ("", (), False, False)
    assert first.error is None
    assert last.error is None


def test_nothing_is_written_where_a_model_or_the_problems_are_missing(tmp_path: Path, problem_file: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        main(settings(problem_file, tmp_path / "no_model", tmp_path / "a.jsonl"))
    with pytest.raises(ProblemError, match="no such file"):
        main(settings(tmp_path / "none.jsonl", tmp_path, tmp_path / "a.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["problems.jsonl"]


class ScriptedTeacher:
    """An engine that writes the given tokens, one list a request."""

    name = "transformers"
    precision = "float32"
    context_tokens = None

    def __init__(self, texts: list[list[int]]) -> None:
        self._texts = texts

    def sample(self, requests: Sequence[Request], sampling: SamplingSettings) -> list[Sample]:
        return [Sample(ids, [], finished=True) for ids, _ in zip(self._texts, requests, strict=True)]

    def close(self) -> None: ...


def test_an_explanation_ends_before_its_first_end_tag(tiny_model_folder: Path, tiny_problems: list[Problem]) -> None:
    form = TeacherFormat(load_tokenizer(str(tiny_model_folder)), RLT)
    texts = ["3 and 2<|end_of_explanation|> more<|end_of_explanation|>", " 3 and no end ", "<|end_of_explanation|>"]
    engine = ScriptedTeacher([form.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts])
    rows = explain(engine, form, tiny_problems[:3], 1, SAMPLING, Byline("scripted", "none", "rlt", 1.0))
    assert [row.explanation for row in rows] == ["3 and 2", " 3 and no end ", ""]
    assert [row.closed for row in rows] == [True, False, True]
    assert [form.tokenizer.decode(list(row.token_ids or ())) for row in rows] == ["3 and 2", " 3 and no end ", ""]
    assert json.loads(rows[2].model_dump_json())["token_ids"] == []


def test_a_row_says_how_it_came_about_and_under_which_licence(
    tmp_path: Path, tiny_model_folder: Path, tiny_problems: list[Problem]
) -> None:
    named = tiny_problems[0].model_copy(update={"metadata": {"licence": "MIT"}})
    write_problems([named, tiny_problems[1]], tmp_path / "problems.jsonl")
    arguments = ["explain", "--problems", str(tmp_path / "problems.jsonl"), "--teacher", str(tiny_model_folder)]
    arguments += ["--out", str(tmp_path / "rows.parquet"), "--license", "CC-BY-4.0", "--device", "cpu"]
    assert rlt([*arguments, "--sampling.max-tokens", "4", "--sampling.top-p", "0.9"]) == 0
    first, second = read_explanations(str(tmp_path / "rows.parquet"), RLT)
    assert (first.license, second.license) == ("MIT", "CC-BY-4.0")
    made = first.provenance
    assert made is not None
    assert (made.engine, made.precision, made.top_p, made.max_tokens) == ("transformers", "float32", 0.9, 4)
    assert made.software is not None
    assert made.software.startswith("torch 2.")
    tokenizer = load_tokenizer(str(tiny_model_folder))
    assert made.prompt_digest == TeacherFormat(tokenizer, RLT).digest != TeacherFormat(tokenizer, THINK).digest
