"""`rlt train` as a user runs it: a real process, a real SIGTERM, a second start that goes on exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import pytest
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from student.cli import main
from student.configs import RolloutSettings, ScoringSettings
from student.engine import context_tokens
from student.grpo import ContextTooShort, refuse_beyond_context
from student.models import load_model, load_pair
from student.problem_files import write_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.rewards import understanding
from student.scoring.scorer import Scorer
from student.tags import STYLES
from teacher.grpo import Rollout
from teacher.train import trl_config
from tests.other_tokens import byte_tokenizer, save_tiny_model
from tests.teacher.rl import CPU, assert_bitwise_equal, run, settings, weights


@pytest.fixture
def command(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path) -> list[str]:
    write_problems(tiny_problems, tmp_path / "problems.jsonl")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        [train]
        problems = "{tmp_path / "problems.jsonl"}"
        teacher = "{tiny_model_folder}"
        student = "{tiny_model_folder}"
        out = "unset"
        device = "cpu"
        threads = 1
        reward = {{ temperature = 1.0 }}
        rollout = {{ max_tokens = 12 }}
        grpo.steps = 12
        grpo.prompts_per_step = 2
        grpo.group_size = 4
        grpo.rows_per_device = 8
        grpo.learning_rate = 1e-2
        grpo.reference_sync_steps = 3
        grpo.save_steps = 50
        """
    )
    return [sys.executable, "-m", "student.cli", "train", "--config", str(recipe), "--tracker", "none", "--out"]


def run_to_the_end(command: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, str(out)], capture_output=True, text=True, timeout=300, check=False)


