"""Explanations to read stand in samples.jsonl: best and worst of some groups, and held-out ones; each step once."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from student.explanations import Score
from student.problems import Problem
from teacher.configs import WatchSettings
from teacher.grpo import Rollout
from teacher.prompts import Explained
from teacher.reward_model import Draft
from teacher.samples import PROBLEMS, SampleFile
from tests.teacher.rl import assert_bitwise_equal, forget_after, run, settings


def rollouts(question: str, *rewards: float) -> list[Rollout]:
    """A group."""
    return [
        Rollout(
            Draft(question, "7", Explained([1, 2], f"{question} {reward}", closed=True, sampled_tokens=2)),
            Score(reward=reward, rss=reward, ss_mean=reward, ss_min=reward),
        )
        for reward in rewards
    ]


def written(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def test_best_and_worst_of_the_first_groups_are_kept_every_few_steps(tmp_path: Path) -> None:
    samples = SampleFile(tmp_path, every=3)
    groups = [each for name in "abcdef" for each in rollouts(name, -2, -1, -4, -3)]
    for step in range(5):
        assert samples(step, groups) == {}
    found = written(tmp_path)
    assert [(each["step"], each["explanation"]) for each in found] == [
        (step, f"{name} {reward}") for step in (1, 4) for name in "abcd" for reward in (-1, -4)
    ]
    assert len("abcd") == PROBLEMS
    assert (found[0]["question"], found[0]["tokens"], found[0]["score"]["rss"]) == ("a", 2, -1)


def test_a_group_of_one_stands_there_once_and_none_is_kept_where_none_is_asked_for(tmp_path: Path) -> None:
    SampleFile(tmp_path, every=1)(0, rollouts("a", -1))
    assert len(written(tmp_path)) == 1
    nothing = SampleFile(tmp_path / "none", every=0)
    nothing(0, rollouts("a", -1))
    nothing.held_out(1, rollouts("a", -1))
    nothing.on_train_begin(TrainingArguments(), TrainerState(), TrainerControl())
    assert not (tmp_path / "none").exists()


def test_a_resumed_run_has_each_sample_once_and_trains_the_same_as_without_them(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    without, resumed = tmp_path / "without", tmp_path / "resumed"
    config = settings(tiny_model_folder, without, held_out=6)
    run(tiny_model_folder, tiny_problems, config.model_copy(update={"watch": WatchSettings(sample_steps=0)}))
    other = config.model_copy(update={"out": str(resumed), "watch": WatchSettings(sample_steps=1)})
    run(tiny_model_folder, tiny_problems, other)
    found = written(resumed)
    forget_after(resumed, 2)
    run(tiny_model_folder, tiny_problems, other)
    assert written(resumed) == found
    assert_bitwise_equal(without, resumed)
    assert not (without / "samples.jsonl").exists()
    assert [each["step"] for each in found if not each["held_out"]] == [step for step in range(1, 5) for _ in range(4)]
    held_out = [(each["step"], each["question"]) for each in found if each["held_out"]]
    assert held_out == [(step, problem.question) for step in (2, 4) for problem in tiny_problems[-6:][:PROBLEMS]]
