"""What ends a training run that cannot go on, whatever it trains.

Stalled         no optimizer step ends for minutes: every thread's stack goes to stderr and the process ends, since
                what hangs (a collective, a server) cannot be interrupted
NotFinite       a gradient that is no number: the run stops before weights are changed or saved
"""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student.careful_trainer import Diverged
from student.run_events import note

STALLED = 70
"""Exit status of a run without progress."""
NOTING_SECONDS = 10.0
"""How long the folder is waited for: it may be what hangs."""


class NotFinite(TrainerCallback):
    """Raises Diverged before the optimizer applies a gradient that is not finite."""

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Looks at the gradients, clipped by now: one that is no number made them all so."""
        assert model is not None
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not torch.isfinite(nn.utils.get_total_norm(gradients)):
            raise Diverged(
                f"training diverged in step {state.global_step + 1}: a gradient is not finite; lower "
                f"grpo.learning_rate ({args.learning_rate:g}); what was saved before is kept, and goes on"
            )


class Stalled(TrainerCallback):
    """Ends the process of `rlt VERB` where no optimizer step ends for `minutes`; every stack goes to stderr first."""

    def __init__(self, verb: str, minutes: float) -> None:
        self._verb = verb
        self._seconds = minutes * 60
        self._since = time.monotonic()
        self._over = threading.Event()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins to watch."""
        self._since = time.monotonic()
        if self._seconds:
            watch = (Path(str(args.output_dir)), state)
            threading.Thread(target=self._watch, args=watch, name="stalled", daemon=True).start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Progress."""
        self._since = time.monotonic()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Nothing more to wait for."""
        self.close()

    def close(self) -> None:
        """Ends the watch; for callers whose training raised, harmless twice."""
        self._over.set()

    def _watch(self, out: Path, state: TrainerState) -> None:
        while (left := self._since + self._seconds - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        minutes = self._seconds / 60
        reason = (
            f"no step has ended for {minutes:g} minutes (watch.no_progress_minutes), the last was {state.global_step} "
            f"of {state.max_steps}"
        )
        print(
            f"rlt {self._verb}: {reason}; below is what every thread is doing. The same command goes on from the last "
            "checkpoint",
            file=sys.stderr,
        )
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        details = {"reason": reason, "watch": {"no_progress_minutes": minutes}}
        noting = threading.Thread(target=note, args=(out, "stalled", state.global_step), kwargs=details, daemon=True)
        noting.start()
        noting.join(NOTING_SECONDS)
        os._exit(STALLED)
