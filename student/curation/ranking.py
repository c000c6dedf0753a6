"""The best explanations of each problem by one measure; the rest of its rows are dropped and say so.

Only rows that every filter before kept are ranked. A row without the measure comes after those that have it; equals
are ranked in their order, so that the choice is the same each time.
"""

from collections import defaultdict
from collections.abc import Sequence

from student.curation.filters import judged, value_of
from student.curation.settings import Ranking
from student.explanations import Explanation, Verdict
from student.measures.results import LOWER_IS_BETTER, Measure


def ranked(rows: Sequence[Explanation], ranking: Ranking) -> list[Explanation]:
    """The rows in their order, each that was still kept with the verdict `best_of`; unchanged where `keep` is unset."""
    if ranking.keep is None:
        return list(rows)
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.kept:
            groups[row.problem_id].append(number)
    made = list(rows)
    for group in groups.values():
        for place, index in enumerate(places([value_of(rows[number], ranking.by) for number in group], ranking.by)):
            made[group[index]] = judged(made[group[index]], best_of(place, len(group), ranking))
    return made


def rank(rows: Sequence[Explanation], by: Measure | None, n: int) -> list[Explanation]:
    """The best `n` of the rows, best first, or without a measure the first `n`."""
    if by is None:
        return list(rows[:n])
    return [rows[index] for index in places([value_of(row, by) for row in rows], by)[:n]]


def places(values: Sequence[float | None], by: Measure) -> list[int]:
    """The indices of values, the best first; None comes last, equals in their order.

    >>> places([-2.0, None, -1.0], "reward"), places([0.5, 0.1, 0.5], "rkl")
    ([2, 0, 1], [1, 0, 2])
    """
    return sorted(range(len(values)), key=lambda index: _key(values[index], by))


def _key(value: float | None, by: Measure) -> tuple[bool, float]:
    """Sorts the best value first."""
    if value is None:
        return True, 0.0
    return False, value if by in LOWER_IS_BETTER else -value


def best_of(place: int, rows: int, ranking: Ranking) -> Verdict:
    """The verdict on the row at `place` (0 is the best) among the `rows` of its problem that are left."""
    assert ranking.keep is not None, "without a number to keep nothing is ranked"
    detail = f"place {place + 1} of {rows} by {ranking.by}"
    return Verdict(filter="best_of", kept=place < ranking.keep, detail=detail)
