r"""A text as words with their places: what finds leaks compares words, and answers in characters of the text.

A number is one word, whatever its commas and zeros ("1,200.50" is "1200.5"); a sign belongs to it where it stands
directly before it and after no operand, so "+8" is not "8", and "3-8" is three words. A LaTeX command is a word, any
other character that is no letter a word of its own. Letters are compared without their case.

Everything here takes time linear in the text: no pattern can fail later than it began. Left out: any grammar.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

_WORD = re.compile(
    r"(?P<number>(?:(?<![\w)\]}])[+\-\u2212](?=\d))?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)"
    r"|(?P<letters>\\?[^\W\d_]+(?:['\u2019][^\W\d_]+)*)"
    r"|(?P<symbol>[^\s\w]|_)"
)
_ENDS = frozenset(".!?")
_LONGEST = 32
"""Characters of a word that are compared: what is longer is no word."""


def any_of(words: str) -> frozenset[str]:
    """A vocabulary, from its words with spaces between."""
    return frozenset(words.split())


@dataclass(frozen=True)
class Words:
    """The words of one text, in order."""

    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    numbers: frozenset[int]
    """Which of them are numbers."""

    def __len__(self) -> int:
        return len(self.words)

    def places(self, sought: Sequence[str]) -> list[int]:
        """Where these words stand in a row, each by its first word."""
        if not sought:
            return []
        first, wanted = sought[0], tuple(sought)
        return [
            place
            for place, word in enumerate(self.words)
            if word == first and self.words[place : place + len(wanted)] == wanted
        ]

    @cached_property
    def sentences(self) -> tuple[range, ...]:
        """The words of each sentence: it ends with its line, or with a full stop and a space."""
        borders = [0, *self._borders(), len(self)]
        return tuple(range(start, stop) for start, stop in pairwise(borders) if start < stop)

    def _borders(self) -> Iterator[int]:
        for place in range(1, len(self)):
            between = self.text[self.stops[place - 1] : self.starts[place]]
            if "\n" in between or (between and self.words[place - 1] in _ENDS):
                yield place


def words_of(text: str) -> Words:
    """The words of a text.

    >>> words_of("It's +8, so 3-8 = $1,200.50").words
    ("it's", '+8', ',', 'so', '3', '-', '8', '=', '$', '1200.5')
    """
    words: list[str] = []
    starts: list[int] = []
    stops: list[int] = []
    numbers: list[int] = []
    for found in _WORD.finditer(text):
        if found.lastgroup == "number":
            numbers.append(len(words))
            words.append(_number(found[0]))
        else:
            words.append(found[0][:_LONGEST].casefold().replace("\u2019", "'"))
        starts.append(found.start())
        stops.append(found.end())
    return Words(text, tuple(words), tuple(starts), tuple(stops), frozenset(numbers))


def _number(written: str) -> str:
    """A number as it is compared; as text, since a number may have a million digits."""
    sign = written[0].replace("\u2212", "-") if written[0] in "+-\u2212" else ""
    whole, _, fraction = written.lstrip("+-\u2212").replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    return sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
