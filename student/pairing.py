"""Explanations of one problem against each other, by reward: which make a pair, and which are good ones.

Pairs. The rows of a problem by reward, best first, give the pairs best and worst, second best and second worst, and so
on, so many of them at most, each row in one pair; those whose rewards differ by less than a margin, or not at all, make
none.

Labels. True above a threshold, else false; without a threshold, true above the median of the problem and false below,
and a row that is the median says nothing and has none.

Left out: pairs of explanations of different problems, whose rewards do not compare.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Row numbers, pair by pair in the order of the problems."""

    chosen: Rows
    rejected: Rows


def pairs_of(problems: Rows, rewards: Numbers, most: int, margin: float) -> Pairs:
    """Best with worst, second best with second worst; at most `most` a problem, none of a smaller gap than `margin`.

    >>> pairs_of(np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.9, 0.5, 2.0, 2.0]), most=1, margin=0.5)
    Pairs(chosen=array([1]), rejected=array([0]))
    """
    usable = np.flatnonzero(np.isfinite(rewards))
    ordered = usable[np.lexsort((-rewards[usable], problems[usable]))]
    _, starts, counts = np.unique(problems[ordered], return_index=True, return_counts=True)
    start, size = np.repeat(starts, counts), np.repeat(counts, counts)
    rank = np.arange(len(ordered)) - start
    opposite = ordered[start + size - 1 - rank]
    gap = rewards[ordered] - rewards[opposite]
    taken = (rank < np.minimum(most, size // 2)) & (gap > 0) & (gap >= margin)
    return Pairs(ordered[taken], opposite[taken])


def labels_of(problems: Rows, rewards: Numbers, threshold: float | None) -> Numbers:
    """1 and 0 for true and false, NaN where the reward says nothing.

    >>> labels_of(np.array([0, 0, 0, 1]), np.array([0.1, 0.9, 0.5, 2.0]), None)
    array([ 0.,  1., nan, nan])
    """
    if threshold is not None:
        return np.where(np.isfinite(rewards), (rewards > threshold).astype(float), np.nan)
    labels = np.full(len(rewards), np.nan)
    for problem in np.unique(problems):
        rows = np.flatnonzero((problems == problem) & np.isfinite(rewards))
        away = rewards[rows] - np.median(rewards[rows]) if len(rows) else rewards[rows]
        labels[rows] = np.where(away == 0, np.nan, (away > 0).astype(float))
    return labels
