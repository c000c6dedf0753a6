"""Two processes under torchrun do what one does with the same batch: the same figures, one set of files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from student.distill import main as distill
from student.problem_files import write_problems
from student.problems import Problem
from teacher.train import main as train
from tests.teacher.rl import weights
from tests.teacher.two_processes import distillation, training

pytestmark = pytest.mark.slow
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The folder in which one process, and then two, have trained and distilled; and what the two printed."""
    folder = tmp_path_factory.mktemp("processes")
    write_problems(tiny_problems, folder / "problems.jsonl")
    with (folder / "problems.jsonl").open("a") as file:
        file.write('{"question": "a bad row, without a solution"}\n')
    train(training(folder, tiny_model_folder, rows_per_device=8))
    distill(distillation(folder, tiny_model_folder, "student-1"))
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "tests.teacher.two_processes"]
    ended = subprocess.run(
        [sys.executable, *two, str(folder), str(tiny_model_folder)],
        cwd=ROOT, env=alone, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout + ended.stderr


def figures(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "one", "two", "steps"),
    [
        ("loss", "teacher-8", "teacher-4", 5),
        ("reward", "teacher-8", "teacher-4", 5),
        ("rkl/total", "teacher-8", "teacher-4", 5),
        ("group/spread", "teacher-8", "teacher-4", 5),
        ("group/without_spread", "teacher-8", "teacher-4", 5),
        ("loss", "student-1", "student-2", 7),
    ],
)
def test_each_step_has_the_figures_of_one_process(
    folder: tuple[Path, str], name: str, one: str, two: str, steps: int
) -> None:
    alone, together = figures(folder[0] / one), figures(folder[0] / two)
    assert [entry["step"] for entry in together] == [entry["step"] for entry in alone] == list(range(1, steps + 1))
    assert [entry[name] for entry in together] == pytest.approx([entry[name] for entry in alone], abs=1e-4)


def test_the_models_are_those_of_one_process(folder: tuple[Path, str]) -> None:
    for one, two in (("teacher-8", "teacher-4"), ("student-1", "student-2")):
        ours, theirs = weights(folder[0] / one), weights(folder[0] / two)
        assert ours.keys() == theirs.keys()
        assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-3


def test_the_held_out_reward_is_that_of_one_process(folder: tuple[Path, str]) -> None:
    alone, together = (
        [json.loads(line) for line in (folder[0] / run / "held_out.jsonl").read_text().splitlines()]
        for run in ("teacher-8", "teacher-4")
    )
    assert [entry["step"] for entry in alone] == [4, 5]
    rewards = {entry["step"]: entry["reward"] for entry in together}
    assert rewards.keys() >= {4, 5}
    assert [rewards[entry["step"]] for entry in alone] == pytest.approx([entry["reward"] for entry in alone], abs=1e-4)


def test_sigterm_of_one_process_stops_both_in_the_same_step(folder: tuple[Path, str]) -> None:
    for process in (0, 1):
        assert f"process {process}: stopped by SIGTERM after step 3 of 5, saved" in folder[1]


@pytest.mark.parametrize(("one", "two"), [("teacher-8", "teacher-4"), ("student-1", "student-2")])
def test_one_set_of_files_is_written(folder: tuple[Path, str], one: str, two: str) -> None:
    """And the same, but for a checkpoint of the step in which SIGTERM came."""
    alone, together = ({path.name for path in (folder[0] / run).iterdir()} for run in (one, two))
    assert together ^ alone <= {"checkpoint-3"}
    assert json.loads((folder[0] / two / "report.json").read_text())["steps"] in (5, 7)
    assert (folder[0] / f"{two}.skipped.jsonl").read_text() == (folder[0] / f"{one}.skipped.jsonl").read_text()


def test_what_there_is_to_say_is_said_once(folder: tuple[Path, str]) -> None:
    said = folder[1]
    assert said.count("1 of 41 rows are bad and were left out") == 3  # of two starts of the RL, and the distillation
    assert said.count("teacher-4: steps 5") == 1
    assert said.count("student-2: rows 40") == 1
    assert said.count("Traceback") == 0
