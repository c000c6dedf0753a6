r"""Which sentences of a text compute something, and from which word on: what comes after work is derived, not told.

Work is an operator between two operands ("48 / 2"), an equation with a number on its left ("+1 = 4"), a LaTeX operator,
or a verb of reckoning beside a number ("48 divided by 2"). An assignment ("x = 42", "the answer = 42") is none. Left
out: whether it is right, and reasoning in words alone.
"""

from bisect import bisect_left
from collections.abc import Iterator, Set
from dataclasses import dataclass

from student.measures.words import Words, any_of

_OPERATORS = frozenset("+-*/×÷·^−–x<>≤≥")
_EQUALS = frozenset("=≈≡→⇒")
_LATEX = any_of(
    r"\times \cdot \div \frac \dfrac \tfrac \sqrt \sum \prod \int \binom \pm \implies \rightarrow \equiv"
    r" \approx \le \leq \ge \geq"
)
_VERBS = any_of(
    "plus minus times divided multiplied multiplying multiply multiplies subtract subtracts subtracted"
    " subtracting add adds adding"
    " added dividing divide divides squared cubed modulo mod sum difference product quotient summing"
)
_BEFORE = frozenset(")]}%'\"")
_AFTER = frozenset("([{$€£\\")
_REACH = 6
"""Words on either side of a verb of reckoning within which a number must stand."""


@dataclass(frozen=True)
class Work:
    """The words at which something is computed, in order."""

    places: tuple[int, ...]

    def without(self, places: Set[int]) -> "Work":
        """What is left where some words are none: an answer's own, such as those of 1/2."""
        return Work(tuple(place for place in self.places if place not in places))

    def before(self, place: int) -> bool:
        """Whether anything is computed before this word."""
        return bool(self.places) and self.places[0] < place

    def share_after(self, place: int) -> float:
        """How much of it is still to come at this word, 0 to 1; there must be some."""
        return 1 - bisect_left(self.places, place) / len(self.places)

    def within(self, start: int, stop: int) -> bool:
        """Whether anything is computed between these words."""
        found = bisect_left(self.places, start)
        return found < len(self.places) and self.places[found] < stop


def find_work(trace: Words) -> Work:
    """The work in a text.

    >>> from student.measures.words import words_of
    >>> find_work(words_of("He has x = 3 of them. So 48 / 2 = 24.")).places
    (10, 12)
    """
    return Work(tuple(place for sentence in trace.sentences for place in _in_sentence(trace, sentence)))


def _in_sentence(trace: Words, sentence: range) -> Iterator[int]:
    numbered = False
    for place in sentence:
        word = trace.words[place]
        if word in _EQUALS:
            works = numbered
        else:
            works = word in _LATEX or _operates(trace, sentence, place) or _reckons(trace, sentence, place)
        numbered = numbered or place in trace.numbers
        if works:
            yield place


def _operates(trace: Words, sentence: range, place: int) -> bool:
    """An operator between operands; also a signed number after a number, as in "3 +8"."""
    word = trace.words[place]
    if place == sentence.start:
        return False
    before = trace.words[place - 1]
    operand_before = place - 1 in trace.numbers or before in _BEFORE
    if place in trace.numbers:
        return word[0] in "+-" and place - 1 in trace.numbers
    if word not in _OPERATORS or place + 1 >= sentence.stop:
        return False
    after = trace.words[place + 1]
    unit_before = before.isalpha() and place - 2 in trace.numbers and word != "-"
    symbols = len(before) == 1 and before.isalpha() and not (word == "-" and before in "ai")
    operand_after = place + 1 in trace.numbers or after in _AFTER or (len(after) == 1 and after.isalpha())
    return (operand_before or unit_before or symbols) and operand_after


def _reckons(trace: Words, sentence: range, place: int) -> bool:
    if trace.words[place] not in _VERBS or trace.words[place + 1 : place + 3] == ("up", "to"):
        return False
    near = range(max(sentence.start, place - _REACH), min(sentence.stop, place + _REACH + 1))
    return any(other in trace.numbers for other in near)
