"""The best checkpoint by the reward on problems that were not trained on is kept, and a resumed run finds the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from student.errors import OutputError
from student.grpo import TooFewProblems
from student.models import load_pair
from student.problems import Problem
from teacher.held_out import BEST, FILE, BestCheckpoint
from tests.teacher.rl import CPU, assert_bitwise_equal, forget_after, run, settings


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / FILE).read_text().splitlines()]


def test_the_best_model_is_kept_and_a_resumed_run_measures_and_trains_the_same(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, whole, held_out=6))
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, resumed, held_out=6))
    forget_after(resumed, 2)
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, resumed, held_out=6))
    assert [line["step"] for line in lines(whole)] == [2, 4]
    assert lines(resumed) == lines(whole)
    assert_bitwise_equal(whole, resumed)
    best = max(lines(whole), key=lambda line: line["reward"])
    assert [line["best"] for line in lines(whole)] == [True, best["step"] == 4]
    assert_bitwise_equal(whole / BEST, whole / f"checkpoint-{best['step']}")
    model, _ = load_pair(str(whole / BEST), CPU)
    assert model.num_parameters() > 0
    assert not list((whole / BEST).glob("*optimizer*")) + list((whole / BEST).glob("reference*"))


def test_held_out_problems_are_not_trained_on(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    seen: set[str] = set()

    def note(step: int, rollouts: Any) -> dict[str, float]:
        seen.update(rollout.draft.question for rollout in rollouts)
        return {}

    held_out = {problem.question for problem in tiny_problems[-34:]}
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, tmp_path / "out", held_out=34), observers=[note])
    assert seen
    assert not seen & held_out


def test_too_many_of_them_leave_too_few(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path) -> None:
    with pytest.raises(TooFewProblems, match="1 usable problems, and a step takes 2"):
        run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, tmp_path / "out", held_out=39))


def test_a_lower_reward_does_not_replace_the_best(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path)
    for step, reward in ((1, -2.0), (2, -1.0), (3, -1.5)):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "model.safetensors").write_text(str(step))
        (checkpoint / "optimizer.pt").write_text("no part of a model")
        best.note(step, reward, checkpoint)
    assert [line["best"] for line in lines(tmp_path)] == [True, True, False]
    assert [(file.name, file.read_text()) for file in (tmp_path / BEST).iterdir()] == [("model.safetensors", "2")]


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"step": 1, "rew')
    with pytest.raises(OutputError, match=r"held_out\.jsonl: damaged"):
        BestCheckpoint(tmp_path).note(2, 0.0, tmp_path)
