import json
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from student.metrics import MetricsFile, ProgressBar


def at_step(step: int, steps: int = 10) -> TrainerState:
    return TrainerState(global_step=step, max_steps=steps, is_world_process_zero=True)


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def log(file: MetricsFile, arguments: TrainingArguments, step: int, **logs: float) -> None:
    file.on_log(arguments, at_step(step), TrainerControl(), logs=logs)


def test_each_log_entry_is_a_line_with_its_step(tmp_path: Path, arguments: TrainingArguments) -> None:
    file = MetricsFile(tmp_path / "run" / "metrics.jsonl")
    file.on_train_begin(arguments, at_step(0), TrainerControl())
    log(file, arguments, 1, loss=2.5, learning_rate=0.1)
    log(file, arguments, 2, loss=float("nan"), num_tokens=7.0)
    log(file, arguments, 2, train_runtime=3.0)
    assert entries(file.path) == [{"step": 1, "loss": 2.5, "learning_rate": 0.1}, {"step": 2, "loss": None}]


def test_a_resumed_run_drops_what_came_after_its_checkpoint_and_a_torn_line(
    tmp_path: Path, arguments: TrainingArguments
) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.path.write_text(
        '{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "loss": 1.0}\n{"step": 3, "lo'
    )
    file.on_train_begin(arguments, at_step(2), TrainerControl())
    log(file, arguments, 3, loss=1.5)
    assert [(entry["step"], entry["loss"]) for entry in entries(file.path)] == [(1, 3.0), (2, 2.0), (3, 1.5)]


def test_a_fresh_run_starts_an_empty_file(tmp_path: Path, arguments: TrainingArguments) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.path.write_text('{"step": 1, "loss": 3.0}\n')
    file.on_train_begin(arguments, at_step(0), TrainerControl())
    assert file.path.read_text() == ""


def test_the_last_step_is_always_logged(tmp_path: Path, arguments: TrainingArguments) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step, logged in ((9, False), (10, True)):
        control = TrainerControl()
        file.on_step_end(arguments, at_step(step), control)
        assert control.should_log is logged


def test_the_bar_starts_where_a_resumed_run_does(
    arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = ProgressBar("warm-up")
    bar.on_train_begin(arguments, at_step(4), TrainerControl())
    bar.on_log(arguments, at_step(5), TrainerControl(), logs={"loss": 0.25, "learning_rate": 1.0})
    bar.on_step_end(arguments, at_step(10), TrainerControl())
    bar.on_train_end(arguments, at_step(10), TrainerControl())
    shown = capsys.readouterr().err
    assert "warm-up:  40%" in shown
    assert "10/10" in shown
    assert "loss=0.25" in shown
    assert "learning_rate" not in shown
