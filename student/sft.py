"""Supervised fine-tuning of a causal LM on completions: TRL's SFTTrainer, used thinly.

    loss = - sum over completion tokens t of a step's rows of log p(t | all before t) / number of those tokens

Used for distillation (student/distill.py), the teacher's warm-up (teacher/warmup.py) and the demo. What comes in is
token ids, so no template, tag or truncation happens here: a row that is too long is left out and counted. A run that
was killed goes on from its last checkpoint and ends, on a CPU, with the same bits as one that was not. Left out on
purpose: packing, evaluation during training.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from student.adapters import peft_config
from student.careful_trainer import CarefulTrainer, shared_options, training
from student.checkpoints import has_saved, last_checkpoint
from student.config import Config, remember
from student.configs import LoraConfig, SftConfig
from student.errors import ProblemError
from student.metrics import MetricsFile, ProgressBar
from student.run_files import METRICS

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


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenRow],
    out: Path,
    config: SftConfig,
    *,
    title: str = "sft",
    lora: LoraConfig | None = None,
) -> SftReport:
    """Trains `model` in place on `rows` and saves it, with its tokenizer, into the folder `out`.

    Meanwhile `out` holds metrics.jsonl, training.json (what is trained, so that another run does not go on from it) and
    checkpoints, which are removed once the model is saved. Weights are held in float32 during training; a model that
    came in bfloat16 or float16 computes in that and is saved in it.
    Raises ProblemError where no row is short enough, OutputError where `out` holds another run's checkpoints,
    Interrupted after SIGTERM, Diverged, before anything is saved, where the loss is not finite.
    """
    used = fitting(rows, longest(model, config))
    out.mkdir(parents=True, exist_ok=True)
    identity = _Identity(sft=config, rows=rows_digest(used), lora=lora)
    remember(identity, out / "training.json", binding=has_saved(out))
    started, dtype, settings = time.monotonic(), model.dtype, trl_config(config, model, out)
    with training(model, whole=lora is None):
        trainer = _CompletionTrainer(
            settings=config,
            model=model,
            args=settings,
            train_dataset=_dataset(used),
            processing_class=tokenizer,
            peft_config=peft_config(lora),
            callbacks=[MetricsFile(out / METRICS), ProgressBar(title)],
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


def longest(model: PreTrainedModel, config: SftConfig) -> int:
    """Tokens that a row may have: the setting, or what the model can read if that is less."""
    readable = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(config.max_tokens, readable or config.max_tokens)


class _Identity(Config):
    """What must be the same for a run to go on from a checkpoint."""

    sft: SftConfig
    """The settings."""
    rows: str
    """Digest of the rows."""
    lora: LoraConfig | None
    """The adapter."""


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
    """Our settings in TRL's words."""
    return TrlConfig(**shared_options(config, model, out), packing=False, dataset_kwargs={"skip_prepare_dataset": True})


class _CompletionTrainer(CarefulTrainer, SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer, with a loss that is cheaper on a CPU."""

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
