"""A few steps of real RL on a tiny model, for the tests of training."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from student.configs import ModelSettings, RewardConfig, RolloutSettings
from student.models import load_model, load_pair
from student.problems import Problem
from student.scoring.scorer import Scorer
from teacher.configs import GrpoConfig, TrainConfig
from teacher.grpo import TeacherTrainer
from teacher.train import train

CPU = ModelSettings(device="cpu", threads=1)


def settings(folder: Path, out: Path, **grpo: Any) -> TrainConfig:
    recipe = {
        "steps": 4, "prompts_per_step": 2, "group_size": 4, "rows_per_device": 8, "learning_rate": 1e-2,
        "reference_sync_steps": 2, "save_steps": 2, "keep_checkpoints": 9, "beta": 0.04,
    }  # fmt: skip
    return TrainConfig(
        problems="unused",
        teacher=str(folder),
        student=str(folder),
        out=str(out),
        device="cpu",
        threads=1,
        tracker="none",
        reward=RewardConfig(temperature=1.0),
        rollout=RolloutSettings(max_tokens=12),
        grpo=GrpoConfig(**(recipe | grpo)),
    )


def run(
    folder: Path, problems: list[Problem], config: TrainConfig, student: PreTrainedModel | None = None, **options: Any
) -> TeacherTrainer:
    torch.manual_seed(0)
    teacher, tokenizer = load_pair(str(folder), CPU)
    scorer = Scorer(student or load_model(str(folder), CPU), config.scoring)
    return train(teacher, tokenizer, scorer, problems, config, **options)


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model.safetensors")


def assert_bitwise_equal(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def forget_after(out: Path, step: int) -> None:
    """Leaves `out` as a run killed right after the checkpoint of `step` would."""
    (out / "config.json").unlink()
    for checkpoint in out.glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            (checkpoint / "trainer_state.json").unlink()
