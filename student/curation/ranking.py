"""The best explanations of each problem by one measure; the rest of its rows are dropped and say so.

Only rows that every filter before kept are ranked. A row without the measure comes after those that have it; equals
are ranked in the order of the file, so that the choice is the same each time.
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
    places = _places(rows, ranking.by)
    return [
        judged(row, _verdict(*places[number], ranking)) if number in places else row for number, row in enumerate(rows)
    ]


def _places(rows: Sequence[Explanation], measure: Measure) -> dict[int, tuple[int, int]]:
    """For every kept row, by its number in `rows`: its place among those of its problem, from 1, and how many."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.kept:
            groups[row.problem_id].append(number)
    return {
        number: (place, len(group))
        for group in groups.values()
        for place, number in enumerate(sorted(group, key=lambda each: _key(rows[each], measure)), start=1)
    }


def _key(row: Explanation, measure: Measure) -> tuple[bool, float]:
    """Sorts the best row first."""
    value = value_of(row, measure)
    if value is None:
        return True, 0.0
    return False, value if measure in LOWER_IS_BETTER else -value


def _verdict(place: int, of: int, ranking: Ranking) -> Verdict:
    assert ranking.keep is not None, "without a number to keep nothing is ranked"
    return Verdict(filter="best_of", kept=place <= ranking.keep, detail=f"place {place} of {of} by {ranking.by}")
