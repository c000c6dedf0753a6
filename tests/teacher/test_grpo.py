"""RL on a tiny model: what TRL is trusted with, what we add to it, and every trap known of either."""

import inspect
import json
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from student.configs import RewardConfig, RolloutSettings
from student.grpo import EpochSampler, TooFewProblems
from student.models import load_model, load_pair
from student.problems import Problem
from student.reference import REFERENCE_FILE
from student.tags import STYLES
from teacher.grpo import Rollout, TeacherTrainer, group_metrics
from teacher.prompts import TeacherFormat
from teacher.stopwatch import Phase
from tests.teacher.rl import CPU, assert_bitwise_equal, forget_after, run, settings, weights


class Recorder:
    """An observer that keeps the rollouts it is shown."""

    def __init__(self) -> None:
        self.steps: dict[int, list[Rollout]] = {}

    def __call__(self, step: int, rollouts: Any) -> dict[str, float]:
        self.steps[step] = list(rollouts)
        return {"seen": float(len(rollouts))}


@pytest.fixture
def started(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path) -> tuple[Path, TeacherTrainer]:
    out = tmp_path / "run"
    return out, run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, out))


def test_the_weights_move_and_every_part_of_the_reward_is_logged(started: tuple[Path, TeacherTrainer]) -> None:
    out, trainer = started
    first = trainer.state.log_history[0]
    expected = {
        "reward", "rss/mean", "rss/min", "rkl/mean", "rkl/max", "explanation/tokens", "explanation/unclosed",
        "completions/clipped_ratio", "group/spread", "group/without_spread", "seconds/generate", "seconds/score",
        "step_time", "kl", "teacher/extra_forwards",
    }  # fmt: skip
    assert expected <= first.keys()
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if "reward" in row] == [1, 2, 3, 4]
    assert first["reward"] == pytest.approx(
        first["rss/total"] - 3 * first["rkl/total"] - first["explanation/unclosed"], abs=1e-4
    )


@pytest.mark.parametrize(
    "changes", [{}, {"steps_per_generation": 2}, {"gradient_checkpointing": True}, {"rows_per_device": 2, "beta": 0}]
)
def test_the_reward_gets_the_policy_s_own_log_probs_and_nobody_runs_the_teacher_for_them(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, changes: dict[str, Any]
) -> None:
    seen = Recorder()
    config = settings(tiny_model_folder, tmp_path / "run", steps=2, **changes)
    config = config.model_copy(update={"reward": RewardConfig(temperature=0.7)})
    trainer = run(tiny_model_folder, tiny_problems, config, observers=[seen])
    assert {row["teacher/extra_forwards"] for row in trainer.state.log_history if "reward" in row} == {0.0}
    for rollout in seen.steps[0]:
        expected = own_logps(tiny_model_folder, rollout, temperature=0.7)
        assert rollout.draft.teacher_logps_E is not None
        assert rollout.draft.teacher_logps_E[: len(expected)].tolist() == pytest.approx(expected, abs=1e-5)


def own_logps(folder: Path, rollout: Rollout, temperature: float) -> list[float]:
    """The log-probabilities of an explanation by one pass of the untrained teacher, unpadded."""
    teacher, tokenizer = load_pair(str(folder), CPU)
    draft = rollout.draft
    passage = TeacherFormat(tokenizer, STYLES["rlt"]).passage(
        draft.question, draft.solution, draft.explained.explanation_ids
    )
    with torch.no_grad():
        logits_TV = teacher(torch.tensor([passage.input_ids])).logits[0]
    logp_TV = (logits_TV / temperature).log_softmax(-1)
    return [logp_TV[position - 1, passage.input_ids[position]].item() for position in passage.explanation]


def test_noting_log_probs_changes_neither_what_is_sampled_nor_what_is_learnt(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting, stock = Recorder(), Recorder()
    only_rss = RewardConfig(temperature=0.7, kl_weight=0)  # a reward without the numbers in question, to the last bit
    config = settings(tiny_model_folder, tmp_path / "noting").model_copy(update={"reward": only_rss})
    run(tiny_model_folder, tiny_problems, config, observers=[noting])
    monkeypatch.setattr(TeacherTrainer, "_generate_single_turn", GRPOTrainer._generate_single_turn)
    config = config.model_copy(update={"out": str(tmp_path / "stock")})
    trainer = run(tiny_model_folder, tiny_problems, config, observers=[stock])
    assert trainer.state.log_history[0]["teacher/extra_forwards"] == 1
    assert_bitwise_equal(tmp_path / "noting", tmp_path / "stock")
    for step, rollouts in noting.steps.items():
        for ours, theirs in zip(rollouts, stock.steps[step], strict=True):
            assert ours.draft.explained == theirs.draft.explained
            assert ours.score.rss == theirs.score.rss
            assert ours.score.rkl == pytest.approx(theirs.score.rkl, abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"rows_per_device": 2, "steps_per_generation": 2, "log_steps": 2}])
def test_every_phase_of_a_step_is_timed_and_its_parts_do_not_exceed_it(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, changes: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    began = time.perf_counter()
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, out, **changes))
    wall = time.perf_counter() - began
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == ([2, 4] if changes else [1, 2, 3, 4])
    for row in rows:
        spent = {name: row[f"seconds/{name}"] for name in get_args(Phase)}
        parts = [spent[name] for name in ("generate", "policy_logps", "reference_logps", "score")]
        assert spent.pop("score_ahead") == 0  # no server samples
        assert (spent.pop("policy_logps") > 0) is bool(changes)  # TRL's pass where its ratios need it, else none
        assert min(spent.values()) > 0
        assert sum(parts) <= spent["rollout"]
        assert spent["rollout"] + spent["loss"] <= spent["step"]
        assert sum(parts) > 0.5 * spent["rollout"]  # nothing large is left unnamed
    assert sum(row["seconds/step"] for row in rows) * (4 / len(rows)) <= wall


