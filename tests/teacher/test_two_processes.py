"""Two processes do what one does with the same batch, each with the whole model or with half of it: the same figures.

And one set of files, and one voice. Divided by DeepSpeed only where it is installed, which CI's environment is not.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from student.distill import main as distill
from student.problem_files import write_problems
from student.problems import Problem
from teacher.train import main as train
from tests.teacher.rl import weights
from tests.teacher.two_processes import PARTS, distillation, training

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ROOT = Path(__file__).parent.parent.parent
DEEPSPEED = find_spec("deepspeed") is not None
ZERO3 = pytest.param("zero3", marks=pytest.mark.skipif(not DEEPSPEED, reason="DeepSpeed is not installed"))
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("out", ["two", "divided", ZERO3])]


@pytest.fixture(scope="module")
def ran(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one process, and then two, have trained and distilled; `said` holds what the two printed."""
    folder = tmp_path_factory.mktemp("processes")
    write_problems(tiny_problems, folder / "problems.jsonl")
    with (folder / "problems.jsonl").open("a") as file:
        file.write('{"question": "a bad row, without a solution"}\n')
    train(training(folder, tiny_model_folder, "one", rows_per_device=8))
    distill(distillation(folder, tiny_model_folder, "one"))
    said = launch(folder, tiny_model_folder, "two") + launch(folder, tiny_model_folder, "divided")
    if DEEPSPEED:  # what one trainer was told of it would hold for the next in the same process
        said += "".join(launch(folder, tiny_model_folder, "zero3", part) for part in PARTS)
    (folder / "said").write_text(said)
    return folder


def launch(*arguments: object) -> str:
    """What two processes of two_processes.py say."""
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "tests.teacher.two_processes"]
    ended = subprocess.run(
        [sys.executable, *two, *map(str, arguments)],
        cwd=ROOT, env=alone | {"DS_ACCELERATOR": "cpu"}, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def figures(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("teacher", "loss"),
        ("teacher", "reward"),
        ("teacher", "rkl/total"),
        ("teacher", "group/spread"),
        ("teacher", "group/without_spread"),
        ("teacher", "teacher/extra_forwards"),
        ("student", "loss"),
    ],
)
def test_each_step_has_the_figures_of_one_process(ran: Path, verb: str, name: str, out: str) -> None:
    alone, together = figures(ran / f"{verb}-one"), figures(ran / f"{verb}-{out}")
    steps = {"teacher": 5, "student": 7}[verb]
    assert [entry["step"] for entry in together] == [entry["step"] for entry in alone] == list(range(1, steps + 1))
    assert [entry[name] for entry in together] == pytest.approx([entry[name] for entry in alone], abs=1e-4)


@pytest.mark.parametrize("verb", ["teacher", "student"])
def test_the_models_are_those_of_one_process(ran: Path, verb: str, out: str) -> None:
    ours, theirs = weights(ran / f"{verb}-one"), weights(ran / f"{verb}-{out}")
    tied = {"lm_head.weight"} if out == "divided" else set()  # the embedding once more
    assert theirs.keys() - ours.keys() == tied
    assert ours.keys() <= theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-3


def test_the_held_out_reward_is_that_of_one_process(ran: Path, out: str) -> None:
    def rewards(run: str) -> dict[int, float]:
        lines = (ran / run / "held_out.jsonl").read_text().splitlines()
        return {entry["step"]: entry["reward"] for entry in map(json.loads, lines)}

    alone, together = rewards("teacher-one"), rewards(f"teacher-{out}")
    assert together.keys() - alone.keys() == {3}  # where SIGTERM came
    assert [together[step] for step in (4, 5)] == pytest.approx([alone[step] for step in (4, 5)], abs=1e-4)
    assert not [path for path in (ran / f"teacher-{out}" / "best").iterdir() if path.suffix in (".bin", ".pth", ".pt")]


def test_sigterm_of_one_process_stops_both_in_the_same_step(ran: Path, out: str) -> None:
    for process in (0, 1):
        assert f"{out}, process {process}: stopped by SIGTERM after step 3 of 5, saved" in (ran / "said").read_text()


@pytest.mark.parametrize("verb", ["teacher", "student"])
def test_one_set_of_files_is_written(ran: Path, verb: str, out: str) -> None:
    """And the same, but for a checkpoint of the step in which SIGTERM came."""
    alone, together = ({path.name for path in (ran / f"{verb}-{run}").iterdir()} for run in ("one", out))
    assert together ^ alone <= {"checkpoint-3"}
    aside = [(ran / f"{verb}-{run}.skipped.jsonl").read_text() for run in ("one", out)]
    assert aside[0] == aside[1]


def test_what_there_is_to_say_is_said_once(ran: Path, out: str) -> None:
    said = (ran / "said").read_text()
    assert said.count(f"teacher-{out}.skipped.jsonl") == 2  # of two starts
    assert said.count(f"student-{out}.skipped.jsonl") == 1
    assert said.count(f"teacher-{out}: steps 5") == 1
    assert said.count(f"student-{out}: rows 40") == 1
    assert "Traceback" not in said
