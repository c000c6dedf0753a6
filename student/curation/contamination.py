"""Passages of test sets in the rows: n-grams of words that a text and a test question have in common.

A test question of 13 words or more betrays itself by any 13 of them in a row; one of 8 to 12 by all of them in a row;
a shorter one only to a text that is the same. A text of 8 to 12 words betrays itself by being a passage of a test
question. Words are those of words.py, so case, punctuation and the spacing of LaTeX do not matter.

What several different test questions have in common ("where m and n are relatively prime positive integers, find ...")
betrays none of them, or every problem in that style would be taken for one of AIME. Two questions are different where
they share less than half of the n-grams of the shorter one. Left out: paraphrases and translations.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from student.curation.settings import Contamination
from student.curation.words import WordHashes, ngrams, words
from student.errors import ProblemError
from student.explanations import Explanation, Verdict
from student.row_layouts import BadRow, RowReader
from student.rows import RowSource, open_rows
from student.tags import RLT

SHORTEST = 8
"""Words in the shortest passage that betrays a question."""


@dataclass(frozen=True)
class Question:
    """A question of a test set and where it stands there."""

    place: str
    """`file:line`."""
    text: str


@dataclass(frozen=True)
class Passage:
    """What a text has in common with a test question."""

    question: Question
    words: str


class HeldOut:
    """The questions of test sets, to be recognised in other texts."""

    def __init__(self, questions: Iterable[Question], size: int = 13) -> None:
        self._size = size
        self._hashes = WordHashes()
        self._questions: list[Question] = []
        self._words: list[list[str]] = []
        self._whole: dict[tuple[str, ...], int] = {}
        for question in questions:
            found = words(question.text)
            if found and self._whole.setdefault(tuple(found), len(self._words)) == len(self._words):
                self._questions.append(question)
                self._words.append(found)
        self._grams: dict[int, Mapping[int, int]] = {}
        self._last: tuple[str, Passage | None] = ("", None)
        self._short = sorted({len(found) for found in self._words if SHORTEST <= len(found) < size})

    @classmethod
    def read(cls, settings: Contamination) -> Self:
        """Of the files that the settings name; raises ProblemError where one cannot be read."""
        return cls((question for file in settings.files for question in read_questions(file)), settings.words)

    def __len__(self) -> int:
        return len(self._questions)

    def passage(self, text: str) -> Passage | None:
        """The first passage of a test question that stands in the text."""
        if text != self._last[0]:  # the samples of a problem follow one another
            self._last = text, self._first_passage(words(text))
        return self._last[1]

    def _first_passage(self, found: list[str]) -> Passage | None:
        if (same := self._whole.get(tuple(found))) is not None:
            return Passage(self._questions[same], " ".join(found[: self._size]))
        sizes = [self._size, *self._short]
        if SHORTEST <= len(found) < self._size:
            sizes.append(len(found))
        return next(self._passages(found, sizes), None)

    def _passages(self, found: list[str], sizes: Sequence[int]) -> Iterator[Passage]:
        hashes = self._hashes.of(found)
        for size in dict.fromkeys(sizes):
            known = self._known(size)
            for start, gram in enumerate(ngrams(hashes, size).tolist()):
                if gram in known and self._betrays(known[gram], size, len(found)):
                    yield Passage(self._questions[known[gram]], " ".join(found[start : start + size]))

    def _betrays(self, question: int, size: int, text_words: int) -> bool:
        """A passage shorter than the n-gram must be the whole of one of the two."""
        return size == self._size or size in (len(self._words[question]), text_words)

    def _known(self, size: int) -> Mapping[int, int]:
        """The n-grams of this size and the question of each, without those of several different questions."""
        if size not in self._grams:
            grams = [set(ngrams(self._hashes.of(found), size).tolist()) for found in self._words]
            self._grams[size] = dict(_telling(grams))
        return self._grams[size]


def _telling(grams: Sequence[set[int]]) -> Iterator[tuple[int, int]]:
    """The n-grams that tell one question from the others, with its number: the first where several are alike."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, of_question in enumerate(grams):
        for gram in of_question:
            holders[gram].append(number)
    alike: dict[tuple[int, int], bool] = {}
    for gram, numbers in holders.items():
        first = numbers[0]
        for other in numbers[1:]:
            if (first, other) not in alike:
                shared = len(grams[first] & grams[other])
                alike[(first, other)] = 2 * shared >= min(len(grams[first]), len(grams[other]))
        if all(alike[(first, other)] for other in numbers[1:]):
            yield gram, first


def read_questions(file: str) -> Iterator[Question]:
    """The questions of a file of problems; raises ProblemError at the first row that is none."""
    return questions_of(open_rows(file))


def questions_of(source: RowSource) -> Iterator[Question]:
    """The questions of rows that are problems; raises ProblemError at the first that is none."""
    reader = RowReader({}, RLT)
    for number, row in source.rows:
        try:
            if isinstance(row, str):
                raise BadRow(row)
            question = reader.problem(row).question
        except BadRow as bad:
            raise ProblemError(f"{source.name}:{number}: {bad}; mend this test set, or leave it out") from bad
        yield Question(f"{source.name}:{number}", question)


def contamination_verdict(row: Explanation, held_out: HeldOut, explanations: bool = False) -> Verdict:
    """Whether the row's question holds a passage of a test question, or its explanation where that is asked for."""
    texts = {"question": row.question} | ({"explanation": row.explanation} if explanations else {})
    for name, text in texts.items():
        if (passage := held_out.passage(text)) is not None:
            return Verdict(filter="contamination", kept=False, detail=_told(name, passage))
    return Verdict(filter="contamination", kept=True)


def _told(name: str, passage: Passage) -> str:
    return f"its {name} holds a passage of {passage.question.place}: {passage.words!r}"
