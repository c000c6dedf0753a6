"""What every trainer of a student does alike, whatever its loss: SFT (sft.py) and preferences (preferences.py).

Our optimizer and schedule, SIGTERM, checkpoints that are whole or absent, the stop where numbers are no longer finite,
and the model saved at the end. Mixed into TRL's trainers, which own the loop. Left out: losses and rows.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PrinterCallback, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from student import processes
from student.adapters import merged
from student.configs import SftConfig
from student.errors import ConfigError, RltError
from student.interruption import Interrupted, StopOnSigterm
from student.models import cast_parameters, move_in, quiet, training_device, whole_or_removed
from student.optimizer import make_optimizer, schedule_factor
from student.run_events import noted


def _on_a_numbered_cpu(stored: Any, place: str) -> Any:
    return stored if place.startswith("cpu:") else None


# Of several processes on a CPU accelerate calls each one's device cpu:0, cpu:1, ..., which is where transformers asks
# torch to put the optimizer of a checkpoint; torch knows only "cpu".
torch.serialization.register_package(11, lambda stored: None, _on_a_numbered_cpu)


class Diverged(RltError):
    """The loss or a weight is no longer a finite number."""


def shared_options(config: SftConfig, model: PreTrainedModel, out: Path) -> dict[str, Any]:
    """Our settings in the words that all of TRL's trainers share, but for the learning rate's course and Muon."""
    rows_at_once, accumulation = passes(config)
    return {
        "output_dir": str(out),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": config.learning_rate,
        "optim": "adamw_torch_fused",
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        "max_length": None,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": config.keep_checkpoints,
        "logging_steps": config.log_steps,
        # Transformers would put the mean of earlier losses in place of a NaN.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "seed": config.seed,
        "data_seed": config.seed,
        **_precision(model),
        **options_where_divided(),
    }


def options_where_divided() -> dict[str, Any]:
    """TRL's options for processes that divide a model among them.

    Gradients are divided after every backward pass: accelerate would else add them up whole, in each process.
    """
    each_pass = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return {"accelerator_config": each_pass} if processes.divide_models() else {}


def _precision(model: PreTrainedModel) -> dict[str, bool]:
    """TRL's flags for where `model` is and what it computes in."""
    device = training_device(model)
    on_cuda = device.type == "cuda"
    return {
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": on_cuda,
        "bf16": model.dtype == torch.bfloat16,
        "fp16": model.dtype == torch.float16 and on_cuda,
    }


def passes(config: SftConfig, devices: int | None = None) -> tuple[int, int]:
    """Rows at once on each device, and passes an optimizer step: their product with the devices is `batch_size`.

    The rows at once are the largest divisor of a device's share that `rows_per_device` allows.

    >>> passes(SftConfig(batch_size=96, rows_per_device=8), devices=2), passes(SftConfig(batch_size=9), devices=1)
    ((8, 6), (3, 3))
    """
    devices = devices or processes.count()
    share, rest = divmod(config.batch_size, devices)
    if rest:
        raise ConfigError(f"sft.batch_size: must be a multiple of the {devices} devices, got {config.batch_size}")
    at_once = max(rows for rows in range(1, min(share, config.rows_per_device) + 1) if share % rows == 0)
    return at_once, share // at_once


@contextmanager
def training(model: PreTrainedModel, *, whole: bool = True) -> Iterator[None]:
    """Holds the weights of `model` in float32, and gives it back in eval mode, without gradients or wrappers.

    Not `whole`, only an adapter is trained, and the weights stay in their precision.

    TRL and accelerate hang wrappers on `model.forward` and leave them there, and the deep copy of a wrapped model calls
    the forward, and so the weights, of the original.
    """
    if whole:
        cast_parameters(model, torch.float32)
    before = set(vars(model))
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            if name not in before:
                vars(model).pop(name, None)
        if model.is_gradient_checkpointing:
            model.gradient_checkpointing_disable()
        model.zero_grad(set_to_none=True)
        model.eval()


class CarefulTrainer(Trainer):
    """What a trainer of ours does like any other, mixed into one of TRL's: `class Ours(CarefulTrainer, SFTTrainer)`."""

    # As TRL's trainers have them, once they are made: transformers allows for more.
    model: Any
    args: Any
    optimizer: Any

    def __init__(self, *, settings: SftConfig, **trl: Any) -> None:
        self._settings = settings
        super().__init__(**trl)
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Nobody is told that this trainer was made."""

    def create_model_card(self, *names: Any, **options: Any) -> None:
        """A checkpoint is no place for a README."""

    def run(self, checkpoint: Path | None) -> None:
        """Trains to the end, from `checkpoint` on if there is one; raises Interrupted after SIGTERM, Diverged."""
        stop = StopOnSigterm()
        self.add_callback(stop)
        with noted(self):
            try:
                self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            finally:
                stop.restore()
            if stop.stopped:
                raise Interrupted(self.state.global_step, self.state.max_steps)
            self._check_weights()

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """AdamW as TRL makes it, or Muon for the matrices."""
        if self._settings.optimizer == "muon":
            self.optimizer = make_optimizer(self.model if model is None else model, self._settings)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """The learning rate's course, `schedule_factor`."""
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda step: schedule_factor(step, num_training_steps, self._settings)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, *inputs: Any, **options: Any) -> Tensor:
        """One backward pass; raises Diverged where its loss is not a finite number."""
        loss: Tensor = super().training_step(*inputs, **options)
        if not torch.isfinite(loss):
            self._diverge(f"the loss is {loss.item()}")
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves, but neither broken weights nor, after the last step, what the finished model is about to repeat."""
        self._check_weights()
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.state.global_step < self.state.max_steps:
            with whole_or_removed(folder), quiet():
                super()._save_checkpoint(model, trial)

    def _check_weights(self) -> None:
        broken = [name for name, weight in self.model.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            self._diverge(f"{len(broken)} weights are not finite (first: {broken[0]})")

    def _diverge(self, reason: str) -> NoReturn:
        raise Diverged(
            f"training diverged in step {self.state.global_step + 1}: {reason}; lower learning_rate "
            f"({self._settings.learning_rate:g}) or look for damaged rows; what was saved before is kept"
        )

    def save_into(self, out: Path, dtype: torch.dtype) -> None:
        """Saves model and tokenizer into `out` in precision `dtype`, then removes the checkpoints."""
        save_trained(self, out, dtype)
        if self.is_world_process_zero():
            for checkpoint in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
                shutil.rmtree(checkpoint)


def save_trained(trainer: Trainer, out: Path, dtype: torch.dtype) -> None:
    """Saves a trainer's model and tokenizer into `out` in precision `dtype`, config.json last.

    Every process takes part, because the weights may be spread over them; spread weights stay in float32. An adapter is
    merged first.
    """
    if isinstance(trainer.model, PeftModel):
        trainer.model = merged(trainer.model)
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        assert isinstance(trainer.model, nn.Module)
        cast_parameters(trainer.model, dtype)
    writing = out / "model.partial"
    if trainer.is_world_process_zero():
        shutil.rmtree(writing, ignore_errors=True)
    with whole_or_removed(writing), quiet():
        trainer.save_model(str(writing))
    if trainer.is_world_process_zero():
        (writing / "training_args.bin").unlink()
        move_in(writing, out)
