"""Which passages are read together, and which of them share a beginning that is read once. Pure Python.

A **group** is the passages that begin alike up to their explanations: the explanations of one problem. Its **prefix**
is that beginning, its **members** are what follows in each. A **pack** is a row of groups, one after another:

    prefix | member | member | member || prefix | member || member        (a passage by itself has no prefix)

Positions count on from the prefix in each member, so that a token's position is the one it has in its passage. T is the
pack's tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from student.reading import Passage


@dataclass(frozen=True)
class Member:
    """What one passage adds to its group's prefix."""

    passage: int
    """Its number among the passages planned."""
    tokens: range
    """Where it stands in the pack."""


@dataclass(frozen=True)
class Group:
    """Passages that share a beginning, one after another in a pack."""

    prefix: range
    """Where the beginning stands in the pack; empty where nothing is shared."""
    members: tuple[Member, ...]

    @property
    def following(self) -> range:
        """All that comes after the prefix."""
        return range(self.prefix.stop, self.members[-1].tokens.stop)


@dataclass
class Pack:
    """One row for the model."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def add(self, passages: Sequence[Passage], numbers: Sequence[int], shared: int) -> None:
        """Appends a group: `shared` tokens once, then what follows them in each of the passages `numbers`."""
        prefix = self._append(passages[numbers[0]].input_ids[:shared], 0)
        members = [Member(number, self._append(passages[number].input_ids[shared:], shared)) for number in numbers]
        self.groups.append(Group(prefix, tuple(members)))

    def _append(self, ids: Sequence[int], position: int) -> range:
        start = len(self.ids)
        self.ids.extend(ids)
        self.positions.extend(range(position, position + len(ids)))
        return range(start, len(self.ids))

    def places(self, passages: Sequence[Passage]) -> Iterator[tuple[int, list[int]]]:
        """Each passage's number, and where in the pack those tokens stand that predict its explanation and solution."""
        for group in self.groups:
            shared = len(group.prefix)
            for member in group.members:
                passage = passages[member.passage]
                yield (
                    member.passage,
                    [
                        group.prefix.start + place if place < shared else member.tokens.start + place - shared
                        for place in predictors(passage)
                    ],
                )


def predictors(passage: Passage) -> list[int]:
    """Positions whose next token is scored: the model's output at i predicts token i + 1.

    >>> predictors(Passage([7, 7, 1, 2, 9, 5], range(2, 4), range(5, 6)))
    [1, 2, 4]
    """
    return [place - 1 for place in (*passage.explanation, *passage.solution)]


def packs(passages: Sequence[Passage], budget: int) -> list[Pack]:
    """All passages, each in one pack of at most `budget` tokens; one that is longer has a pack to itself.

    >>> alike = [Passage([7, 7, 1, 2], range(2, 4), range(4, 4)), Passage([7, 7, 3], range(2, 3), range(3, 3))]
    >>> [(pack.ids, pack.positions) for pack in packs(alike, 100)]
    [([7, 7, 1, 2, 3], [0, 1, 2, 3, 2])]
    """
    made = [Pack()]
    for numbers in _alike(passages):
        rest = numbers
        while rest:
            fitting, shared = _fitting(passages, rest, budget - len(made[-1].ids))
            if fitting or not made[-1].ids:
                taken = rest[: max(1, fitting)]
                made[-1].add(passages, taken, shared if len(taken) > 1 else 0)
                rest = rest[len(taken) :]
            else:
                made.append(Pack())
    return [pack for pack in made if pack.ids]


def _alike(passages: Sequence[Passage]) -> list[list[int]]:
    """Numbers of the passages that begin alike, in the order in which each beginning appears first."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, passage in enumerate(passages):
        found.setdefault(tuple(passage.input_ids[: passage.explanation.start]), []).append(number)
    return list(found.values())


def _fitting(passages: Sequence[Passage], numbers: Sequence[int], room: int) -> tuple[int, int]:
    """How many of the first passages fit into `room` tokens as one group, and how many tokens they share."""
    shared = passages[numbers[0]].explanation.start
    tokens = shared
    for count, number in enumerate(numbers):
        tokens += len(passages[number].input_ids) - shared
        if tokens > room:
            return count, shared
    return len(numbers), shared
