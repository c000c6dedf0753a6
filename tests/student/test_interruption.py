import os
import signal
import threading
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from student.interruption import Interrupted, StopOnSigterm


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def end_of_step(stop: StopOnSigterm, arguments: TrainingArguments, step: int) -> TrainerControl:
    control = TrainerControl()
    stop.on_step_end(arguments, TrainerState(global_step=step, max_steps=5), control)
    return control


def test_sigterm_saves_and_stops_at_the_end_of_the_step(arguments: TrainingArguments) -> None:
    former = signal.getsignal(signal.SIGTERM)
    stop = StopOnSigterm()
    stop.on_train_begin(arguments, TrainerState(), TrainerControl())
    before = end_of_step(stop, arguments, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    after = end_of_step(stop, arguments, 2)
    stop.on_train_end(arguments, TrainerState(), TrainerControl())
    assert (before.should_save, before.should_training_stop) == (False, False)
    assert (after.should_save, after.should_training_stop) == (True, True)
    assert stop.stopped
    assert signal.getsignal(signal.SIGTERM) is former


def test_in_the_last_step_there_is_nothing_to_interrupt(arguments: TrainingArguments) -> None:
    stop = StopOnSigterm()
    stop.on_train_begin(arguments, TrainerState(), TrainerControl())
    os.kill(os.getpid(), signal.SIGTERM)
    control = end_of_step(stop, arguments, 5)
    stop.restore()
    stop.restore()
    assert not control.should_training_stop
    assert not stop.stopped


def test_outside_the_main_thread_signals_are_left_alone(arguments: TrainingArguments) -> None:
    former = signal.getsignal(signal.SIGTERM)
    stop = StopOnSigterm()
    thread = threading.Thread(target=stop.on_train_begin, args=(arguments, TrainerState(), TrainerControl()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is former
    stop.restore()
    assert signal.getsignal(signal.SIGTERM) is former


def test_the_message_says_where_it_stopped_and_how_to_go_on() -> None:
    assert str(Interrupted(3, 8)) == "stopped by SIGTERM after step 3 of 8, saved; run the same command again to go on"
