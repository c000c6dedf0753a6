"""Further samples for the problems of a dataset whose best row is not good enough: `rlt resample`, unit by unit.

    rows of a unit, scored ─> one more of each problem in need, worst first ─> scored ─> who is still in need? ...

Each unit has its share of the budget, by its number of problems, so the budget is never passed whatever order units are
made in; what one leaves is not given to others. A sample is begun only where its longest text surely fits.
"""

from collections.abc import Sequence

from server.jobs.jobs import JobRejected
from server.wire import DatasetRequest
from student.explanations import Explanation
from student.problems import Problem
from teacher.resample import Standing, in_need


class FurtherSamples:
    """Of one unit: which samples are due next, given its rows so far."""

    def __init__(self, request: DatasetRequest, problems: Sequence[Problem], tokens: int) -> None:
        self._request = request
        self._problems = problems
        self._left = tokens

    def due(self, groups: Sequence[Sequence[Explanation]]) -> list[tuple[int, int]]:
        """Place of a problem, and number of its next sample, worst problem first; none where all are good enough, have
        all their samples, or nothing is left. `groups` are the rows of each problem."""
        further = self._request.further
        if further is None:
            return []
        standings = {problem.id: Standing(problem) for problem in self._problems}
        for group in groups:
            for row in group:
                standings[row.problem_id].take(row, self._request.rank_by)
        open_ones = [each for each in standings.values() if each.next_number < self._request.most_samples]
        wanting = in_need(open_ones, further.threshold, self._request.rank_by)
        places = {problem.id: place for place, problem in enumerate(self._problems)}
        fitting = wanting[: self._left // self._request.sampling.max_tokens]
        return [(places[each.problem.id], each.next_number) for each in fitting]

    def spend(self, rows: Sequence[Explanation]) -> None:
        """Takes off what these rows came to."""
        self._left -= sum(len(row.token_ids or ()) for row in rows)


def share(request: DatasetRequest, problems: int, of: int) -> int:
    """The tokens that fall to so many of all problems."""
    return 0 if request.further is None else request.further.budget_tokens * problems // of


def check_share(request: DatasetRequest, problems: int, of: int) -> None:
    """Raises JobRejected where the share of a whole unit holds no explanation."""
    if request.further is None or not of:
        return
    tokens, longest = share(request, problems, of), request.sampling.max_tokens
    if tokens < longest:
        raise JobRejected(
            f"further.budget_tokens: of {request.further.budget_tokens} tokens for {of} problems {tokens} fall to a "
            f"unit of {problems}, and one explanation may take {longest} (sampling.max_tokens); raise the one or lower "
            "the other"
        )
