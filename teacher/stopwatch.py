"""Seconds a phase of a training step: where the time goes, in every line of metrics.jsonl.

    step                       an optimizer step, from its first pass to its last change of a weight
    +- rollout                 explanations sampled and scored
    |  +- generate             sampling; new weights for vLLM included
    |  |  +- score_ahead       what the student read while a vLLM server still sampled; 0 with any other engine
    |  +- policy_logps         a pass of the policy over what was sampled; 0 where sampling noted the numbers
    |  +- reference_logps      the same of the reference model
    |  +- score                the reward, and whatever of it was not read ahead
    +- loss                    forward and backward

What rollout has beyond its parts is bookkeeping, and what step has, the optimizer. Wall-clock seconds of this process,
summed over the passes of a step; a device that works on its own is waited for at both ends of a phase.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Phase = Literal["step", "rollout", "generate", "score_ahead", "policy_logps", "reference_logps", "score", "loss"]


class Stopwatch(TrainerCallback):
    """Adds up the seconds of each phase; at the end of a step gives `record` the name and seconds of every one."""

    def __init__(self, device: torch.device, record: Callable[[str, float], None]) -> None:
        self._device = device
        self._record = record
        self._seconds = _none_yet()

    @contextmanager
    def phase(self, name: Phase, *, without: Phase | None = None) -> Iterator[None]:
        """Counts what happens inside as `name`, less what of it counts as `without`."""
        apart = self._seconds[without] if without else 0.0
        started = self._now()
        yield
        apart = self._seconds[without] - apart if without else 0.0
        self._seconds[name] += self._now() - started - apart

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins from zero: what happened between two steps belongs to neither."""
        self._seconds = _none_yet()
        self._step_started = self._now()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Hands the step's seconds over, before the trainer writes its log."""
        self._seconds["step"] = self._now() - self._step_started
        for name, seconds in self._seconds.items():
            self._record(f"seconds/{name}", seconds)

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def _none_yet() -> dict[Phase, float]:
    return dict.fromkeys(get_args(Phase), 0.0)
