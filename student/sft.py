"""Supervised fine-tuning of a causal LM on completions: TRL's SFTTrainer, used thinly.

    loss = - sum over completion tokens t of a step's rows of log p(t | all before t) / number of those tokens

Used for distillation (student/distill.py), the teacher's warm-up (teacher/warmup.py) and the demo. What comes in is
token ids, so no template, tag or truncation happens here: a row that is too long is left out and counted. A run that
was killed goes on from its last checkpoint and ends, on a CPU, with the same bits as one that was not. Left out on
purpose: packing, evaluation during training, adapters.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from student.checkpoints import last_checkpoint
from student.config import Config, remember
from student.configs import SftConfig
from student.errors import ConfigError, ProblemError, RltError
from student.interruption import Interrupted, StopOnSigterm
from student.metrics import MetricsFile, ProgressBar
from student.models import cast_parameters, move_in, quiet, whole_or_removed
from student.optimizer import make_optimizer, schedule_factor

IGNORED = -100
"""The label of a token that the loss does not count."""

SMALL_VOCABULARY = 8192
"""Up to this size all logits of a step are held at once on a CPU."""


@dataclass(frozen=True)
class TokenRow:
    """What the model is given, and what it learns to write after it (end token included)."""

    prompt_ids: list[int]
    completion_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class SftReport:
    """What a training run did. After a resume, `seconds` counts from there."""

    rows: int
    used: int
    too_long: int
    trained_tokens: int
    """Completion tokens of the rows used, times the passes made over them."""
    steps: int
    seconds: float
    final_loss: float
    """Nats a completion token, mean over the last logged steps."""


class Diverged(RltError):
    """The loss or a weight is no longer a finite number."""


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenRow],
    out: Path,
    config: SftConfig,
    *,
    title: str = "sft",
) -> SftReport:
    """Trains `model` in place on `rows` and saves it, with its tokenizer, into the folder `out`.

    Meanwhile `out` holds metrics.jsonl, training.json (what is trained, so that another run does not go on from it) and
    checkpoints, which are removed once the model is saved. Weights are held in float32 during training; a model that
    came in bfloat16 or float16 computes in that and is saved in it.
    Raises ProblemError where no row is short enough, OutputError where `out` holds another run's checkpoints,
    Interrupted after SIGTERM, Diverged, before anything is saved, where the loss is not finite.
    """
    used = fitting(rows, _longest(model, config))
    out.mkdir(parents=True, exist_ok=True)
    remember(_Identity(sft=config, rows=rows_digest(used)), out / "training.json")
    started, dtype, settings = time.monotonic(), model.dtype, trl_config(config, model, out)
    with _training(model):
        trainer = _CompletionTrainer(
            settings=config,
            model=model,
            args=settings,
            train_dataset=_dataset(used),
            processing_class=tokenizer,
            callbacks=[MetricsFile(out / "metrics.jsonl"), ProgressBar(title)],
        )
        trainer.run(last_checkpoint(out))
    trainer.save_into(out, dtype)
    return _report(trainer, rows, used, time.monotonic() - started)


def fitting(rows: Sequence[TokenRow], max_tokens: int) -> list[TokenRow]:
    """The rows of at most `max_tokens` tokens; raises ProblemError where there is none."""
    assert all(row.prompt_ids for row in rows), "the first token of a row cannot be predicted, so it is a prompt's"
    used = [row for row in rows if len(row) <= max_tokens]
    if not used:
        shortest = min((len(row) for row in rows), default=0)
        reason = (
            f"the shortest has {shortest} tokens, the limit is {max_tokens}; raise it" if rows else "there are none"
        )
        raise ProblemError(f"no rows to train on: {reason}")
    return used


def _longest(model: PreTrainedModel, config: SftConfig) -> int:
    """Tokens that a row may have: the setting, or what the model can read if that is less."""
    readable = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(config.max_tokens, readable or config.max_tokens)


class _Identity(Config):
    """What must be the same for a run to go on from a checkpoint."""

    sft: SftConfig
    """The settings."""
    rows: str
    """Digest of the rows."""


def rows_digest(rows: Sequence[TokenRow]) -> str:
    """16 hex digits that depend on every token of every row, and on their order."""
    digest = hashlib.sha256()
    for row in rows:
        for ids in (row.prompt_ids, row.completion_ids):
            digest.update(torch.tensor([len(ids), *ids], dtype=torch.int64).numpy().tobytes())
    return digest.hexdigest()[:16]


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [[*row.prompt_ids, *row.completion_ids] for row in rows],
            "labels": [[IGNORED] * len(row.prompt_ids) + row.completion_ids for row in rows],
        }
    )


def trl_config(config: SftConfig, model: PreTrainedModel, out: Path) -> TrlConfig:
    """Our settings in TRL's words. The learning rate's course and Muon are `_CompletionTrainer`'s."""
    rows_at_once, accumulation = passes(config)
    return TrlConfig(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        optim="adamw_torch_fused",
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.keep_checkpoints,
        logging_steps=config.log_steps,
        # Transformers would put the mean of earlier losses in place of a NaN.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        data_seed=config.seed,
        **_precision(model),
    )


