import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from student.cli import main as rlt
from student.configs import ModelSettings, SftConfig
from student.distill import distill, prepare, thought_ids
from student.errors import ProblemError
from student.explanations import Explanation, from_trace
from student.models import load_pair, load_tokenizer
from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT, THINK


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model_folder))


@pytest.fixture
def student_format(tokenizer: PreTrainedTokenizerBase) -> StudentFormat:
    return StudentFormat(tokenizer, RLT)


def explained(**fields: Any) -> Explanation:
    values: dict[str, Any] = {
        "problem_id": "p",
        "sample": 0,
        "question": "What is 1 + 1?",
        "solution": "2",
        "explanation": "One and one are two.",
        "closed": True,
        "finished": True,
    }
    return Explanation.model_validate(values | fields)


def test_a_row_reads_question_thought_solution_and_ends(student_format: StudentFormat) -> None:
    [row] = prepare([explained()], student_format, "explanation").rows
    tokenizer = student_format.tokenizer
    assert row.prompt_ids == student_format.prompt_ids("What is 1 + 1?")
    assert tokenizer.decode(row.completion_ids) == (
        "<|begin_of_thought|>\n\nOne and one are two.<|end_of_thought|>\n\n"
        "<|begin_of_solution|>\n\n2\n\n<|end_of_solution|><|im_end|>"
    )


def test_with_no_thought_the_same_rows_hold_an_empty_one(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [explained(), explained(sample=1, closed=False)]
    lesson = prepare(rows, StudentFormat(tokenizer, THINK), "none")
    assert [tokenizer.decode(row.completion_ids) for row in lesson.rows] == ["<think>\n</think>\n\n2<|im_end|>"]


def test_sampled_tokens_are_kept_where_the_student_reads_the_teachers_tokens(student_format: StudentFormat) -> None:
    spelled = [token for letter in "One and one are two." for token in student_format.encode(letter)]
    assert spelled != student_format.encode("One and one are two.")
    assert thought_ids(explained(token_ids=spelled), student_format) == spelled


@pytest.mark.parametrize("foreign", [[5, 6, 7], [399, 400], [10**6]])
def test_tokens_of_another_vocabulary_are_replaced_by_the_text(
    student_format: StudentFormat, foreign: list[int]
) -> None:
    assert thought_ids(explained(token_ids=foreign), student_format) == student_format.encode("One and one are two.")


def test_unclosed_failed_and_unusable_rows_are_left_out_and_counted(
    student_format: StudentFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        explained(),
        explained(sample=1, closed=False, finished=False),
        explained(sample=2, explanation="", closed=False, finished=False, error="the prompt is too long"),
        explained(sample=3, explanation="stop <|im_end|> here"),
    ]
    lesson = prepare(rows, student_format, "explanation")
    assert (lesson.given, lesson.unclosed, lesson.unusable, len(lesson.rows)) == (4, 1, 2, 1)
    assert "explanation p-3 left out" in capsys.readouterr().err
    kept = prepare(rows, student_format, "explanation", keep_unclosed=True)
    assert (kept.unclosed, len(kept.rows)) == (1, 2)


def test_no_row_left_is_refused_with_the_reasons(student_format: StudentFormat) -> None:
    with pytest.raises(ProblemError, match=r"none of 1 .* \(1 unclosed, 0 unusable, 0 dropped"):
        prepare([explained(closed=False)], student_format, "explanation")


def test_a_student_is_distilled_in_process(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    student, tokenizer = load_pair(str(tiny_model_folder), ModelSettings(device="cpu"))
    rows = [from_trace(problem) for problem in tiny_problems]
    sft = SftConfig(epochs=3, batch_size=8, learning_rate=1e-2, log_steps=1)
    report = distill(student, tokenizer, rows, tmp_path, sft, tags=RLT)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert (report.rows, report.used, report.steps) == (40, 40, 15)
    assert report.final_loss < 0.7 * first["loss"]


SFT = ["--sft.epochs", "1", "--sft.batch-size", "8", "--sft.max-tokens", "400"]


def run(tmp_path: Path, tiny_model_folder: Path, *more: str) -> int:
    folders = ["--student", str(tiny_model_folder), "--out", str(tmp_path / "student")]
    return rlt(["distill", "--explanations", str(tmp_path / "rows.jsonl"), *folders, *SFT, *more])


def test_the_command_trains_reports_and_is_done_once(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [from_trace(problem) for problem in tiny_problems[:9]]
    rows[7] = rows[7].model_copy(update={"closed": False})
    rows[8] = rows[8].model_copy(update={"explanation": "word " * 500})
    (tmp_path / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    assert run(tmp_path, tiny_model_folder) == 0
    report = json.loads((tmp_path / "student" / "report.json").read_text())
    assert {name: report[name] for name in ("rows", "used", "too_long", "unclosed", "unusable", "steps")} == {
        "rows": 9,
        "used": 7,
        "too_long": 1,
        "unclosed": 1,
        "unusable": 0,
        "steps": 1,
    }
    assert report["trained_tokens"] > 0
    assert report["final_loss"] > 0
    assert "rows 9, used 7, too long 1" in capsys.readouterr().out
    load_pair(str(tmp_path / "student"), ModelSettings(device="cpu"))
    before = (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns
    assert run(tmp_path, tiny_model_folder) == 0
    assert "finished already" in capsys.readouterr().out
    assert (tmp_path / "student" / "model.safetensors").stat().st_mtime_ns == before
    assert run(tmp_path, tiny_model_folder, "--think", "none") == 1
    assert "think was 'explanation', now 'none'" in capsys.readouterr().err


def test_a_mistyped_input_binds_no_folder(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, tiny_model_folder) == 1
    assert "rows.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "student").exists()


def test_a_row_that_a_selection_turned_away_is_no_lesson(student_format: StudentFormat) -> None:
    lesson = prepare([explained(), explained(sample=1, dropped="leak 0.9")], student_format, "explanation")
    assert (len(lesson.rows), lesson.dropped, lesson.unusable) == (1, 1, 0)
