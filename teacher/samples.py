"""Explanations to read while a run trains: samples.jsonl in its folder.

    {"step": 10, "held_out": false, "question": ..., "solution": ..., "explanation": ..., "closed": true,
     "tokens": 31, "score": {"reward": -0.9, "rss": ..., "rkl": ..., ...}}

Every few steps the best and the worst explanation of some of the step's problems, and at every checkpoint those of some
held-out problems, the same each time. They were sampled anyway: nothing is generated for this file, and no random
number is drawn. Of several processes the first one writes, of what it sampled itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student import processes
from student.run_files import SAMPLES, append, keep_until
from teacher.grpo import Rollout

PROBLEMS = 4
"""Of a step, and of a checkpoint, of which explanations are kept."""


class SampleFile(TrainerCallback):
    """An observer of rollouts that keeps some of them every `every` steps, the first step's too; 0 keeps none."""

    def __init__(self, out: Path, every: int) -> None:
        self._path = out / SAMPLES
        self._every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drops what came after the checkpoint that the run goes on from."""
        if processes.is_first() and (self._every or self._path.exists()):
            keep_until(self._path, state.global_step)

    def __call__(self, step: int, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
        """Called with the steps made so far: the log counts the one that these explanations are for."""
        if self._every and step % self._every == 0:
            self._write(step + 1, _best_and_worst(rollouts), held_out=False)
        return {}

    def held_out(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Keeps explanations of held-out problems, which come in the same order each time."""
        if self._every:
            self._write(step, rollouts[:PROBLEMS], held_out=True)

    def _write(self, step: int, rollouts: Sequence[Rollout], *, held_out: bool) -> None:
        if processes.is_first():
            append(self._path, *({"step": step, "held_out": held_out, **_entry(rollout)} for rollout in rollouts))


def _best_and_worst(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Of the first PROBLEMS groups; one explanation where a group has no more."""
    kept = []
    for group in _groups(rollouts):
        ranked = sorted(group, key=lambda rollout: -rollout.score.reward)
        kept += ranked[:1] if len(ranked) == 1 else [ranked[0], ranked[-1]]
    return kept


def _groups(rollouts: Sequence[Rollout]) -> Iterator[list[Rollout]]:
    by_problem = groupby(rollouts, key=lambda rollout: (rollout.draft.question, rollout.draft.solution))
    for _, (_, group) in zip(range(PROBLEMS), by_problem, strict=False):
        yield list(group)


def _entry(rollout: Rollout) -> dict[str, Any]:
    draft, explained = rollout.draft, rollout.draft.explained
    return {
        "question": draft.question,
        "solution": draft.solution,
        "explanation": explained.text,
        "closed": explained.closed,
        "tokens": len(explained.explanation_ids),
        "score": rollout.score.model_dump(),
    }
