"""How a measure is distributed, in the same memory for any number of rows.

Values are counted in bins whose width is 0.2 % of the value, on both sides of zero (the idea of DDSketch: Masson, Rim
and Lee, VLDB 2019, arXiv 1908.10693), so a quantile is off by 0.1 % of itself at most, whatever the order of the rows.
Count, mean and the outermost values are exact.
"""

import math

import numpy as np
from numpy.typing import NDArray

RATIO = 1.002
"""Of one bin's edge to the next."""
LEAST, MOST = 1e-6, 1e9
"""What is smaller counts as zero, what is larger as this."""
_BINS = math.ceil(math.log(MOST / LEAST) / math.log(RATIO))
_POSITIVE = LEAST * RATIO ** (np.arange(_BINS) + 0.5)
_CENTRES: NDArray[np.float64] = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])


class Sketch:
    """One measure of some rows."""

    def __init__(self) -> None:
        self.count = 0
        self.least, self.most = math.inf, -math.inf
        """The outermost values, exactly."""
        self._sum = 0.0
        self._counts = np.zeros(len(_CENTRES), np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """More values; those that are no finite numbers are passed over."""
        values = values[np.isfinite(values)]
        self.count += len(values)
        self._sum += float(values.sum())
        self.least = float(values.min(initial=self.least))
        self.most = float(values.max(initial=self.most))
        self._counts += np.bincount(_bins(values), minlength=len(_CENTRES))

    def __add__(self, other: "Sketch") -> "Sketch":
        """Of the rows of both."""
        both = Sketch()
        both.count, both._sum, both._counts = self.count + other.count, self._sum + other._sum, self._counts.copy()
        both._counts += other._counts
        both.least, both.most = min(self.least, other.least), max(self.most, other.most)
        return both

    @property
    def mean(self) -> float:
        """Of all values; there must be one."""
        return self._sum / self.count

    def quantile(self, share: float) -> float:
        """A value so that this share of all values is at or below it; there must be one.

        >>> sketch = Sketch()
        >>> sketch.add(np.arange(-50.0, 51.0))
        >>> [float(round(sketch.quantile(share))) for share in (0, 0.5, 0.75, 1)]
        [-50.0, 0.0, 25.0, 50.0]
        """
        rank = max(1, math.ceil(share * self.count))
        return min(max(float(_CENTRES[np.searchsorted(self._counts.cumsum(), rank)]), self.least), self.most)

    def histogram(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Values between each two of the edges; what lies outside is in the outermost."""
        inside = _CENTRES.clip(edges[0], edges[-1])
        return np.histogram(inside, edges, weights=self._counts)[0].astype(np.int64)


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    sizes = np.abs(values).clip(LEAST, MOST)
    ranks = np.floor(np.log(sizes / LEAST) / math.log(RATIO)).astype(np.int64).clip(0, _BINS - 1) + 1
    ranks[np.abs(values) < LEAST] = 0
    return _BINS + np.where(values < 0, -ranks, ranks)
