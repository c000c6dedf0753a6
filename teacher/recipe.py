"""`rlt run`: a whole chain from one TOML file, verb after verb.

Each table is one step and is named after its verb; `[evaluate-base]` is a second `evaluate`. Steps run in the file's
order, in this process. Every verb goes on where it stopped or sees that it is done, so a killed run is started again
by the same command.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from student.cli import Verb, verbs
from student.config import Config, read_toml, resolve_recipe, validated
from student.configs import ProblemSource
from student.errors import ConfigError
from teacher.configs import RunConfig


@dataclass(frozen=True)
class Step:
    """One table of a recipe: what to run, and with which settings."""

    name: str
    verb: Verb
    config: Config


def main(config: RunConfig) -> None:
    """Carries out `rlt run`; every table is checked before the first step begins."""
    steps = read_steps(resolve_recipe(config.recipe), config.problems)
    for number, step in enumerate(steps, start=1):
        print(f"== {number}/{len(steps)} {step.name}: {step.verb.summary}", file=sys.stderr, flush=True)
        started = time.monotonic()
        step.verb.run(step.config)
        print(f"== {step.name} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def read_steps(path: Path, problems: str | None = None) -> list[Step]:
    """The steps of a recipe, settings checked; raises ConfigError naming the table and the field."""
    known = verbs()
    tables = read_toml(path)
    if not tables:
        raise ConfigError(
            f"{path}: an empty recipe; write one table a step, such as [train] (verbs: {', '.join(known)})"
        )
    return [_step(path, name, table, known, problems) for name, table in tables.items()]


def _step(path: Path, name: str, table: Any, known: dict[str, Verb], problems: str | None) -> Step:
    verb = known.get(name.partition("-")[0])
    if verb is None or not isinstance(table, dict) or verb.config_type is RunConfig:
        raise ConfigError(f"{path}: [{name}] is not a step; tables are named after a verb: {', '.join(known)}")
    takes_problems = issubclass(verb.config_type, ProblemSource) and "problems" not in table
    if takes_problems and problems is not None:
        table = {**table, "problems": problems}
    return Step(name, verb, validated(verb.config_type, table, f"{path} [{name}]"))
