"""What a student forgot while it was trained: a second suite of problems, before and after.

    OUT/retention/before, after      evaluations of the model given and of the model made, as `rlt evaluate` leaves them
    OUT/retention/comparison.json    the second against the first, as `rlt compare` writes it, with what was lost
    OUT/report.json                  its figures, under "retention"

Both are sampled once the training is done, since the model it began with is still there; so a run that is finished can
be asked later what it forgot. Each evaluation goes on where it was stopped. Left out: the weights in between.
"""

from pathlib import Path
from typing import Any

from student import processes
from student.compare import Comparison, compare, table, write_comparison
from student.configs import DistillConfig, EvaluateConfig, EvaluationSettings
from student.errors import ConfigError
from student.evaluate import main as evaluate
from student.problem_files import take_in
from student.run_folder import add
from student.tags import STYLES

FOLDER = "retention"
"""What is kept of it in the folder of a run."""


def check_suite(config: DistillConfig, suite: EvaluationSettings) -> None:
    """Raises RltError where the suite cannot be used, before hours of training; reads it and keeps nothing."""
    if processes.count() > 1:
        raise ConfigError(
            f"retention: is measured by one process and this run has {processes.count()}; leave it out, then run this "
            "command with it and without the launcher: a finished run is only evaluated"
        )
    take_in(suite, STYLES[config.tags])


def measure_retention(config: DistillConfig, suite: EvaluationSettings) -> Comparison:
    """Evaluates the model that `config` began with and the one that it made, and writes what changed."""
    before, after = (_evaluation(config, suite, name) for name in ("before", "after"))
    evaluate(before)
    evaluate(after)
    made = compare(Path(before.out), Path(after.out), suite.sampling.seed)
    write_comparison(made, _folder(config) / "comparison.json")
    add(Path(config.out), {FOLDER: figures(made)})
    print(table(made), end="")
    return made


def figures(made: Comparison) -> dict[str, Any]:
    """What the report of a run says of it: shares as fractions of 1, the difference with its 95 % interval."""
    return {
        "problems": made.problems,
        "before": made.first_pass_at_1,
        "after": made.second_pass_at_1,
        "difference": made.difference.model_dump(),
        "p_value": made.p_value,
        "gained": made.gained,
        "lost": made.lost,
    }


def _evaluation(config: DistillConfig, suite: EvaluationSettings, name: str) -> EvaluateConfig:
    return EvaluateConfig(
        **dict(suite),
        model=config.student if name == "before" else config.out,
        out=str(_folder(config) / name),
        tags=config.tags,
        device=config.device,
        dtype=config.dtype,
        threads=config.threads,
    )


def _folder(config: DistillConfig) -> Path:
    return Path(config.out) / FOLDER
