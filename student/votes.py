"""Majority voting: which answer most samples of a problem agree on, and how often that is the right one.

    maj@k = mean over problems of P(the commonest answer among k of the n samples is right)

over all draws of k samples without putting back, ties broken by chance. Samples vote for what they state as their
answer; two answers are one where grading finds them equal. A sample without an answer has no vote, and a draw in which
nobody votes is wrong (self-consistency, arXiv 2203.11171). Left out: votes weighted by likelihood.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb

import numpy as np

from student.grading import Method, grade, stated_answer

DRAWS = 2000
"""Draws of k samples that are looked at where there are more; else all of them."""


def candidates(solutions: Sequence[str | None], method: Method) -> list[int | None]:
    """For each sample the number of the answer that it votes for; None where it states none.

    >>> candidates(["4", " 4", None, "5"], "exact")
    [0, 0, None, 1]
    """
    known: dict[str, int] = {}
    return [None if solution is None else _candidate(solution, known, method) for solution in solutions]


def _candidate(solution: str, known: dict[str, int], method: Method) -> int | None:
    answer = " ".join((stated_answer(solution) or solution).split())
    if not answer:
        return None
    if answer not in known:
        equal = next((number for other, number in known.items() if grade(answer, other, method)), None)
        known[answer] = len(set(known.values())) if equal is None else equal
    return known[answer]


def majority_right(votes: Sequence[int | None], right: Sequence[bool], k: int, seed: int = 0) -> float:
    """The chance that the commonest answer of `k` of these samples is right, shape: one vote and one grade a sample.

    >>> majority_right([0, 0, 1], [True, True, False], 3)
    1.0
    >>> majority_right([0, 1], [True, False], 2)  # a tie
    0.5
    """
    if votes and all(vote is None for vote in votes):
        return 0.0
    shares = {vote: _right_share(vote, votes, right) for vote in set(votes) if vote is not None}
    draws = list(_draws(len(votes), k, seed))
    return sum(_winner_right([votes[place] for place in draw], shares) for draw in draws) / len(draws)


def _right_share(vote: int, votes: Sequence[int | None], right: Sequence[bool]) -> float:
    """1 or 0 where grading is consistent; between them where equal answers were graded differently."""
    grades = [graded for each, graded in zip(votes, right, strict=True) if each == vote]
    return sum(grades) / len(grades)


def _draws(samples: int, k: int, seed: int) -> Iterable[Sequence[int]]:
    if comb(samples, k) <= DRAWS:
        return combinations(range(samples), k)
    rng = np.random.default_rng(seed)
    return [rng.choice(samples, k, replace=False).tolist() for _ in range(DRAWS)]


def _winner_right(drawn: Sequence[int | None], shares: dict[int, float]) -> float:
    counts = Counter(vote for vote in drawn if vote is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    winners = [vote for vote, count in counts.items() if count == most]
    return sum(shares[vote] for vote in winners) / len(winners)


def majority_at(
    groups: Sequence[Sequence[str | None]], grades: Sequence[Sequence[bool]], sizes: Sequence[int], method: Method
) -> dict[int, float]:
    """maj@k for each k of `sizes`, from the solutions and grades of each problem's samples."""
    votes = [candidates(group, method) for group in groups]
    return {k: _majority(votes, grades, k) for k in sizes}


def _majority(votes: Sequence[Sequence[int | None]], grades: Sequence[Sequence[bool]], k: int) -> float:
    shares = [majority_right(vote, right, k) for vote, right in zip(votes, grades, strict=True)]
    return float(np.mean(shares))
