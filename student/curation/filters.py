"""Filters that look at one row alone: was it closed, finished, verified, and is each measure within its bounds?

Every filter is asked and gives its verdict, so that a report can tell what a looser bound would keep; the first that
fails is why the row is dropped. Left out: test sets, see contamination.py, and what depends on other rows, see
ranking.py and duplicates.py.
"""

from collections.abc import Iterator

from student.curation.settings import Filters
from student.explanations import Explanation, Verdict
from student.measures.results import Measure


def value_of(row: Explanation, measure: Measure) -> float | None:
    """A measure of a row as a number (`verified` is 0 or 1); None where the row does not have it."""
    holder = row.score if measure in ("reward", "rss", "rkl") else row.measures
    value = getattr(holder, measure, None)
    return None if value is None else float(value)


def filtered(row: Explanation, filters: Filters) -> Explanation:
    """The row with a verdict a filter; one that failed has none, since there is nothing to ask.

    What an earlier selection said is forgotten: the file holds all rows, so each selection begins anew.
    """
    fresh = row.model_copy(update={"verdicts": (), "dropped": None})
    return fresh if row.error is not None else judged(fresh, *_verdicts(row, filters))


def judged(row: Explanation, *verdicts: Verdict) -> Explanation:
    """The row with further verdicts; the first that failed is its `dropped`, unless it was dropped before."""
    reasons = [_reason(verdict) for verdict in verdicts if not verdict.kept]
    dropped = row.dropped if row.dropped is not None else next(iter(reasons), None)
    return row.model_copy(update={"verdicts": (*row.verdicts, *verdicts), "dropped": dropped})


def _reason(verdict: Verdict) -> str:
    return verdict.filter if verdict.detail is None else f"{verdict.filter}: {verdict.detail}"


def _verdicts(row: Explanation, filters: Filters) -> Iterator[Verdict]:
    if filters.closed:
        yield _verdict("closed", row.closed, "its end tag was not reached")
    if filters.finished:
        yield _verdict("finished", row.finished, "it was cut by max_tokens or the context")
    if filters.verified:
        verified = value_of(row, "verified")
        fault = _lacking(row, "verified") if verified is None else "the student answered wrong after it"
        yield _verdict("verified", verified == 1, fault)
    for measure, bound in filters.at_least.items():
        yield _bounded(row, measure, bound, "at_least")
    for measure, bound in filters.at_most.items():
        yield _bounded(row, measure, bound, "at_most")


def _verdict(name: str, kept: bool, fault: str) -> Verdict:
    return Verdict(filter=name, kept=kept, detail=None if kept else fault)


def _bounded(row: Explanation, measure: Measure, bound: float, side: str) -> Verdict:
    name, value = f"{side}.{measure}", value_of(row, measure)
    if value is None:
        return Verdict(filter=name, kept=False, detail=_lacking(row, measure))
    kept = value >= bound if side == "at_least" else value <= bound
    return Verdict(filter=name, kept=kept, detail=f"its {measure} is {value:.6g}, the bound {bound:g}")


def _lacking(row: Explanation, measure: Measure) -> str:
    return f"it has no {measure}{f' ({row.unscored})' if row.unscored else ''}"
