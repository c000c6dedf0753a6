"""Explanations of two steps of a training run side by side, of the same problem where both steps have one in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from student.run_reading.samples import Sample, SampledProblem, Samples


@dataclass(frozen=True)
class Choice:
    """What is compared: two steps, and the problem on each side."""

    left: int
    right: int
    problems: tuple[str, str]
    """Ids; the same one twice where the steps have a problem in common."""
    common: list[SampledProblem]
    """The problems that both steps have."""

    @property
    def same(self) -> bool:
        """Both sides are of one problem."""
        return self.problems[0] == self.problems[1]


def choice(known: Samples, left: int | None, right: int | None, problem: str | None) -> Choice | None:
    """What to compare of what was asked for; what was not asked for is chosen so that the sides have a problem in
    common where any two steps do. None where nothing was sampled."""
    if not known.steps:
        return None
    first, last = _far_apart(known)
    left = left if left in known.steps else first
    right = right if right in known.steps else last
    common = [each for each in known.problems if {left, right} <= set(each.steps)]
    wanted = next((each for each in common if each.id == problem), common[0] if common else None)
    if wanted is not None:
        return Choice(left, right, (wanted.id, wanted.id), common)
    return Choice(left, right, (_first_of(known.problems, left), _first_of(known.problems, right)), common)


def of_side(samples: Sequence[Sample], step: int, problem: str) -> list[Sample]:
    """What one side shows, the best first."""
    found = [each for each in samples if each.step == step and each.problem == problem]
    return sorted(found, key=lambda sample: -float("inf") if sample.reward is None else sample.reward, reverse=True)


def _far_apart(known: Samples) -> tuple[int, int]:
    """The first and last step of a problem that came again, else of all."""
    again = [each.steps for each in known.problems if len(each.steps) > 1]
    widest = max(again, key=lambda steps: steps[-1] - steps[0], default=known.steps)
    return widest[0], widest[-1]


def _first_of(problems: Sequence[SampledProblem], step: int) -> str:
    return next((each.id for each in problems if step in each.steps), "")
