"""Training stops by itself where it goes wrong, saved where that makes sense, and says what it saw."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from student.careful_trainer import Diverged
from student.configs import ScoringSettings
from student.explanations import Score
from student.models import load_model, load_pair
from student.problems import Problem
from student.scoring.scorer import Scorer
from student.stalls import STALLED
from teacher.configs import TrainConfig, WatchSettings
from teacher.errors import RewardHacked
from teacher.grpo import Rollout
from teacher.prompts import Explained
from teacher.reward_model import Draft
from teacher.train import train
from teacher.watchdogs import LEAKS, RewardHacking, leak_share
from tests.teacher.rl import CPU, run, settings

LAUNCHED = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""What tells a process that it is one of several."""


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def judged(watch: WatchSettings, *entries: tuple[float, float, float], step: int = 5) -> str | None:
    """What is said after these entries (reward, leaks, largest KL) of a run of ten steps."""
    config = settings(Path("model"), Path("out")).model_copy(update={"watch": watch})
    dog, control = RewardHacking(config), TrainerControl()
    state = TrainerState(max_steps=10, global_step=step)
    for reward, leaks, kl_max in entries:
        dog.on_log(TrainingArguments(), state, control, {"reward": reward, LEAKS: leaks, "rkl/max": kl_max})
    assert control.should_save == control.should_training_stop == (dog.reason is not None and step < 10)
    return dog.reason


LEAK = WatchSettings(leak_rise=0.2, window=2)
TAIL = WatchSettings(kl_tail_rise=1.0, window=2)


def test_a_reward_that_rises_with_leaks_is_named_with_both_figures() -> None:
    reason = judged(LEAK, (-3, 0.1, 5), (-1, 0.1, 5), (0, 0.3, 5), (0, 0.5, 5))
    assert reason is not None
    assert "from -2 to 0" in reason
    assert "from 10% to 40%" in reason


def test_so_is_one_that_rises_with_the_tail_of_the_kl() -> None:
    reason = judged(TAIL, (-3, 0.9, 5), (-1, 0.9, 5), (0, 0, 6), (0, 0, 6))
    assert reason is not None
    assert "from 5 to 6" in reason


@pytest.mark.parametrize(
    ("watch", "entries"),
    [
        (LEAK, [(-1, 0.1, 5), (-1, 0.1, 5), (-2, 0.9, 5), (-2, 0.9, 5)]),  # the reward falls
        (LEAK, [(-3, 0.1, 5), (-3, 0.1, 5), (-1, 0.2, 5), (-1, 0.2, 9)]),  # too small a rise; the tail is not watched
        (LEAK, [(-3, 0.1, 5), (-1, 0.9, 5), (0, 0.9, 5)]),  # not two windows yet
        (WatchSettings(window=1), [(-3, 0.0, 5), (-1, 1.0, 99)]),  # nothing is watched unless it is asked for
    ],
)
def test_what_gives_no_cause_stops_nothing(watch: WatchSettings, entries: list[tuple[float, float, float]]) -> None:
    assert judged(watch, *entries) is None


def test_after_the_last_step_there_is_nothing_to_stop() -> None:
    assert judged(LEAK, *[(-3, 0.0, 5)] * 2, *[(0, 1.0, 5)] * 2, step=10) is not None


def test_the_share_of_leaks_is_that_of_explanations_that_give_the_answer_away() -> None:
    def rollout(text: str) -> Rollout:
        explained = Explained([1], text, closed=True, sampled_tokens=1)
        return Rollout(Draft("3 +1 +5 +8", "7", explained), Score(reward=0, rss=0, ss_mean=0, ss_min=0))

    told, worked = rollout("well it is 7"), rollout("+1 = 4 +5 = 9 +8 = 7")
    assert leak_share(0, [told, worked, worked, worked]) == {LEAKS: 0.25}
    assert leak_share(0, [told] * 500) == {LEAKS: 1.0}


