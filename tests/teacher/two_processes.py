"""What each of two processes does in test_two_processes.py.

RL that SIGTERM stops in its third step, told to one process alone; the same run again, to its end; then distillation.
All of it with the whole model in each process, with the model divided by FSDP2, and divided by ZeRO-3.

    python -m torch.distributed.run --nproc_per_node=2 -m tests.teacher.two_processes FOLDER MODEL OUT [PART ...]
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from student import processes
from student.configs import DistillConfig
from student.distill import main as distill
from student.interruption import Interrupted
from teacher.configs import TrainConfig
from teacher.grpo import Rollout
from teacher.train import main as train

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "scale"


def training(folder: Path, model: Path, out: str, rows_per_device: int = 4) -> TrainConfig:
    """Five steps of RL of two problems, four explanations each."""
    grpo = {"steps": 5, "prompts_per_step": 2, "group_size": 4, "rows_per_device": rows_per_device}
    return TrainConfig.model_validate(
        {
            "problems": str(folder / "problems.jsonl"),
            "teacher": str(model),
            "student": str(model),
            "out": str(folder / f"teacher-{out}"),
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
    """Seven steps of SFT of eight rows, two at once, into the second epoch."""
    sft = {"batch_size": 8, "rows_per_device": 2, "max_steps": 7, "learning_rate": 1e-2}
    return DistillConfig.model_validate(
        {
            "explanations": str(folder / "problems.jsonl"),
            "student": str(model),
            "out": str(folder / f"student-{out}"),
            "device": "cpu",
            "threads": 1,
            "skip_invalid": True,
            "sft": sft | {"log_steps": 1, "save_steps": 3},
        }
    )


def sigterm_in_step_three(step: int, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
    """An observer of the second process."""
    if step == 2 and processes.index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return {}


def stop(folder: Path, model: Path, out: str) -> None:
    """RL until the signal comes."""
    try:
        train(training(folder, model, out), observers=[sigterm_in_step_three])
    except Interrupted as stopped:
        print(f"{out}, process {processes.index()}: {stopped}", flush=True)


def go_on(folder: Path, model: Path, out: str) -> None:
    """The rest of it."""
    train(training(folder, model, out))


def learn(folder: Path, model: Path, out: str) -> None:
    """Distillation."""
    distill(distillation(folder, model, out))


def divide_by_fsdp2() -> None:
    """Does what `accelerate launch --config_file fsdp2.yaml` does before it starts a process, but for bfloat16.

    accelerate has FSDP for GPUs alone and would take its settings for nothing on CPUs, where PyTorch has it too; so it
    is told that these are GPUs.
    """
    command = ["--config_file", str(EXAMPLES / "fsdp2.yaml"), "-m", "student.cli", "train"]
    launch, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    launched = prepare_multi_gpu_env(launch).items()
    os.environ.update({name: value for name, value in launched if "FSDP" in name})
    made = PartialState.__init__

    def made_of_gpus(self: PartialState, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.device = DistributedType.MULTI_GPU, torch.device("cpu")

    PartialState.__init__ = made_of_gpus


def divide_by_zero3() -> None:
    """Does what `accelerate launch --config_file zero3.yaml` does before it starts a process, but for bfloat16.

    DeepSpeed takes CPUs (DS_ACCELERATOR=cpu), but not from accelerate, which leaves them to PyTorch; so it is made to
    know the processes first.
    """
    import deepspeed

    command = ["--config_file", str(EXAMPLES / "zero3.yaml"), "-m", "student.cli", "train"]
    launch, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    launch.mixed_precision, launch.num_machines = "no", 1
    launch.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    _, launched = prepare_deepspeed_cmd_env(launch)
    os.environ.update({name: value for name, value in launched.items() if "DEEPSPEED" in name})
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)


WAYS = {"two": lambda: None, "divided": divide_by_fsdp2, "zero3": divide_by_zero3}
PARTS = {part.__name__: part for part in (stop, go_on, learn)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, model, out, *parts = sys.argv[1:]
    WAYS[out]()
    for part in parts or PARTS:
        PARTS[part](Path(folder), Path(model), out)
    torch.distributed.destroy_process_group()  # DeepSpeed's own, left to the interpreter's end, aborts now and then
