"""`rlt train` as a user runs it: a real process, a real SIGTERM, a second start that goes on exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from student.problem_files import write_problems
from student.problems import Problem
from tests.teacher.rl import assert_bitwise_equal


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
