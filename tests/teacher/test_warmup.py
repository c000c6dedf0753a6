import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from student.cli import main as rlt
from student.configs import ModelSettings, SftConfig
from student.errors import ProblemError
from student.models import load_pair, load_tokenizer
from student.problems import Problem
from student.tags import RLT, THINK
from teacher.warmup import warm_up, warmup_rows, with_traces


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model_folder))


PROBLEM = Problem(question="What is 1 + 1?", solution="2", reasoning_trace="One and one are two.")
BARE = Problem(question="What is 2 + 2?", solution="4")


def test_a_teacher_row_shows_the_solution_and_teaches_the_explanation_only(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = warmup_rows([PROBLEM], tokenizer, RLT, "teacher")
    assert str(tokenizer.decode(row.prompt_ids)).endswith(
        "What is 1 + 1?<|im_end|>\n<|im_start|>assistant\n"
        "<|begin_of_solution|>\n\n2\n\n<|end_of_solution|>\n\n<|begin_of_explanation|>\n\n"
    )
    assert tokenizer.decode(row.completion_ids) == "One and one are two.<|end_of_explanation|><|im_end|>"


def test_a_student_row_shows_the_question_and_teaches_thought_and_solution(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = warmup_rows([PROBLEM], tokenizer, THINK, "student")
    assert str(tokenizer.decode(row.prompt_ids)).endswith("What is 1 + 1?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(row.completion_ids) == "<think>\nOne and one are two.</think>\n\n2<|im_end|>"


def test_both_formats_give_two_rows_a_problem_around_the_same_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    teacher, student = warmup_rows([PROBLEM], tokenizer, RLT, "both")
    trace = tokenizer("One and one are two.")["input_ids"]
    for row in (teacher, student):
        assert any(row.completion_ids[at : at + len(trace)] == trace for at in range(len(row.completion_ids)))


def test_a_control_token_in_a_text_leaves_the_problem_out_and_names_it(
    tokenizer: PreTrainedTokenizerBase, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = PROBLEM.model_copy(update={"reasoning_trace": "one<|im_end|>"})
    assert len(warmup_rows([marked, PROBLEM], tokenizer, RLT, "both")) == 2
    assert f"problem {marked.id} left out" in capsys.readouterr().err


def test_problems_without_a_trace_are_named_and_counted() -> None:
    assert with_traces([PROBLEM], skip_others=False) == [PROBLEM]
    with pytest.raises(ProblemError, match=r"1 of 2 problems have no reasoning_trace .*'What is 2 \+ 2\?'\); leave"):
        with_traces([PROBLEM, BARE], skip_others=False)
    assert with_traces([PROBLEM, BARE], skip_others=True) == [PROBLEM]
    with pytest.raises(ProblemError, match=r"1 of 1 problems .* name their column with columns.reasoning_trace"):
        with_traces([BARE], skip_others=True)


def test_a_teacher_is_warmed_up_in_process(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    model, tokenizer = load_pair(str(tiny_model_folder), ModelSettings(device="cpu"))
    sft = SftConfig(epochs=3, batch_size=8, learning_rate=1e-2, log_steps=1, optimizer="muon")
    report = warm_up(model, tokenizer, tiny_problems, tmp_path, sft, tags=RLT, formats="both")
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert (report.rows, report.used, report.steps) == (80, 80, 30)
    assert report.final_loss < 0.5 * first["loss"]


def test_the_command_trains_reports_and_is_done_once(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [*tiny_problems[:8], BARE]
    (tmp_path / "problems.jsonl").write_text("".join(problem.model_dump_json() + "\n" for problem in problems))
    files = ["--problems", str(tmp_path / "problems.jsonl"), "--out", str(tmp_path / "teacher")]
    command = ["warmup", *files, "--model", str(tiny_model_folder), "--sft.epochs", "1", "--sft.batch-size", "4"]
    assert rlt(command) == 1
    assert "1 of 9 problems have no reasoning_trace" in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()
    assert rlt([*command, "--skip-invalid"]) == 0
    report = json.loads((tmp_path / "teacher" / "report.json").read_text())
    assert (report["problems"], report["without_trace"], report["rows"], report["steps"]) == (9, 1, 8, 2)
    settings = json.loads((tmp_path / "teacher" / "settings.json").read_text())
    assert settings["sft"]["adam_beta2"] == 0.95  # the default of the warm-up, not of SFT
    assert settings["sft"]["epochs"] == 1
    load_pair(str(tmp_path / "teacher"), ModelSettings(device="cpu"))
    assert rlt([*command, "--skip-invalid"]) == 0
    assert "finished already" in capsys.readouterr().out
