"""A recipe is checked whole before its first step, and runs verb after verb."""

import json
from pathlib import Path

import pytest

from student.config import RECIPES
from student.errors import ConfigError
from student.problem_files import write_problems
from student.problems import Problem
from teacher.configs import RunConfig, TrainConfig
from teacher.recipe import main, read_steps


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_checked_in_recipe_is_valid(recipe: Path) -> None:
    assert read_steps(recipe, problems="anything.jsonl")


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    [config] = [step.config for step in read_steps(RECIPES / "rlt-7b.toml") if isinstance(step.config, TrainConfig)]
    grpo, reward = config.grpo, config.reward
    assert (grpo.steps, grpo.prompts_per_step * grpo.group_size, grpo.group_size) == (125, 1024, 64)
    assert (grpo.learning_rate, grpo.beta, grpo.reference_sync_steps, grpo.reference_mixup) == (1e-6, 0.04, 32, 0.9)
    assert (reward.ss_weight, reward.ss_weight * reward.ss_min_weight) == (1, 0.01)
    assert (reward.kl_weight, reward.kl_weight * reward.kl_max_weight) == (3, pytest.approx(0.03))
    assert (reward.temperature, reward.unclosed_penalty) == (0.7, 1.0)


def test_the_defaults_of_train_are_the_paper_s_recipe() -> None:
    [config] = [step.config for step in read_steps(RECIPES / "rlt-7b.toml") if isinstance(step.config, TrainConfig)]
    defaults = TrainConfig(problems="", teacher="", student="", out="")
    assert config.reward == defaults.reward
    assert config.grpo == defaults.grpo.model_copy(update={"gradient_checkpointing": True})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty recipe"),
        ("[trane]\n", r"\[trane\] is not a step"),
        ("[explain]\nteacher = 'a'\nproblems = 'b'\nout = 'c'\nsamples = 0\n", r"\[explain\]: samples: .* got 0"),
        ("[explain]\nteacher = 'a'\nproblems = 'b'\nout = 'c'\nwhat = 0\n", r"what: is not a setting"),
        ("[explain\n", "not valid TOML"),
        ("explain = 3\n", "is not a step"),
    ],
)
def test_a_bad_recipe_is_one_error_that_names_table_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_steps(recipe)


def test_a_recipe_runs_its_steps_and_runs_none_of_them_twice(
    tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_problems(tiny_problems, tmp_path / "problems.jsonl")
    out, recipe = tmp_path / "runs", tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        [scratch]
        out = "{out}/scratch"
        vocabulary = 400
        hidden_size = 32
        layers = 2
        heads = 2
        key_value_heads = 2
        intermediate_size = 64
        device = "cpu"
        threads = 1

        [warmup]
        model = "{out}/scratch"
        out = "{out}/base"
        formats = "both"
        device = "cpu"
        threads = 1
        sft.max_steps = 3
        sft.batch_size = 8

        [train]
        teacher = "{out}/base"
        student = "{out}/base"
        out = "{out}/teacher"
        device = "cpu"
        threads = 1
        tracker = "none"
        rollout.max_tokens = 8
        grpo.steps = 2
        grpo.prompts_per_step = 2
        grpo.group_size = 2
        grpo.rows_per_device = 4

        [explain]
        teacher = "{out}/teacher"
        out = "{out}/explanations.jsonl"
        limit = 6
        device = "cpu"
        threads = 1
        sampling.max_tokens = 8

        [score]
        traces = "{out}/explanations.jsonl"
        student = "{out}/base"
        teacher = "{out}/teacher"
        out = "{out}/scored.parquet"
        device = "cpu"
        threads = 1

        [distill]
        explanations = "{out}/scored.parquet"
        student = "{out}/base"
        out = "{out}/student"
        keep_unclosed = true
        device = "cpu"
        threads = 1
        sft.max_steps = 2
        sft.batch_size = 4

        [evaluate]
        model = "{out}/student"
        out = "{out}/evaluation"
        skip = 30
        samples = 2
        device = "cpu"
        threads = 1
        sampling.max_tokens = 8
        """
    )
    config = RunConfig(recipe=str(recipe), problems=str(tmp_path / "problems.jsonl"))
    main(config)
    report = json.loads((out / "evaluation" / "report.json").read_text())
    assert (report["problems"], report["generations"]) == (10, 20)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    capsys.readouterr()
    main(config)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert capsys.readouterr().out.count("nothing to do") == 6
