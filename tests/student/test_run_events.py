"""What befalls a run is noted in its folder, whatever ends it, and what ended it is raised on."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from student.interruption import Interrupted
from student.run_events import noted


class Trainer:
    """As much of a trainer as is looked at."""

    def __init__(self, out: Path) -> None:
        self.args = SimpleNamespace(output_dir=str(out))
        self.state = TrainerState(global_step=3)
        self.add_callback: Callable[[Any], None] = lambda callback: callback.on_train_begin(
            TrainingArguments(), self.state, TrainerControl()
        )


def noted_of(out: Path, error: BaseException | None) -> list[dict[str, Any]]:
    trainer: Any = Trainer(out)
    with noted(trainer):
        trainer.state.global_step = 5
        if error is not None:
            raise error
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("error", "event", "reason"),
    [
        (Interrupted(5, 9), "stopped", "stopped by SIGTERM after step 5 of 9"),
        (KeyboardInterrupt(), "stopped", "stopped by Ctrl-C"),
        (MemoryError("no\nroom"), "failed", "MemoryError: no\nroom"),
    ],
)
def test_what_ends_a_run_is_noted_and_raised_on(tmp_path: Path, error: BaseException, event: str, reason: str) -> None:
    with pytest.raises(type(error)):
        noted_of(tmp_path, error)
    started, ended = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (started["event"], started["step"]) == ("started", 3)
    assert (ended["event"], ended["step"], ended["reason"][: len(reason)]) == (event, 5, reason)
    assert ended["time"] >= started["time"] > 1.7e9


def test_a_run_that_comes_to_its_end_notes_nothing_more(tmp_path: Path) -> None:
    assert [each["event"] for each in noted_of(tmp_path, None)] == ["started"]


def test_only_the_first_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(FileNotFoundError):
        noted_of(tmp_path, None)