def steps_logged(out: Path) -> list[int]:
    metrics = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in metrics.read_text().splitlines()] if metrics.exists() else []


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_saves_and_goes_on_bitwise(command: list[str], tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run_to_the_end(command, whole).returncode == 0
    process = subprocess.Popen([*command, str(stopped)], stderr=subprocess.PIPE, text=True)
    while len(steps_logged(stopped)) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "stopped by SIGTERM after step" in errors.splitlines()[-1]
    assert not (stopped / "model.safetensors").exists()

    again = run_to_the_end(command, stopped)
    assert again.returncode == 0, again.stderr
    assert_bitwise_equal(whole, stopped)
    assert steps_logged(stopped) == steps_logged(whole) == list(range(1, 13))


@pytest.mark.slow
def test_a_finished_run_is_not_run_again_and_other_settings_are_refused(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_to_the_end(command, out).returncode == 0
    report = json.loads((out / "report.json").read_text())
    assert report["steps"] == 12
    assert {"reward_first", "reward_last"} <= report.keys()
    again = run_to_the_end(command, out)
    assert again.returncode == 0
    assert "finished already" in again.stdout
    other = run_to_the_end([*command[:-1], "--reward.kl-weight", "5", "--out"], out)
    assert other.returncode == 1
    assert "reward.kl_weight was 3.0, now 5.0" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.fixture(scope="module")
def byte_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads bytes."""
    return save_tiny_model(byte_tokenizer(), tmp_path_factory.mktemp("byte_model"))


def test_a_teacher_learns_from_a_student_with_another_tokenizer(
    tiny_model_folder: Path, byte_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    seen: list[Rollout] = []

    def keep(step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        seen.extend(rollouts)
        return {}

    student, tokenizer = load_pair(str(byte_model_folder), CPU)
    trainer = run(
        tiny_model_folder,
        tiny_problems,
        settings(tiny_model_folder, tmp_path / "run", steps=2),
        student,
        observers=[keep],
        student_tokenizer=tokenizer,
    )
    assert trainer.state.global_step == 2
    assert not torch.equal(*(weights(each)["model.norm.weight"] for each in (tiny_model_folder, tmp_path / "run")))
    reads, scorer = StudentFormat(tokenizer, STYLES["rlt"]), Scorer(student, ScoringSettings())
    assert len(seen) == 16
    for draft, score in ((rollout.draft, rollout.score) for rollout in seen):
        passage = reads.read(draft.question, byte_tokens(draft.explained.text), draft.solution)
        [alone] = scorer.logps([passage], 1.0)
        assert (score.ss_mean, score.ss_min) == pytest.approx(understanding(alone.solution_S), abs=1e-4)
        sampled = len(draft.explained.explanation_ids)
        assert draft.teacher_logps_E is not None
        if draft.explained.text:
            assert sampled == draft.explained.sampled_tokens  # nobody writes an end tag by chance
            nats = draft.teacher_logps_E[:sampled].sum() - alone.explanation_E.sum()
            assert score.kl_mean == pytest.approx(nats.item() / sampled, abs=1e-3)


def byte_tokens(text: str) -> list[int]:
    """The tokens of its bytes, one by one."""
    table = bytes_to_unicode()
    ids: list[int] = byte_tokenizer().convert_tokens_to_ids([table[byte] for byte in normalize("NFC", text).encode()])
    return ids


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that `rlt train` ends with."""
    assert main(["train", "--device", "cpu", "--tracker", "none", *words]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def test_the_exact_kl_of_a_student_with_other_tokens_is_refused_before_any_work(
    tiny_model_folder: Path,
    byte_model_folder: Path,
    tiny_problems: list[Problem],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_problems(tiny_problems, tmp_path / "problems.jsonl")
    paths = ["--problems", str(tmp_path / "problems.jsonl"), "--out", str(tmp_path / "out")]
    models = ["--teacher", str(tiny_model_folder), "--student", str(byte_model_folder)]
    line = complaint(capsys, *paths, *models, "--reward.kl-estimator", "exact", "--rollout.max-tokens", "12")
    assert line.startswith("rlt train: reward.kl_estimator is 'exact'")
    assert "different tokenizers; use kl_estimator k1 or k3, or a student with the teacher's tokenizer" in line
    assert not (tmp_path / "out").exists()


def test_explanations_that_would_not_fit_the_teacher_are_told_before_training(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems(tiny_problems, tmp_path / "problems.jsonl")
    paths = ["--problems", str(tmp_path / "problems.jsonl"), "--out", str(tmp_path / "out")]
    models = ["--teacher", str(tiny_model_folder), "--student", str(tiny_model_folder)]
    line = complaint(capsys, *paths, *models, "--grpo.prompts-per-step", "2", "--rollout.max-tokens", "1000")
    assert line.startswith("rlt train: rollout: the longest prompt has ")
    assert "rollout.max_tokens 1000 that does not fit into the model's context of 1024" in line
    assert line.endswith("or leave longer prompts out with rollout.max_prompt_tokens 24")
    line = complaint(capsys, *paths, *models, "--grpo.prompts-per-step", "2")  # the paper's 16,384
    assert line.endswith("context of 1024; lower rollout.max_tokens")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_what_just_fits_the_teacher_is_not_refused() -> None:
    prompts = {"short": [1] * 10, "long": [1] * 100}
    refuse_beyond_context(prompts, RolloutSettings(max_tokens=924), 1024)
    refuse_beyond_context(prompts, RolloutSettings(max_tokens=924), None)
    with pytest.raises(ContextTooShort, match=r"has 100 tokens, .*924 .*context of 1023; .*max_prompt_tokens 99$"):
        refuse_beyond_context(prompts, RolloutSettings(max_tokens=924), 1023)


def test_vllm_is_never_asked_for_more_than_the_model_s_context(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_model_folder), CPU)
    assert context_tokens(model.config) == 1024
    config = settings(tiny_model_folder, tmp_path / "run")
    for prompt, longest in ((16_384, 1024), (700, 712)):
        rollout = RolloutSettings(max_tokens=12, max_prompt_tokens=prompt)
        made = trl_config(config.model_copy(update={"rollout": rollout}), model)
        assert made.vllm_max_model_length == longest
