"""`rlt coldstart`: what is rewarded, that it is learnt, that a run goes on exactly, and what goes wrong in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from student.coldstart import RightAnswer, main
from student.configs import ColdstartConfig, Grading, GrpoSettings, ModelSettings, RolloutSettings, SftConfig
from student.errors import OutputError, RltError
from student.grpo import ContextTooShort, TooFewProblems
from student.models import load_pair, load_tokenizer
from student.problem_files import write_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.reference import REFERENCE_FILE
from student.sft import TokenRow, train_sft
from student.tags import RLT, STYLES, THINK, TagStyle
from teacher.demo.initial import make_initial

PROBLEMS = [Problem(question=f"{start} +1", solution="4", answer="4") for start in range(8)]
"""To a model that writes 4 or 5 as the solution of each, half of its samples are right."""


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the toy world's shape that has learnt the form of an answer, and to answer 4 or 5 by chance."""
    folder = tmp_path_factory.mktemp("undecided")
    make_initial(folder / "initial", seed=0)
    model, tokenizer = load_pair(str(folder / "initial"), ModelSettings(device="cpu", threads=1))
    form = StudentFormat(tokenizer, RLT)
    rows = [
        TokenRow(form.prompt_ids(problem.question), form.completion_ids([], solution))
        for problem in PROBLEMS
        for solution in "45"
    ]
    sft = SftConfig(epochs=40, batch_size=16, rows_per_device=16, optimizer="muon", learning_rate=3e-3, max_tokens=64)
    train_sft(model, tokenizer, rows, folder / "student", sft)
    return folder / "student"


def settings(student: Path, out: Path, problems: Path, **grpo: Any) -> ColdstartConfig:
    recipe = {
        "steps": 8, "prompts_per_step": 2, "group_size": 8, "rows_per_device": 16, "learning_rate": 1e-3,
        "reference_sync_steps": 2, "save_steps": 2, "keep_checkpoints": 9,
    }  # fmt: skip
    return ColdstartConfig(
        problems=str(problems),
        student=str(student),
        out=str(out),
        device="cpu",
        threads=1,
        grading="exact",
        tracker="none",
        grpo=GrpoSettings(**(recipe | grpo)),
        rollout=RolloutSettings(max_tokens=12),
    )


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    write_problems(PROBLEMS, tmp_path / "problems.jsonl")
    return tmp_path / "problems.jsonl"


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_was_right_now_and_then_is_right_nearly_always(undecided: Path, problems: Path, tmp_path: Path) -> None:
    main(settings(undecided, tmp_path / "out", problems, steps=24))
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert 0.2 < report["right_first"] < 0.8
    assert report["right_last"] > 0.85
    assert (report["steps"], report["problems"], report["too_long"], report["unusable"]) == (24, 8, 0, 0)
    entries = log(tmp_path / "out")
    assert [entry["step"] for entry in entries] == list(range(1, 25))
    assert entries[0]["problems/solved"] == entries[0]["problems/mixed"] == 1.0
    assert entries[-1]["solution/missing"] < 0.2


@pytest.mark.parametrize("step", [2, 6])
def test_a_killed_run_goes_on_bitwise_in_every_epoch(
    undecided: Path, problems: Path, tmp_path: Path, step: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        main(settings(undecided, out, problems))  # four steps an epoch
    (killed / "config.json").unlink()
    (killed / "report.json").unlink()
    for checkpoint in killed.glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            (checkpoint / "trainer_state.json").unlink()
    main(settings(undecided, killed, problems))
    for file in ("model.safetensors", f"checkpoint-8/{REFERENCE_FILE}"):
        ours, theirs = load_file(whole / file), load_file(killed / file)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(*(load_file(out / "model.safetensors")["model.norm.weight"] for out in (whole, undecided)))
    assert [entry["step"] for entry in log(killed)] == list(range(1, 9))


def rewarded(tokenizer: PreTrainedTokenizerBase, tags: TagStyle, grading: Grading, *texts: str) -> list[float]:
    """The reward of these completions where 1/2 is right."""
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    reward = RightAnswer(tokenizer, STYLES[tags], grading, group_size=len(texts))
    return reward(completion_ids=ids, answer=["1/2"] * len(texts), log_metric=lambda name, value: None)


def test_an_answer_counts_in_the_solution_section_only(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    right, unclosed = f"{RLT.answer_open}1/2{RLT.answer_close}", f"{RLT.answer_open}1/2"
    other = f"{RLT.answer_open}2{RLT.answer_close}"
    half = f"{RLT.answer_open}It is \\boxed{{0.5}}.{RLT.answer_close}"
    in_thought = f"{RLT.thought_open}{right}{RLT.thought_close}{other}"
    assert rewarded(tokenizer, "rlt", "exact", right, unclosed, other, half, in_thought, "1/2") == [1, 0, 0, 0, 0, 0]
    assert rewarded(tokenizer, "rlt", "math", right, half, other, in_thought) == [1, 1, 0, 0]
    assert rewarded(
        tokenizer, "think", "math", f"{THINK.thought_open}so{THINK.thought_close}\\boxed{{1/2}}", right
    ) == [1, 0]


def test_what_cannot_be_trained_is_one_clear_error(undecided: Path, problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = settings(undecided, out, problems)
    with pytest.raises(TooFewProblems, match="8 usable problems, and a step takes 9"):
        main(settings(undecided, out, problems, prompts_per_step=9, group_size=16))
    with pytest.raises(ContextTooShort, match=r"rollout\.max_tokens 100 that does not fit into the model's context"):
        main(config.model_copy(update={"rollout": RolloutSettings(max_tokens=100)}))
    with pytest.raises(RltError, match="2 prompts x 8 samples do not divide into passes of 5 rows"):
        main(settings(undecided, out, problems, rows_per_device=5))
    assert not (out / "model.safetensors").exists()


def test_a_finished_run_is_not_run_again_and_other_settings_are_refused(
    undecided: Path, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(undecided, tmp_path / "out", problems, steps=1)
    main(config)
    main(config)
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"temperature was 1\.0, now 0\.5"):
        main(config.model_copy(update={"temperature": 0.5}))