def test_a_paused_run_has_saved_and_the_same_command_goes_on(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    config = settings(tiny_model_folder, tmp_path / "out", steps=12, save_steps=50)
    config = config.model_copy(update={"watch": WatchSettings(kl_tail_rise=1e-9, leak_rise=1e-9, window=1)})
    with pytest.raises(RewardHacked, match=r"paused after step \d+ of 12, saved: the reward rose") as stopped:
        run(tiny_model_folder, tiny_problems, config)
    step = int(str(stopped.value).split()[3])
    assert "samples.jsonl holds some of this run and `rlt explain` takes the checkpoint" in str(stopped.value)
    assert (tmp_path / "out" / f"checkpoint-{step}" / "reference.safetensors").exists()
    calm = config.model_copy(update={"watch": WatchSettings()})
    trainer = run(tiny_model_folder, tiny_problems, calm)
    assert trainer.state.global_step == 12
    started, paused, again = events(tmp_path / "out")
    assert [(each["event"], each["step"]) for each in (started, paused, again)] == [
        ("started", 0), ("paused", step), ("started", step),
    ]  # fmt: skip
    assert paused["reason"] in str(stopped.value)
    assert paused["watch"] == {"leak_rise": 1e-9, "kl_tail_rise": 1e-9, "window": 1}
    assert [entry["step"] for entry in trainer.state.log_history if "reward" in entry] == list(range(1, 13))


def test_nobody_is_sent_to_explain_with_a_checkpoint_that_holds_an_adapter_alone(tmp_path: Path) -> None:
    config = settings(tmp_path, tmp_path, reference_sync_steps=0)
    watch = {"kl_tail_rise": 1.0, "window": 1}
    for more, where in (({}, f"({tmp_path / 'samples.jsonl'} holds"), ({"sample_steps": 0}, "(set watch.sample_steps")):
        lora = TrainConfig.model_validate({**config.model_dump(), "lora": {"rank": 4}, "watch": {**watch, **more}})
        dog, state = RewardHacking(lora), TrainerState(max_steps=10, global_step=2)
        for reward, kl_max in ((-3, 5), (0, 9)):
            dog.on_log(TrainingArguments(), state, TrainerControl(), {"reward": reward, "rkl/max": kl_max})
        with pytest.raises(RewardHacked) as stopped:
            dog.raise_if_stopped(state)
        assert where in str(stopped.value)
        assert "rlt explain" not in str(stopped.value)


def test_a_gradient_that_is_no_number_stops_before_it_is_applied(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    teacher, tokenizer = load_pair(str(tiny_model_folder), CPU)
    student = Scorer(load_model(str(tiny_model_folder), CPU), ScoringSettings())
    weight, passes = next(teacher.parameters()), iter(range(99))
    weight.register_hook(lambda gradient: gradient * float("nan") if next(passes) == 2 else gradient)
    config = settings(tiny_model_folder, tmp_path / "out", save_steps=2)
    with pytest.raises(Diverged, match=r"in step 3: a gradient is not finite; lower grpo\.learning_rate"):
        train(teacher, tokenizer, student, tiny_problems, config)
    assert all(torch.isfinite(each).all() for each in teacher.parameters())
    assert [folder.name for folder in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]
    failed = events(tmp_path / "out")[-1]
    assert (failed["event"], failed["step"]) == ("failed", 2)
    assert failed["reason"].startswith("Diverged: training diverged in step 3")


def test_a_run_that_hangs_ends_with_the_stack_of_every_thread(tiny_model_folder: Path, tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from student.problems import Problem
        from teacher.configs import WatchSettings
        from tests.teacher.rl import run, settings

        def never_answers(step, rollouts):
            time.sleep(600)

        folder = Path({str(tiny_model_folder)!r})
        problems = [Problem(id=str(n), question=f"{{n}} + 1 = ?", solution=str(n + 1)) for n in range(8)]
        config = settings(folder, Path({str(tmp_path / "out")!r}))
        config = config.model_copy(update={{"watch": WatchSettings(no_progress_minutes=0.05)}})
        run(folder, problems, config, observers=[never_answers])
    """
    root = Path(__file__).parent.parent.parent
    # TRL leaves these in the environment of a process that has held a vLLM, as another test's does.
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=root, env=alone, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.returncode == STALLED
    assert "no step has ended for 0.05 minutes (watch.no_progress_minutes), the last was 0 of 4" in ended.stderr
    assert "in never_answers" in ended.stderr
    stalled = events(tmp_path / "out")[-1]
    assert (stalled["event"], stalled["watch"]) == ("stalled", {"no_progress_minutes": 0.05})
    assert stalled["reason"] in ended.stderr
