"""What `rlt bench score` measured, and the ratios made of it, each of two runs of one round."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from teacher.bench.measuring import Cost
from teacher.bench.variants import OURS, REFERENCE, UNCOLLECTED
from teacher.bench.workload import Shape

SMALL, LARGE = 512, 151_936
"""The vocabularies: a toy's, and Qwen2.5's."""
BASE = Shape(8, 8, 50, 400)
"""What promises speak of."""
FOUR_TIMES = Shape(32, 8, 50, 400)
LONG = Shape(1, 2, 4096, 4096)

Sweep = Literal["base", "explanations", "length"]


@dataclass(frozen=True)
class Run:
    """One variant's run on one size in one round."""

    sweep: Sweep
    vocabulary: int
    shape: Shape
    round: int
    variant: str
    cost: Cost


@dataclass(frozen=True)
class Memory:
    """The peak of one variant above the loaded models; None where the system does not tell."""

    vocabulary: int
    shape: Shape
    variant: str
    bytes: int | None


@dataclass
class Results:
    """All of it."""

    machine: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    worst_difference: float = 0.0
    """The largest difference between a reward and the reference's."""

    def costs(self, vocabulary: int, shape: Shape, variant: str) -> dict[int, Cost]:
        """By round."""
        return {
            run.round: run.cost
            for run in self.runs
            if (run.vocabulary, run.shape, run.variant) == (vocabulary, shape, variant)
        }

    def cpu_ratios(self, vocabulary: int, over: tuple[Shape, str], under: tuple[Shape, str]) -> list[float]:
        """CPU seconds over CPU seconds, of each round that has both."""
        one, other = self.costs(vocabulary, *over), self.costs(vocabulary, *under)
        return [one[number].cpu_seconds / other[number].cpu_seconds for number in sorted(one.keys() & other.keys())]

    def speedups(self, vocabulary: int, shape: Shape, variant: str = OURS) -> list[float]:
        """How many times fewer CPU seconds than the reference's."""
        return self.cpu_ratios(vocabulary, (shape, REFERENCE), (shape, variant))

    def uncollected_speedups(self, vocabulary: int, shape: Shape, variant: str = OURS) -> list[float]:
        """The same with the reference's collection off: of such a run, or else less what its collections took."""
        if self.costs(vocabulary, shape, UNCOLLECTED):
            return self.cpu_ratios(vocabulary, (shape, UNCOLLECTED), (shape, variant))
        theirs, ours = self.costs(vocabulary, shape, REFERENCE), self.costs(vocabulary, shape, variant)
        return [
            (theirs[number].cpu_seconds - theirs[number].collection_seconds) / ours[number].cpu_seconds
            for number in sorted(theirs.keys() & ours.keys())
        ]

    def peak(self, vocabulary: int, shape: Shape, variant: str) -> int | None:
        """Bytes above the models."""
        found = [
            each.bytes
            for each in self.memory
            if (each.vocabulary, each.shape, each.variant) == (vocabulary, shape, variant)
        ]
        return found[0] if found else None

    def memory_ratio(self, vocabulary: int, shape: Shape, variant: str = OURS) -> float | None:
        """The reference's peak over ours; None where one is not known."""
        theirs, ours = self.peak(vocabulary, shape, REFERENCE), self.peak(vocabulary, shape, variant)
        return theirs / ours if theirs and ours else None


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing.

    >>> middle([3.0, 1.0, 2.0]), middle([])
    (2.0, None)
    """
    return median(values) if values else None
