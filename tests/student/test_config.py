"""Settings come from a recipe and then from flags; what is wrong with them is one line that names the field."""

from pathlib import Path

import pytest

from student.config import parse_command, remember
from student.errors import ConfigError, OutputError
from teacher.configs import TrainConfig

PATHS = ["--problems", "p", "--teacher", "t", "--student", "s", "--out", "o"]


def train(*flags: str) -> TrainConfig:
    config = parse_command(TrainConfig, "train", flags, "summary")
    assert isinstance(config, TrainConfig)
    return config


def test_flags_go_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[train]\nreward.kl_weight = 5\ngrpo.steps = 7\n[other]\nsteps = 1\n")
    config = train("--config", str(recipe), "--reward.kl-weight", "9", *PATHS)
    assert (config.reward.kl_weight, config.grpo.steps, config.grpo.group_size) == (9, 7, 64)


def test_a_recipe_is_found_by_its_name() -> None:
    assert train("--config", "rlt-7b").teacher == "runs/rlt-7b/warm"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--reward.kl-wieght", "3"], "unrecognized arguments: --reward.kl-wieght 3"),
        (["--grpo.steps"], "--grpo.steps: expected one argument"),
        (["--grpo.steps", "many"], "grpo.steps: .*got 'many'"),
        (["--grpo.steps", "0"], "grpo.steps: .*greater than 0, got '0'"),
        (["--grpo.save-steps", "3", "--grpo.steps-per-generation", "2"], r"save_steps \(3\) must be a multiple"),
        (["--rollout.engine", "magic"], "rollout.engine: .*'transformers'.*got 'magic'"),
        (["--config", "nowhere"], "no such file; give a TOML file or one of the recipes"),
    ],
)
def test_a_bad_setting_is_refused_by_name(flags: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        train(*flags, *PATHS)


def test_a_missing_setting_is_named_as_the_flag_that_it_is() -> None:
    with pytest.raises(ConfigError, match=r"^--problems: is required"):
        train()


def test_a_misspelt_name_is_told_before_the_one_that_it_leaves_missing(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[train]\nproblms = 'p'\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: problms: is not a setting"):
        train("--config", str(recipe))


def test_an_unknown_name_in_a_recipe_is_named_with_its_file(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[train]\nreward.kl_wieght = 5\n")
    with pytest.raises(ConfigError, match=r"mine.toml: reward.kl_wieght: is not a setting"):
        train("--config", str(recipe), *PATHS)


def test_a_run_with_other_settings_is_refused_by_field(tmp_path: Path) -> None:
    remember(train(*PATHS), tmp_path / "settings.json")
    remember(train(*PATHS, "--threads", "2"), tmp_path / "settings.json", free=("threads",))
    with pytest.raises(OutputError, match=r"tags was 'rlt', now 'think'"):
        remember(train(*PATHS, "--tags", "think"), tmp_path / "settings.json", free=("threads",))
    with pytest.raises(OutputError, match=r"\(reward.kl_weight was 3.0, now 5.0\)"):
        remember(train(*PATHS, "--reward.kl-weight", "5"), tmp_path / "settings.json", free=("threads",))


def test_damaged_settings_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"steps":')
    with pytest.raises(OutputError, match="damaged"):
        remember(train(*PATHS), tmp_path / "settings.json")


def test_a_whole_group_may_be_free_and_a_name_that_begins_alike_is_not(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    remember(train(*PATHS), path)
    remember(train(*PATHS, "--watch.window", "5", "--watch.leak-rise", "0.1"), path, free=("watch",))
    with pytest.raises(OutputError, match=r"grpo\.steps was 125, now 7"):
        remember(train(*PATHS, "--grpo.steps", "7"), path, free=("watch", "grpo.step"))
