"""What only all rows together can say: which are copies of a better one, and which are the best of their problem.

Rows are given once, after the filters that look at one alone; then their verdicts can be asked for. What is remembered
of a row are numbers, 150 bytes of them, never its texts (duplicates.py keeps sketches of those on disk). Copies go
before the ranking, so that the best two of a problem are not the same text twice.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from student.curation.duplicates import DuplicateSearch, compared_text, duplicates_verdict
from student.curation.filters import value_of
from student.curation.ranking import best_of, places
from student.curation.settings import Duplicates, Ranking
from student.explanations import Explanation, Verdict
from student.measures.results import LOWER_IS_BETTER, Measure

MEASURES: tuple[Measure, ...] = get_args(Measure)
NOTHING = -1


class Ledger:
    """Rows by their place. Alive are those that no step has turned away so far, and that did not fail."""

    def __init__(self, duplicates: Duplicates, ranking: Ranking, folder: Path | None = None) -> None:
        self._duplicates = duplicates
        self._ranking = ranking
        self._search = DuplicateSearch(duplicates, folder) if duplicates.compare != "nothing" else None
        self._problems: dict[str, int] = {}
        self._names: list[str] = []
        self._problem = array("q")
        self._sample = array("q")
        self._text = array("q")
        self._text_of_problem: dict[str, int] = {}
        self._alive = bytearray()
        self._failed = bytearray()
        self._values: dict[Measure, array[float]] = {measure: array("d") for measure in MEASURES}
        self._copies: dict[int, tuple[int, float]] = {}
        self._rank: NDArray[np.int32] = np.empty(0, np.int32)
        self._rivals: NDArray[np.int32] = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._alive)

    def close(self) -> None:
        """Forgets the sketches."""
        if self._search is not None:
            self._search.close()

    def add(self, row: Explanation) -> None:
        """One more row, judged by what looks at it alone."""
        self._problem.append(self._problems.setdefault(row.problem_id, len(self._problems)))
        self._sample.append(row.sample)
        self._text.append(self._text_number(row))
        self._alive.append(row.kept)
        self._failed.append(row.error is not None)
        for measure, column in self._values.items():
            value = value_of(row, measure)
            column.append(float("nan") if value is None else value)

    def settle(self) -> None:
        """Finds copies and ranks; no row is added after this."""
        self._names = list(self._problems)
        if self._search is not None:
            self._drop_copies(self._search)
        if self._ranking.keep is not None:
            self._keep_best(self._ranking.keep)

    def verdicts(self, place: int) -> list[Verdict]:
        """What was found of a row that was alive when it was added."""
        found: list[Verdict] = []
        if self._search is not None:
            original, similarity = self._copies.get(place, (None, 1.0))
            found.append(duplicates_verdict(None if original is None else self.row_id(original), similarity))
        if self._ranking.keep is not None and self._rank[place] != NOTHING:
            found.append(best_of(int(self._rank[place]), int(self._rivals[place]), self._ranking))
        return found

    def row_id(self, place: int) -> str:
        """The id of a row, once all are settled."""
        return f"{self._names[self._problem[place]]}-{self._sample[place]}"

    @property
    def problems(self) -> tuple[int, int]:
        """How many problems there are, and of how many a row is kept."""
        alive = np.frombuffer(self._alive, np.bool_)
        return len(self._problems), len(np.unique(np.frombuffer(self._problem, np.int64)[alive]))

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which rows failed."""
        return np.frombuffer(self._failed, np.bool_)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows are kept."""
        return np.frombuffer(self._alive, np.bool_)

    def values(self, measure: Measure) -> NDArray[np.float64]:
        """A measure of every row, NaN where it has none."""
        return np.frombuffer(self._values[measure])

    def _text_number(self, row: Explanation) -> int:
        """Its number in the search for copies; all rows of a problem have one question."""
        if self._search is None or not row.kept:
            return NOTHING
        by_problem = self._duplicates.compare == "question"
        known = self._text_of_problem.get(row.problem_id) if by_problem else None
        number = self._search.add(compared_text(row, self._duplicates.compare)) if known is None else known
        if by_problem and number is not None:
            self._text_of_problem[row.problem_id] = number
        return NOTHING if number is None else number

    def _drop_copies(self, search: DuplicateSearch) -> None:
        """Of texts that repeat each other the best-ranked stays alive."""
        alive = np.flatnonzero(self.kept)
        alive = alive[np.frombuffer(self._text, np.int64)[alive] != NOTHING]
        values = self.values(self._ranking.by)[alive]
        order = alive[np.argsort(values if self._ranking.by in LOWER_IS_BETTER else -values, kind="stable")]
        texts = np.frombuffer(self._text, np.int64)[order]
        numbers, first = np.unique(texts, return_index=True)
        best = dict(zip(numbers.tolist(), order[first].tolist(), strict=True))
        found = search.copies(texts[np.sort(first)])
        for place, text in zip(order.tolist(), texts.tolist(), strict=True):
            if text in found:
                self._copies[place] = best[found[text].of], found[text].similarity
                self._alive[place] = 0

    def _keep_best(self, keep: int) -> None:
        """Of the rows of each problem that are alive the best `keep` stay so."""
        self._rank, self._rivals = (np.full(len(self), NOTHING, np.int32) for _ in range(2))
        values = self.values(self._ranking.by)
        for group in self._groups():
            listed = [None if np.isnan(value) else float(value) for value in values[group]]
            order = group[places(listed, self._ranking.by)]
            self._rank[order], self._rivals[order] = np.arange(len(order)), len(order)
            for place in order[keep:].tolist():
                self._alive[place] = 0

    def _groups(self) -> Iterator[NDArray[np.int64]]:
        """The places of the rows that are alive, problem by problem."""
        alive = np.flatnonzero(self.kept)
        problems = np.frombuffer(self._problem, np.int64)[alive]
        order = np.argsort(problems, kind="stable")
        borders = np.flatnonzero(np.diff(problems[order])) + 1
        yield from (group for group in np.split(alive[order], borders) if len(group))
