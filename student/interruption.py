"""SIGTERM in a training run: the step under way ends, a checkpoint is saved, the run stops and says how to go on.

Used by every trainer (SFT here, GRPO in teacher/). Transformers' own way saves between a step's rollout and its update,
from where a run cannot go on exactly. Ctrl-C is left alone: it ends the run at once.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student import processes
from student.errors import RltError


class Interrupted(RltError):
    """A run was asked to stop before its end; it has saved what it needs to go on."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped by SIGTERM after step {step} of {steps}, saved; run the same command again to go on")


class StopOnSigterm(TrainerCallback):
    """Saves and stops at the end of the step in which SIGTERM came; `stopped` says whether it did.

    The former handler is back after training. Outside the main thread, where Python allows no handler, it does nothing.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._asked = False
        self._restore: Callable[[], object] = _nothing

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes SIGTERM over."""
        if threading.current_thread() is threading.main_thread():
            former = signal.signal(signal.SIGTERM, self._ask)
            self._restore = lambda: signal.signal(signal.SIGTERM, former)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks the trainer to save and stop; after the last step there is nothing to interrupt."""
        if _in_any_process(self._asked, args.device) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives SIGTERM back."""
        self.restore()

    def restore(self) -> None:
        """Gives SIGTERM back to its former handler; for callers whose training raised, harmless twice."""
        self._restore()
        self._restore = _nothing

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def _in_any_process(asked: bool, device: torch.device) -> bool:
    """Whether any process of the run was asked: SIGTERM finds them in different steps, and all must stop in one."""
    if processes.count() == 1:
        return asked
    number = torch.tensor(float(asked), device=device)
    torch.distributed.all_reduce(number)
    return number.item() > 0


def _nothing() -> None:
    """No handler was replaced."""
