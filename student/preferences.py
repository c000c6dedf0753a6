r"""Training on which explanation is better: DPO on pairs, KTO on single ones with a label. TRL's trainers, used thinly.

    DPO   - log sigmoid(beta (h(chosen) - h(rejected))),  h(y) = log p(y|x) - log p_reference(y|x)   arXiv 2305.18290
    KTO   1 - sigmoid(beta (h(y) - z)) where y is good, 1 - sigmoid(beta (z - h(y))) where not; z estimates the KL to
          the reference over rows of the same pass                                                   arXiv 2402.01306

The reference is the student as it came in. What comes in is token ids, as in sft.py: a pair or a row that is too long
is left out and counted. A killed run goes on from its last checkpoint. Left out: adapters, packing, other losses.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from student.careful_trainer import CarefulTrainer, passes, shared_options, training
from student.checkpoints import has_saved, last_checkpoint
from student.config import Config, remember
from student.configs import PreferenceConfig, SftConfig
from student.errors import ConfigError, ProblemError
from student.metrics import MetricsFile, ProgressBar
from student.run_files import METRICS
from student.sft import TokenRow, longest, rows_digest


@dataclass(frozen=True)
class TokenPair:
    """Two rows with the same prompt, the better one first."""

    chosen: TokenRow
    rejected: TokenRow

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class LabelledRow:
    """A row, and whether it is a good one."""

    row: TokenRow
    good: bool

    def __len__(self) -> int:
        return len(self.row)


Item = TypeVar("Item", TokenPair, LabelledRow)


@dataclass(frozen=True)
class PreferenceReport:
    """What a training run did. After a resume, `seconds` counts from there."""

    used: int
    """Pairs, or labelled rows."""
    good: int
    """Of the used ones; of pairs, each has one."""
    too_long: int
    steps: int
    seconds: float
    final_loss: float
    """Mean over the last logged steps."""
    preferred: float
    """Share of pairs whose better side gained more on the reference than the other, over the last logged steps; of
    labelled rows, how much more the good ones gained, in nats times beta."""


def train_on_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[TokenPair],
    out: Path,
    config: SftConfig,
    preference: PreferenceConfig,
) -> PreferenceReport:
    """Trains `model` in place by DPO and saves it into `out`; raises as student.sft.train_sft does."""
    used = _fitting(pairs, longest(model, config), "pairs")
    rows = [{"prompt_ids": pair.chosen.prompt_ids, **_sides(pair)} for pair in used]
    options = DPOConfig(**shared_options(config, model, out), beta=preference.beta)
    digest = rows_digest([row for pair in used for row in (pair.chosen, pair.rejected)])
    identity, started = _Identity(sft=config, preference=preference, rows=digest), time.monotonic()
    trainer = _train(_PairTrainer, model, tokenizer, rows, out, identity, options)
    return _report(trainer, len(used), len(used), len(pairs), time.monotonic() - started, "rewards/accuracies")


def train_on_labels(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labelled: Sequence[LabelledRow],
    out: Path,
    config: SftConfig,
    preference: PreferenceConfig,
) -> PreferenceReport:
    """Trains `model` in place by KTO and saves it into `out`; raises as train_on_pairs, ConfigError for a batch of one.

    The rows are shuffled once: the KL of a row is estimated from its neighbours, which must stay the same.
    """
    if passes(config)[0] < 2:
        raise ConfigError("sft.rows_per_device: KTO compares rows of one pass, so at least 2 must go through at once")
    used = _fitting(labelled, longest(model, config), "rows")
    shuffled = [used[place] for place in np.random.default_rng(config.seed).permutation(len(used))]
    good = sum(each.good for each in used)
    if not 0 < good < len(used):
        raise ProblemError(f"{good} of {len(used)} rows are good ones: KTO needs good and bad; change the threshold")
    options = KTOConfig(**shared_options(config, model, out), beta=preference.beta, **_balance(good, len(used) - good))
    digest = rows_digest([each.row for each in shuffled])
    identity, started = _Identity(sft=config, preference=preference, rows=digest), time.monotonic()
    rows = _with_neighbours(shuffled, passes(config)[0])
    trainer = _train(_LabelTrainer, model, tokenizer, rows, out, identity, options)
    return _report(trainer, len(used), good, len(labelled), time.monotonic() - started, "rewards/margins")


def _sides(pair: TokenPair) -> dict[str, list[int]]:
    return {"chosen_ids": pair.chosen.completion_ids, "rejected_ids": pair.rejected.completion_ids}


def _with_neighbours(rows: Sequence[LabelledRow], at_once: int) -> list[dict[str, Any]]:
    """Rows as TRL's collator takes them, each with the completion of the one before it in its pass, the first's with
    the last's: TRL's own preparation, for rows that are tokens already."""
    made = []
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        others = [some[-1], *some[:-1]]
        made += [
            {
                "prompt_ids": each.row.prompt_ids,
                "completion_ids": each.row.completion_ids,
                "KL_completion_ids": other.row.completion_ids,
                "label": each.good,
            }
            for each, other in zip(some, others, strict=True)
        ]
    return made


def _balance(good: int, bad: int) -> dict[str, float]:
    """Weights by which the good ones and the bad ones count the same in sum, none below 1 (KTO, equation 8)."""
    return {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}


def _fitting(items: Sequence[Item], max_tokens: int, what: str) -> list[Item]:
    used = [item for item in items if len(item) <= max_tokens]
    if not used:
        shortest = min(map(len, items), default=0)
        reason = f"the shortest has {shortest} tokens, the limit is {max_tokens}" if items else "there are none"
        raise ProblemError(f"no {what} to train on: {reason}")
    return used


class _Identity(Config):
    """What must be the same for a run to go on from a checkpoint."""

    sft: SftConfig
    """How it trains."""
    preference: PreferenceConfig
    """What it prefers."""
    rows: str
    """Digest of the rows, in their order."""


class _TokensAlready:
    """TRL prepares texts; here it is given tokens."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class _PairTrainer(_TokensAlready, CarefulTrainer, DPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """DPO."""


class _LabelTrainer(_TokensAlready, CarefulTrainer, KTOTrainer):  # type: ignore[misc]  # TRL ships no types
    """KTO."""


def _train(
    kind: type[CarefulTrainer],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, Any]],
    out: Path,
    identity: _Identity,
    options: Any,
) -> CarefulTrainer:
    out.mkdir(parents=True, exist_ok=True)
    remember(identity, out / "training.json", binding=has_saved(out))
    reference, dtype = copy.deepcopy(model), model.dtype
    with training(model):
        trainer = kind(
            settings=identity.sft,
            model=model,
            ref_model=reference,
            args=options,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[MetricsFile(out / METRICS), ProgressBar("distill")],
        )
        trainer.run(last_checkpoint(out))
    trainer.save_into(out, dtype)
    return trainer


def _report(trainer: Any, used: int, good: int, given: int, seconds: float, preferred: str) -> PreferenceReport:
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    return PreferenceReport(
        used=used,
        good=good,
        too_long=given - used,
        steps=trainer.state.global_step,
        seconds=round(seconds, 3),
        final_loss=last["loss"],
        preferred=last.get(preferred, float("nan")),
    )
