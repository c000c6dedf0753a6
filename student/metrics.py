"""What a training run tells while it runs: metrics.jsonl in its folder, and one progress bar with the time left."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student.run_files import append, keep_until

_SUMMARY = "train_runtime"
"""A log entry with this key repeats, at the end of a run, what is known already."""


class MetricsFile(TrainerCallback):
    """One JSON object a log entry: `step`, `epoch` and what the trainer measured; NaN and infinity become null.

    A resumed run first drops the entries after its checkpoint, so each step stands there once. TRL's `num_tokens` is
    left out: it starts from zero again in a resumed run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keeps the entries up to the step that the run goes on from."""
        if state.is_world_process_zero:
            keep_until(self.path, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Has the last step logged, wherever it falls."""
        control.should_log |= state.global_step == state.max_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Appends one entry."""
        if state.is_world_process_zero and logs and _SUMMARY not in logs:
            values = {name: _number(value) for name, value in logs.items() if name != "num_tokens"}
            append(self.path, {"step": state.global_step, **values})


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ProgressBar(TrainerCallback):
    """One bar over the optimizer steps, with the loss or reward last logged; it prints no line of its own."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar where the run begins, so that the time left is right in a resumed run."""
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.title,
            unit="step",
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One step on."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows the newest loss, and the reward where there is one."""
        shown = {name: logs[name] for name in ("loss", "reward") if logs and name in logs}
        if shown:
            self._bar.set_postfix(shown, refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar."""
        self._bar.close()
