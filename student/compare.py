"""`rlt compare`: two evaluations of the same problems, problem by problem.

    difference = mean over problems of (share right in the second - share right in the first)

with a 95 % interval by a paired bootstrap over problems (scipy, BCa, 9,999 resamples) and the p-value of a paired
permutation test. Problems that went from right to wrong are told apart from those gained, since their difference alone
hides what was forgotten: compare a second suite before and after training. Right is more than half of the samples.
Left out: more than two models, and problems that only one of them was given.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from student.configs import CompareConfig
from student.errors import ProblemError
from student.evaluate import Estimate, EvaluationReport, Generation
from student.problem_files import whole_file
from student.row_file import naming

RESAMPLES = 9999


SHOWN = 5
"""Lost problems that the table names; the JSON has all."""


class Turned(BaseModel):
    """A problem that one model got right and the other wrong, with the share of right samples of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem_id: str
    question: str
    answer: str
    first: float
    second: float


class Comparison(BaseModel):
    """The second model against the first, on the problems that both were given; shares are fractions of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    problems: int
    first_pass_at_1: float
    second_pass_at_1: float
    difference: Estimate
    p_value: float
    """Of no difference: a paired permutation test, two-sided."""
    gained: int
    """Problems that the first got wrong more often than right, and the second right."""
    lost: int
    """The other way round: forgotten."""
    truncated: tuple[float, float]
    left_out: int = 0
    """Problems that only one of the two was given."""
    gained_problems: list[Turned] = Field(default_factory=list)
    lost_problems: list[Turned] = Field(default_factory=list)


def main(config: CompareConfig) -> None:
    """Carries out `rlt compare`; raises ProblemError where the two cannot be compared."""
    made = compare(Path(config.first), Path(config.second), config.seed)
    if config.out is not None:
        write_comparison(made, Path(config.out))
    print(table(made), end="")


def write_comparison(made: Comparison, path: Path) -> None:
    """Writes it as JSON, whole or not at all."""
    with naming(path), whole_file(path) as file:
        file.write(json.dumps(made.model_dump(mode="json"), indent=2) + "\n")


def compare(first: Path, second: Path, seed: int = 0) -> Comparison:
    """The comparison of two folders of `rlt evaluate`; raises ProblemError where they share no problem."""
    reports = [_report(folder) for folder in (first, second)]
    _check_alike(first, second, *reports)
    found = [_results(folder) for folder in (first, second)]
    both = [problem for problem in found[0] if problem in found[1]]
    if not both:
        raise ProblemError(f"{first} and {second}: no problem in common; evaluate both models on the same problems")
    before, after = (np.array([each[problem].share for problem in both]) for each in found)
    turned = [_turned(found[0][problem], found[1][problem]) for problem in both]
    gained = [each for each in turned if each.first <= 0.5 < each.second]
    lost = [each for each in turned if each.second <= 0.5 < each.first]
    return Comparison(
        first=reports[0].setup.model,
        second=reports[1].setup.model,
        problems=len(both),
        first_pass_at_1=float(before.mean()),
        second_pass_at_1=float(after.mean()),
        difference=paired_difference(before, after, seed),
        p_value=permutation_p(before, after, seed),
        gained=len(gained),
        lost=len(lost),
        truncated=(reports[0].truncated, reports[1].truncated),
        left_out=len(found[0].keys() ^ found[1].keys()),
        gained_problems=gained,
        lost_problems=lost,
    )


def paired_difference(before: np.ndarray, after: np.ndarray, seed: int) -> Estimate:
    """Mean of `after - before`, shapes (P,), P problems, with its 95 % BCa interval over problems.

    Where every problem changed by the same, the interval is that point; one problem has no interval but all of it.
    """
    change = after - before
    mean = float(change.mean())
    if len(change) < 2:
        return Estimate(value=mean, low=-1.0, high=1.0)
    if np.ptp(change) == 0:
        return Estimate(value=mean, low=mean, high=mean)
    found = stats.bootstrap((change,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=seed, batch=1000)
    return Estimate(value=mean, low=float(found.confidence_interval.low), high=float(found.confidence_interval.high))


def permutation_p(before: np.ndarray, after: np.ndarray, seed: int) -> float:
    """How often so large a mean difference comes about when each problem's two shares change places by chance."""
    if np.array_equal(before, after):
        return 1.0
    found = stats.permutation_test(
        (before, after),
        lambda first, second, axis: np.mean(second - first, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=seed,
        batch=1000,
    )
    return float(found.pvalue)


def _report(folder: Path) -> EvaluationReport:
    path = folder / "report.json"
    if not path.is_file():
        raise ProblemError(f"{folder}: no report.json in it; name a folder that `rlt evaluate --out` finished")
    try:
        return EvaluationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ProblemError(f"{path}: not a report of `rlt evaluate`; evaluate anew") from error


def _check_alike(first: Path, second: Path, one: EvaluationReport, other: EvaluationReport) -> None:
    """Says on stderr what the two did differently: such a difference is no difference of the models."""
    pairs = {
        "grading": (one.setup.grading, other.setup.grading),
        "samples": (one.setup.samples, other.setup.samples),
        "sampling": (one.setup.sampling.model_dump(), other.setup.sampling.model_dump()),
        "engine": ((one.engine, one.precision), (other.engine, other.precision)),
    }
    for name, (left, right) in pairs.items():
        if left != right:
            print(f"rlt: {first} and {second} differ in {name}: {left} and {right}", file=sys.stderr)


@dataclass
class _Result:
    """One model's samples of a problem."""

    problem_id: str
    question: str
    answer: str
    right: list[bool] = field(default_factory=list)

    @property
    def share(self) -> float:
        return sum(self.right) / len(self.right)


def _results(folder: Path) -> dict[str, _Result]:
    """The samples of each problem, in the order of the file."""
    found: dict[str, _Result] = {}
    for row in _generations(folder / "generations.jsonl"):
        result = found.setdefault(row.problem_id, _Result(row.problem_id, row.question, row.answer))
        result.right.append(row.correct)
    return found


def _turned(before: _Result, after: _Result) -> Turned:
    return Turned(
        problem_id=before.problem_id,
        question=before.question,
        answer=before.answer,
        first=before.share,
        second=after.share,
    )


def _generations(path: Path) -> Iterator[Generation]:
    if not path.is_file():
        raise ProblemError(f"{path}: missing; run the evaluation to its end")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield Generation.model_validate_json(line)
            except ValueError as error:
                raise ProblemError(f"{path}:{number}: not a generation of `rlt evaluate`; evaluate anew") from error


def table(made: Comparison) -> str:
    """The comparison as text for people."""
    one = made.difference
    lines: Sequence[tuple[str, str]] = [
        ("first", f"{made.first_pass_at_1:7.2%}   {made.first}"),
        ("second", f"{made.second_pass_at_1:7.2%}   {made.second}"),
        ("difference", f"{one.value:+7.2%}   95 % interval {one.low:+.2%} to {one.high:+.2%}, p = {made.p_value:.4f}"),
        ("gained", f"{made.gained:7d}   of {made.problems} problems"),
        ("lost", f"{made.lost:7d}   forgotten{_named(made.lost_problems)}"),
        ("truncated", f"{made.truncated[0]:7.2%} and {made.truncated[1]:.2%}"),
    ]
    if made.left_out:
        lines = [*lines, ("left out", f"{made.left_out:7d}   problems that only one of them was given")]
    return "".join(f"{name:<12} {value}\n" for name, value in lines)


def _named(lost: Sequence[Turned]) -> str:
    """The first of them by their ids."""
    more = ", ..." if len(lost) > SHOWN else ""
    return f": {', '.join(each.problem_id for each in lost[:SHOWN])}{more}" if lost else ""
