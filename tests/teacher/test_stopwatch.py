"""Seconds add up within a step, leave out what they are told to, and begin from zero with the next."""

import time
from typing import Any, get_args

import pytest
import torch

from teacher.stopwatch import Phase, Stopwatch

SHORT = 0.05
NOBODY: Any = None  # the trainer's arguments, state and control, which a stopwatch does not look at


@pytest.fixture
def taken() -> dict[str, float]:
    return {}


@pytest.fixture
def stopwatch(taken: dict[str, float]) -> Stopwatch:
    return Stopwatch(torch.device("cpu"), taken.__setitem__)


def test_passes_of_a_step_add_up_and_a_phase_leaves_out_another_inside_it(
    stopwatch: Stopwatch, taken: dict[str, float]
) -> None:
    stopwatch.on_step_begin(NOBODY, NOBODY, NOBODY)
    for _ in range(2):
        with stopwatch.phase("loss", without="rollout"):
            time.sleep(SHORT)
            with stopwatch.phase("rollout"):
                time.sleep(3 * SHORT)
    stopwatch.on_step_end(NOBODY, NOBODY, NOBODY)
    assert taken.keys() == {f"seconds/{name}" for name in get_args(Phase)}
    assert 2 * SHORT <= taken["seconds/loss"] < 6 * SHORT
    assert taken["seconds/rollout"] >= 6 * SHORT
    assert taken["seconds/loss"] + taken["seconds/rollout"] <= taken["seconds/step"]
    assert taken["seconds/score"] == 0


def test_what_happens_between_two_steps_belongs_to_neither(stopwatch: Stopwatch, taken: dict[str, float]) -> None:
    stopwatch.on_step_begin(NOBODY, NOBODY, NOBODY)
    stopwatch.on_step_end(NOBODY, NOBODY, NOBODY)
    with stopwatch.phase("score"):
        time.sleep(SHORT)
    stopwatch.on_step_begin(NOBODY, NOBODY, NOBODY)
    stopwatch.on_step_end(NOBODY, NOBODY, NOBODY)
    assert taken["seconds/score"] == 0
    assert taken["seconds/step"] < SHORT
