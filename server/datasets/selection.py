"""Which explanations of a problem are kept: filters first, then the best `n` of those that are left.

Nothing is thrown away: a row that is not kept says why in `dropped`. A row that failed is neither kept nor dropped.
"""

from collections.abc import Iterator, Sequence

from server.teaching.explaining import rank
from server.wire import DatasetRequest, Filters, Measure
from student.explanations import Explanation


def selected(rows: Sequence[Explanation], request: DatasetRequest) -> list[Explanation]:
    """The rows of one problem in their order, each with its `dropped` as this request has it."""
    judged = [row.model_copy(update={"dropped": _fault(row, request.filters)}) for row in rows]
    left = [row for row in judged if row.kept]
    if request.best_of is None or len(left) <= request.n:
        return judged
    chosen = {row.sample for row in rank(left, request.rank_by, request.n)}
    reason = f"not among the best {request.n} of {request.best_of} by {request.rank_by}"
    return [
        row.model_copy(update={"dropped": reason}) if row.kept and row.sample not in chosen else row for row in judged
    ]


def _fault(row: Explanation, filters: Filters) -> str | None:
    """The first filter that turns a row away, and how."""
    return None if row.error is not None else next(_faults(row, filters), None)


def _faults(row: Explanation, filters: Filters) -> Iterator[str]:
    if filters.closed and not row.closed:
        yield "closed: its end tag was not reached"
    if filters.finished and not row.finished:
        yield "finished: it was cut by max_tokens or the context"
    bounds: list[tuple[Measure, float | None]] = [
        ("reward", filters.min_reward),
        ("rss", filters.min_rss),
        ("rkl", filters.max_rkl),
    ]
    for measure, bound in bounds:
        if bound is not None:
            yield from _out_of_bounds(row, measure, bound)


def _out_of_bounds(row: Explanation, measure: Measure, bound: float) -> Iterator[str]:
    value = getattr(row.score, measure, None)
    name = f"{'max' if measure == 'rkl' else 'min'}_{measure}"
    if value is None:
        yield f"{name}: it has no {measure}{f' ({row.unscored})' if row.unscored else ''}"
    elif (value > bound) if measure == "rkl" else (value < bound):
        yield f"{name}: its {measure} is {value:.6g}, the bound {bound:g}"
