"""What befalls a run besides its figures: events.jsonl in its folder, one JSON object an event.

    {"time": 1790000000.0, "step": 40, "event": "paused", "reason": "the reward rose ...", "watch": {"leak_rise": 0.2}}

    started   from the beginning or from a checkpoint, whose step it is
    paused    a watchdog stopped it, saved; `watch` holds the thresholds that were set
    stopped   somebody did: SIGTERM (saved) or Ctrl-C
    failed    an error ended it
    stalled   no step ended for minutes, and it ended itself

A finished run writes no event: its report.json says so. Left out: what SIGKILL does, which nobody can note.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from student import processes
from student.interruption import Interrupted
from student.run_files import EVENTS, append

EventKind = Literal["started", "paused", "stopped", "failed", "stalled"]


def note(out: Path, event: EventKind, step: int, **details: Any) -> None:
    """Adds an event of the run in `out`; of several processes the first one writes."""
    if processes.is_first():
        append(out / EVENTS, {"time": time.time(), "step": step, "event": event, **details})


@contextmanager
def noted(trainer: Trainer) -> Iterator[None]:
    """Notes that the training inside starts, and what ends it before its end, which is raised on."""
    out = Path(str(trainer.args.output_dir))
    trainer.add_callback(_Start(out))
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        _try_to_note(out, "stopped", trainer.state.global_step, str(error) or "stopped by Ctrl-C")
        raise
    except Exception as error:
        _try_to_note(out, "failed", trainer.state.global_step, f"{type(error).__name__}: {error}")
        raise


def _try_to_note(out: Path, event: EventKind, step: int, reason: str) -> None:
    """A disk that is full may be what ended the run, and takes no note of it."""
    with suppress(OSError):
        note(out, event, step, reason=reason)


class _Start(TrainerCallback):
    def __init__(self, out: Path) -> None:
        self._out = out

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        note(self._out, "started", state.global_step)
