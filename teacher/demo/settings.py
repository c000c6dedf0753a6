"""The demo's recipe: the tables of recipes/toy.toml as settings, moved to the folder and the seed of one run.

The paths in a recipe are those of seed 0, `demo/seed-0/...`; every other seed has the same files in its own folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from student.config import Config, resolve_recipe, validated
from student.configs import DistillConfig, EvaluateConfig, ProblemSource
from student.errors import ConfigError
from teacher.configs import ExplainConfig, ScoreConfig, TrainConfig, WarmupConfig
from teacher.recipe import read_steps

HOME = "demo/seed-0"
"""What paths in a recipe begin with."""
TABLES = {
    "warmup-skill": "skill",
    "warmup": "base",
    "train": "train",
    "explain": "explain",
    "score": "score",
    "distill": "distill",
    "evaluate": "evaluate",
}
"""The tables that a demo's recipe has, and the fields of Recipe that they fill."""


class Recipe(Config):
    """The settings of each verb in the chain; the demo changes what is explained, scored, studied and evaluated."""

    skill: WarmupConfig
    """Warm-up on explanations that are nearly all complete."""
    base: WarmupConfig
    """Warm-up on explanations of every style, which ends with the base model."""
    train: TrainConfig
    """RL."""
    explain: ExplainConfig
    """Explanations of either teacher."""
    score: ScoreConfig
    """Their reward."""
    distill: DistillConfig
    """Every student."""
    evaluate: EvaluateConfig
    """Every evaluation."""

    def placed(self, folder: Path, seed: int) -> Self:
        """The same recipe with its files under `folder` and with `seed` wherever it has one."""
        return self.model_validate(_moved(self.model_dump(), folder, seed))


def read_recipe(name: str) -> Recipe:
    """The recipe of that name or path; raises ConfigError where a table is missing, unknown or holds a bad setting."""
    path = resolve_recipe(name)
    steps = {step.name: step.config for step in read_steps(path)}
    if steps.keys() != TABLES.keys():
        odd = ", ".join(f"[{table}]" for table in sorted(steps.keys() ^ TABLES.keys()))
        raise ConfigError(f"{path}: {odd} missing or unknown; a demo takes the tables {', '.join(TABLES)}")
    for table, config in steps.items():
        if isinstance(config, ProblemSource) and config.limit is None:
            raise ConfigError(f"{path} [{table}]: limit is missing; it says how many problems the demo draws")
    return validated(Recipe, {TABLES[table]: config.model_dump() for table, config in steps.items()}, str(path))


def _moved(values: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    return {name: _moved_value(name, value, folder, seed) for name, value in values.items()}


def _moved_value(name: str, value: Any, folder: Path, seed: int) -> Any:
    if isinstance(value, dict):
        return _moved(value, folder, seed)
    if name == "seed":
        return seed
    if isinstance(value, str) and value.startswith(f"{HOME}/"):
        return str(folder / value.removeprefix(f"{HOME}/"))
    return value
