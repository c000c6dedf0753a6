"""Which passages are read together, and which of them share a beginning that is read once. Pure Python.

A passage's beginning is what stands before its explanation. A **group** is passages whose beginnings are one another's
beginnings: the explanations of one problem, or one explanation read up to each of its steps. Its **prefix** is the
longest of them, its **members** are what follows in each, and a member sees as much of the prefix as it begins with.
A **pack** is a row of groups, one after another:

    prefix | member | member | member || prefix | member || member        (a passage by itself has no prefix)

Positions count on in each member from what it sees of the prefix, so that a token's position is the one it has in its
passage. T is the pack's tokens.
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
    prefix: range
    """Where its beginning stands, a leading part of its group's prefix; empty where nothing is shared."""


@dataclass(frozen=True)
class Group:
    """Passages that share a beginning, one after another in a pack, those that share the most of it first."""

    prefix: range
    """Where the longest beginning stands in the pack; empty where nothing is shared."""
    members: tuple[Member, ...]


@dataclass
class Pack:
    """One row for the model."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def add(self, passages: Sequence[Passage], numbers: Sequence[int]) -> None:
        """Appends a group: the beginning of the first of the passages `numbers` once, then what follows in each."""
        first = passages[numbers[0]]
        shared = first.explanation.start if len(numbers) > 1 else 0
        prefix = self._append(first.input_ids[:shared], 0)
        self.groups.append(Group(prefix, tuple(self._member(passages[number], number, prefix) for number in numbers)))

    def _member(self, passage: Passage, number: int, prefix: range) -> Member:
        seen = prefix[: passage.explanation.start]
        return Member(number, self._append(passage.input_ids[len(seen) :], len(seen)), seen)

    def _append(self, ids: Sequence[int], position: int) -> range:
        start = len(self.ids)
        self.ids.extend(ids)
        self.positions.extend(range(position, position + len(ids)))
        return range(start, len(self.ids))

    def places(self, passages: Sequence[Passage]) -> Iterator[tuple[int, list[int]]]:
        """Each passage's number, and where in the pack those tokens stand that predict its explanation and solution."""
        for group in self.groups:
            for member in group.members:
                shared, own = len(member.prefix), member.tokens.start
                yield (
                    member.passage,
                    [
                        member.prefix.start + place if place < shared else own + place - shared
                        for place in predictors(passages[member.passage])
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

    Where it is its beginning that is so long, others that share it are read with it, up to twice its tokens: to read
    it again for each of them would cost more.

    >>> alike = [Passage([7, 7, 1, 2], range(2, 4), range(4, 4)), Passage([7, 7, 3], range(2, 3), range(3, 3))]
    >>> [(pack.ids, pack.positions) for pack in packs(alike, 100)]
    [([7, 7, 1, 2, 3], [0, 1, 2, 3, 2])]
    """
    made = [Pack()]
    for numbers in _alike(passages):
        rest = numbers
        while rest:
            fitting = _fitting(passages, rest, budget - len(made[-1].ids))
            if not fitting and made[-1].ids:
                made.append(Pack())
                continue
            taken = rest[: fitting or max(1, _fitting(passages, rest, 2 * passages[rest[0]].explanation.start))]
            made[-1].add(passages, taken)
            rest = rest[len(taken) :]
    return [pack for pack in made if pack.ids]


def _alike(passages: Sequence[Passage]) -> list[list[int]]:
    """Numbers of the passages of each group, longest beginning first; groups in the order of their first passages.

    Sorted, a beginning comes directly before those that go on from it; so from behind each joins the one at hand or
    opens another group.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for number, passage in enumerate(passages):
        found.setdefault(tuple(passage.input_ids[: passage.explanation.start]), []).append(number)
    groups: list[list[int]] = []
    longest: tuple[int, ...] = ()
    for beginning in sorted(found, reverse=True):
        if groups and longest[: len(beginning)] == beginning:
            groups[-1].extend(found[beginning])
        else:
            longest = beginning
            groups.append(found[beginning])
    return sorted(groups, key=min)


def _fitting(passages: Sequence[Passage], numbers: Sequence[int], room: int) -> int:
    """How many of the first passages fit into `room` tokens as one group."""
    tokens = passages[numbers[0]].explanation.start
    for count, number in enumerate(numbers):
        tokens += len(passages[number].input_ids) - passages[number].explanation.start
        if tokens > room:
            return count
    return len(numbers)
