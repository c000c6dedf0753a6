"""What each of two processes does in test_two_processes.py.

RL that SIGTERM stops in its third step, told to one process alone; the same run again, to its end; then distillation.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from student import processes
from student.configs import DistillConfig
from student.distill import main as distill
from student.interruption import Interrupted
from teacher.configs import TrainConfig
from teacher.grpo import Rollout
from teacher.train import main as train


def training(folder: Path, model: Path, rows_per_device: int) -> TrainConfig:
    """Five steps of RL of two problems, four explanations each."""
    grpo = {"steps": 5, "prompts_per_step": 2, "group_size": 4, "rows_per_device": rows_per_device}
    return TrainConfig.model_validate(
        {
            "problems": str(folder / "problems.jsonl"),
            "teacher": str(model),
            "student": str(model),
            "out": str(folder / f"teacher-{rows_per_device}"),
            "device": "cpu",
            "threads": 1,
            "tracker": "none",
            "skip_invalid": True,
            "reward": {"temperature": 1.0},
            "rollout": {"max_tokens": 12, "draws": "sample"},
            "grpo": grpo | {"learning_rate": 1e-2, "reference_sync_steps": 2, "save_steps": 4, "held_out": 4},
        }
    )


def distillation(folder: Path, model: Path, out: str) -> DistillConfig:
    """Seven steps of SFT of eight rows, into the second epoch."""
    sft = {"batch_size": 8, "max_steps": 7, "learning_rate": 1e-2, "log_steps": 1, "save_steps": 3}
    return DistillConfig.model_validate(
        {
            "explanations": str(folder / "problems.jsonl"),
            "student": str(model),
            "out": str(folder / out),
            "device": "cpu",
            "threads": 1,
            "skip_invalid": True,
            "sft": sft,
        }
    )


def sigterm_in_step_three(step: int, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
    """An observer of the second process."""
    if step == 2 and processes.index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return {}


def main(folder: Path, model: Path) -> None:
    """Both verbs, in this one of the two processes."""
    torch.set_num_threads(1)
    config = training(folder, model, rows_per_device=4)
    try:
        train(config, observers=[sigterm_in_step_three])
    except Interrupted as stopped:
        print(f"process {processes.index()}: {stopped}", flush=True)
    train(config)
    distill(distillation(folder, model, "student-2"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