@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_killed_run_goes_on_bitwise_in_every_epoch_and_after_the_reference_moved(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, step: int
) -> None:
    problems = tiny_problems[:6]  # 3 steps an epoch: the checkpoints lie in epochs 0, 1 and at the end of 1
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(tiny_model_folder, problems, settings(tiny_model_folder, whole, steps=8))
    run(tiny_model_folder, problems, settings(tiny_model_folder, killed, steps=8))
    assert_bitwise_equal(whole, killed)
    forget_after(killed, step)
    resumed = run(tiny_model_folder, problems, settings(tiny_model_folder, killed, steps=8))
    assert resumed.state.global_step == 8
    assert_bitwise_equal(whole, killed)
    assert torch.equal(
        *(load_file(out / "checkpoint-8" / REFERENCE_FILE)["model.norm.weight"] for out in (whole, killed))
    )


def test_steps_that_share_a_generation_resume_bitwise_too(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, out, steps=6, steps_per_generation=2))
    forget_after(killed, 4)
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, killed, steps=6, steps_per_generation=2))
    assert_bitwise_equal(whole, killed)


def test_the_reference_moves_towards_the_policy_at_its_step(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    out, name = tmp_path / "run", "model.norm.weight"
    run(tiny_model_folder, tiny_problems, settings(tiny_model_folder, out, steps=2, reference_sync_steps=2))
    before, policy = weights(tiny_model_folder)[name], weights(out)[name]
    reference = load_file(out / "checkpoint-2" / REFERENCE_FILE)[name]
    assert not torch.equal(before, policy)
    torch.testing.assert_close(reference, 0.1 * before + 0.9 * policy)


def test_too_long_prompts_are_left_out_and_too_few_problems_are_one_clear_error(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tiny_model_folder, tmp_path / "run")
    short = config.model_copy(update={"rollout": RolloutSettings(max_tokens=12, max_prompt_tokens=10)})
    with pytest.raises(TooFewProblems, match="0 usable problems, and a step takes 2"):
        run(tiny_model_folder, tiny_problems, short)
    assert "40 problems left out: their prompt is longer than 10 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("estimator", ["k3", "exact"])
def test_the_other_kl_estimators_train_and_are_never_negative(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, estimator: Any
) -> None:
    config = settings(tiny_model_folder, tmp_path / "run", steps=1)
    config = config.model_copy(update={"reward": RewardConfig(temperature=1.0, kl_estimator=estimator)})
    seen = Recorder()
    run(tiny_model_folder, tiny_problems, config, observers=[seen])
    assert all((rollout.score.kl_mean or 0) >= -1e-6 for rollout in seen.steps[0])


def test_reward_rises_when_trained(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path) -> None:
    opinionated = load_model(str(tiny_model_folder), CPU)
    for parameter in opinionated.parameters():  # a student far from uniform: there is something to learn from it
        parameter.data *= 8
    config = settings(
        tiny_model_folder, tmp_path / "run", steps=25, save_steps=25, group_size=8, rows_per_device=16, beta=0
    )
    trainer = run(tiny_model_folder, tiny_problems, config, student=opinionated)
    history = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert sum(history[-5:]) > sum(history[:5]) + 5


def test_groups_whose_rewards_are_all_equal_are_counted() -> None:
    metrics = group_metrics([-1.0, -1.0, -1.0, -3.0], group_size=2)
    assert metrics == {"group/spread": pytest.approx(2**0.5 / 2), "group/without_spread": 1}


def test_trl_gets_the_paper_s_settings_where_its_own_defaults_differ(started: tuple[Path, TeacherTrainer]) -> None:
    _, trainer = started
    arguments = trainer.args
    assert arguments.loss_type == "grpo"
    assert arguments.use_bias_correction_kl is False
    assert arguments.vllm_importance_sampling_mode == "token_truncate"
    assert arguments.bf16 is False
    assert arguments.gradient_checkpointing is False
    assert arguments.lr_scheduler_type == "constant_with_warmup"


def test_nothing_is_sent_to_anyone_when_a_trainer_is_made() -> None:
    assert TeacherTrainer._send_telemetry is not GRPOTrainer._send_telemetry
    assert "requests" not in inspect.getsource(TeacherTrainer._send_telemetry)


def test_each_epoch_has_its_own_order_and_the_same_one_again_when_resumed() -> None:
    sampler = EpochSampler(range(20), mini_repeat_count=2, batch_size=5, seed=3)

    def order(epoch: int) -> list[int]:
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0) != order(1)
    assert order(1) == order(1)


@pytest.mark.parametrize(
    ("hook", "parameters"),
    [
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_calculate_rewards", ["self", "inputs", "prompts", "completions", "completion_ids_list"]),
        ("_tokenize_prompts", ["self", "prompts"]),
        ("_generate", ["self", "prompts"]),
        (
            "_generate_single_turn",
            ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"],
        ),
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("_get_train_sampler", ["self", "dataset"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_send_telemetry", ["self"]),
    ],
)
def test_the_hooks_of_trl_that_we_override_are_still_what_they_were(hook: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(GRPOTrainer, hook)).parameters) == parameters