def _precision(model: PreTrainedModel) -> dict[str, bool]:
    """TRL's flags for where `model` is and what it computes in."""
    on_cuda = model.device.type == "cuda"
    return {
        "use_cpu": model.device.type == "cpu",
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
    devices = devices or int(os.environ.get("WORLD_SIZE", "1"))
    share, rest = divmod(config.batch_size, devices)
    if rest:
        raise ConfigError(f"sft.batch_size: must be a multiple of the {devices} devices, got {config.batch_size}")
    at_once = max(rows for rows in range(1, min(share, config.rows_per_device) + 1) if share % rows == 0)
    return at_once, share // at_once


@contextmanager
def _training(model: PreTrainedModel) -> Iterator[None]:
    """Holds the weights of `model` in float32, and gives it back in eval mode, without gradients or wrappers.

    TRL and accelerate hang wrappers on `model.forward` and leave them there, and the deep copy of a wrapped model calls
    the forward, and so the weights, of the original.
    """
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


class _CompletionTrainer(SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer with our optimizer and schedule, which stops where numbers stop being finite."""

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
        return cast(Optimizer, super().create_optimizer(model))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """The learning rate's course, `schedule_factor`."""
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda step: schedule_factor(step, num_training_steps, self._settings)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's loss, or on a CPU with a small vocabulary the same number from plain logits.

        TRL's chunked head never holds a step's logits, but on a CPU it scores prompts too, twice, and their entropy: a
        step of the toy world's model takes 32 ms instead of 38 so, of GSM8K's 2.5 s instead of 3.1.
        """
        plain = self.args.device.type == "cpu" and self.model.config.vocab_size <= SMALL_VOCABULARY
        if return_outputs or num_items_in_batch is None or not plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels_BT = inputs["labels"][:, 1:]
        counted_BT = labels_BT != IGNORED
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        logits_NV = outputs.logits[:, :-1][counted_BT].float()
        total = nn.functional.cross_entropy(logits_NV, labels_BT[counted_BT], reduction="sum")
        # The items are those of all processes, over which gradients are averaged.
        return total * self.accelerator.num_processes / num_items_in_batch

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
        """Saves model and tokenizer into `out` in precision `dtype`, then removes the checkpoints.

        Every process takes part, because the weights may be spread over them; spread weights stay in float32.
        """
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            cast_parameters(self.model, dtype)
        writing = out / "model.partial"
        with whole_or_removed(writing), quiet():
            self.save_model(str(writing))
        if self.is_world_process_zero():
            (writing / "training_args.bin").unlink()
            move_in(writing, out)
            for checkpoint in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
                shutil.rmtree(checkpoint)


def _report(
    trainer: _CompletionTrainer, rows: Sequence[TokenRow], used: Sequence[TokenRow], seconds: float
) -> SftReport:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = sum(len(row.completion_ids) for row in used)
    return SftReport(
        rows=len(rows),
        used=len(used),
        too_long=len(rows) - len(used),
        trained_tokens=round(tokens * (trainer.state.epoch or 0.0)),
        steps=trainer.state.global_step,
        seconds=round(seconds, 3),
        final_loss=losses[-1],
    )
