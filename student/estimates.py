"""What a job will take, from a pilot: the tokens, seconds and bytes of all rows, each with a 95 % interval.

The pilot is k of the N problems, drawn without replacement, explained as the job will explain them. What adds up over
problems is estimated by their mean, with the t distribution and the finite population's correction:

    total = N * mean,   half = t[k-1] * N * s / sqrt(k) * sqrt(1 - k/N)

so a pilot of all problems is exact, and one whose problems all took the same tells of no spread and has no interval.
Time does not add up: a batch lasts as long as its longest text, and all of its texts share each step. It is fitted on
the pilot's batches, which are of several sizes, and read off for full ones:

    seconds of a batch = a * steps + b * tokens,   steps = tokens of its longest text,   a, b >= 0

Left out: the time in which a model is loaded, and what runs beside the job.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import optimize, stats

from student.errors import ConfigError

LEVEL = 0.95
RESAMPLES = 400
"""Bootstrap pilots from which is told how much the draw of the problems moves the time."""
SHORT_SECONDS = 3.0
"""A pilot that is over sooner is timed again on its own rows, repeated up to full batches: a fit needs some."""
PACKING = 0.1
"""By how much more rows may be packed better or worse than the pilot's, in Parquet."""
T = TypeVar("T")
Floats = NDArray[np.float64]


class Quantity(BaseModel):
    """An estimated total with its 95 % interval, which is null where the pilot cannot tell one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: float = Field(ge=0, allow_inf_nan=False)
    low: float | None = Field(None, ge=0, allow_inf_nan=False)
    high: float | None = Field(None, ge=0, allow_inf_nan=False)

    def holds(self, actual: float) -> bool | None:
        """Whether it lies in the interval; None where there is none."""
        if self.low is None or self.high is None:
            return None
        slack = 1e-9 * abs(self.value)
        return self.low - slack <= actual <= self.high + slack

    def plus(self, known: float) -> "Quantity":
        """With something that is known, as a whole."""
        ends = {name: None if end is None else end + known for name, end in (("low", self.low), ("high", self.high))}
        return Quantity(value=self.value + known, **ends)


class Estimate(BaseModel):
    """What a job will take, from a pilot of some of its problems."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    problems: int = Field(ge=0)
    """Distinct problems of the job."""
    pilot_problems: int = Field(ge=0)
    """Of these the pilot explained so many."""
    rows: int = Field(ge=0)
    """Explanations of the job."""
    tokens: Quantity
    """Tokens of explanations, as `token_ids` holds them."""
    seconds: Quantity
    """Of sampling (and of scoring, where a service does both at once); models are loaded by then."""
    bytes: Quantity
    """On disk, of the finished rows."""
    score_seconds: Quantity | None = None
    """Of `rlt score`; null where no student was named."""
    scored_bytes: Quantity | None = None
    """On disk, of the scored rows."""
    pilot_tokens: int = Field(0, ge=0)
    """What the pilot itself wrote."""
    pilot_seconds: float = Field(0, ge=0, allow_inf_nan=False)
    """What it took, models loaded."""
    teacher_digest: str | None = None
    """Of the weights that wrote it."""
    rows_at_a_time: int | None = Field(None, gt=0)
    """So many rows are made at the same time, for `seconds` to hold."""
    remarks: tuple[str, ...] = ()
    """What the figures do not hold for."""


def pilot_size(problems: int, share: float, at_least: int, at_most: int) -> int:
    """How many of so many problems a pilot explains.

    >>> [pilot_size(problems, 0.01, 8, 200) for problems in (5, 100, 2_000, 1_000_000)]
    [5, 8, 20, 200]
    """
    return min(problems, max(at_least, min(at_most, ceil(share * problems))))


def draw(problems: int, size: int, seed: int) -> list[int]:
    """The places of the pilot's problems, in random order.

    >>> draw(5, 3, seed=0) == draw(5, 3, seed=0), sorted(draw(5, 5, seed=1))
    (True, [0, 1, 2, 3, 4])
    """
    return random.Random(seed).sample(range(problems), size)


class Reservoir(Generic[T]):
    """A uniform draw of at most `size` of the items that are added, however many come; memory is that of the draw.

    >>> reservoir = Reservoir(3, seed=0)
    >>> for item in range(1000):
    ...     reservoir.add(item)
    >>> reservoir.seen, len(reservoir.draw(2)), len(reservoir.draw(5))
    (1000, 2, 3)
    """

    def __init__(self, size: int, seed: int) -> None:
        self.seen = 0
        self._size = size
        self._kept: list[T] = []
        self._random = random.Random(seed)

    def add(self, item: T) -> None:
        """Vitter's algorithm R: the i-th item takes the place of a kept one with probability size / i."""
        self.seen += 1
        if len(self._kept) < self._size:
            self._kept.append(item)
            return
        place = self._random.randrange(self.seen)
        if place < self._size:
            self._kept[place] = item

    def draw(self, count: int) -> list[T]:
        """So many of the items, or all that are kept, in random order."""
        return self._random.sample(self._kept, min(count, len(self._kept)))


def batch_sizes(rows: int, longest: int) -> list[int]:
    """In how many rows at a time a pilot is made: half of what is left, never more than the job's `longest`.

    >>> batch_sizes(20, 64), batch_sizes(200, 64), batch_sizes(3, 64)
    ([10, 5, 3, 2], [64, 64, 36, 18, 18], [2, 1])
    """
    sizes: list[int] = []
    left = rows
    while left > max(1, rows // 8):
        sizes.append(min(longest, ceil(left / 2)))
        left -= sizes[-1]
    return [*sizes, left] if left else sizes


def total(per_problem: Sequence[float], problems: int) -> Quantity:
    """The total over `problems` of what was measured of a sample of them; never less than what is known already.

    Of 1, 2 and 3 in a sample of 3 from 12: 12 * 2 = 24, half t[2] * 12 * 1/sqrt(3) * sqrt(3/4) = 4.30265 * 6.
    >>> found = total([1, 2, 3], 12)
    >>> found.value, round(found.low, 4), round(found.high, 4)
    (24.0, 6.0, 49.8159)
    """
    sample = np.asarray(per_problem, dtype=np.float64)
    k, known = len(sample), float(sample.sum())
    value = problems * float(sample.mean())
    if k == problems:
        return Quantity(value=known, low=known, high=known)
    if k < 2 or (sample == sample[0]).all():
        return Quantity(value=value)
    error = problems * float(sample.std(ddof=1)) / sqrt(k) * sqrt(1 - k / problems)
    return _around(value, _t(k - 1) * error, known)


def packed(plain: Quantity, share: float, files: float) -> Quantity:
    """Bytes of Parquet in which rows take this share of their JSONL, and its files `files` bytes besides.

    >>> packed(Quantity(value=100, low=80, high=120), 0.5, 10)
    Quantity(value=60.0, low=45.0, high=77.0)
    """
    low = None if plain.low is None else (1 - PACKING) * (files + share * plain.low)
    high = None if plain.high is None else (1 + PACKING) * (files + share * plain.high)
    return Quantity(value=files + share * plain.value, low=low, high=high)


def repeats(batch_size: int) -> list[int]:
    """Rows of the batches in which a short pilot is timed again: full ones, which the job will have, and halves.

    >>> repeats(64)
    [64, 32, 64, 32, 64, 32, 64, 32]
    """
    return [batch_size, ceil(batch_size / 2)] * 4


Work = Callable[[NDArray[np.int64]], Floats]
"""Of rows with these tokens: what their time is a sum of, shape (2,)."""


def read_work(lengths: NDArray[np.int64]) -> Floats:
    """Rows and tokens: what a student's reading of them takes, whatever is packed together."""
    return np.array([len(lengths), lengths.sum()], dtype=np.float64)


def write_work(lengths: NDArray[np.int64]) -> Floats:
    """Steps and tokens of one batch: it takes as many steps as its longest text has tokens."""
    return np.array([lengths.max(initial=0), lengths.sum()], dtype=np.float64)


@dataclass(frozen=True)
class Batch:
    """Some rows that were made at the same time."""

    seconds: float
    lengths: tuple[int, ...]
    """Tokens that were sampled, or read, for each."""


@dataclass(frozen=True)
class Pace:
    """Seconds a unit of each kind of work (a step and a token; a row and a token), with the covariance of the two."""

    per_unit: Floats
    covariance: Floats
    freedom: int
    """Degrees of freedom; 0 where batches were too few for an interval."""

    @classmethod
    def of(cls, batches: Sequence[Batch], work: Work) -> "Pace":
        """Fitted so that relative errors count: a pause of a second means more beside a short batch."""
        works = [(work(np.array(batch.lengths, dtype=np.int64)), batch.seconds) for batch in batches]
        X = np.array([of_batch / seconds for of_batch, seconds in works if of_batch[1]]).reshape(-1, 2)
        if not len(X):
            return cls(np.zeros(2), np.zeros((2, 2)), 0)
        found, _ = optimize.nnls(X, np.ones(len(X)))
        used = found > 0
        freedom = len(X) - int(used.sum())
        covariance = np.zeros((2, 2))
        if freedom > 0:
            spread = float(((X @ found - 1) ** 2).sum()) / freedom
            covariance[np.ix_(used, used)] = spread * np.linalg.pinv(X[:, used].T @ X[:, used])
        return cls(np.asarray(found), covariance, freedom)


def writing_time(
    batches: Sequence[Batch], lengths_KG: Sequence[Sequence[int]], problems: int, at_once: int
) -> Quantity:
    """Seconds of sampling the job in batches of `at_once` rows; `lengths_KG[k]` are the tokens of problem k's rows."""
    rows = round(problems * sum(map(len, lengths_KG)) / len(lengths_KG))
    pace = Pace.of(batches, write_work)
    return _duration(pace, lengths_KG, problems, lambda lengths: job_work(lengths, rows, at_once))


def reading_time(batches: Sequence[Batch], lengths_KG: Sequence[Sequence[int]], problems: int) -> Quantity:
    """Seconds of scoring the job's rows."""
    factor = problems / len(lengths_KG)
    return _duration(Pace.of(batches, read_work), lengths_KG, problems, lambda lengths: factor * read_work(lengths))


def job_work(lengths: NDArray[np.int64], rows: int, at_once: int) -> Floats:
    """Steps and tokens of `rows` rows of which these are a sample, in batches of `at_once`.

    The longest of B texts has on average sum of x[i] * ((i/n)^B - ((i-1)/n)^B) tokens over the n measured ones in
    order. Of 1 and 3, two at once: 1 * 1/4 + 3 * 3/4 = 2.5 steps a batch.
    >>> job_work(np.array([3, 1]), 5, 2)  # two batches of two, one of one: 2.5 + 2.5 + 2 steps; 5 * 2 tokens
    array([ 7., 10.])
    """
    ordered = np.sort(lengths)
    shares = np.arange(len(ordered) + 1) / len(ordered)
    full, rest = divmod(rows, at_once)
    sizes = [(full, at_once), (1, rest)] if rest else [(full, at_once)]
    steps = sum(count * float((ordered * np.diff(shares**size)).sum()) for count, size in sizes)
    return np.array([steps, rows * float(ordered.mean())])


def _duration(pace: Pace, lengths_KG: Sequence[Sequence[int]], problems: int, work: Work) -> Quantity:
    arrays = [np.asarray(lengths, dtype=np.int64) for lengths in lengths_KG]
    whole = work(np.concatenate(arrays))
    value = float(pace.per_unit @ whole)
    if not pace.freedom:
        return Quantity(value=value)
    by_pace = _t(pace.freedom) * sqrt(max(0.0, float(whole @ pace.covariance @ whole)))
    by_draw = _spread_by_draw(arrays, problems, lambda lengths: float(pace.per_unit @ work(lengths)))
    return _around(value, sqrt(by_pace**2 + by_draw**2), 0.0)


def _spread_by_draw(
    arrays: Sequence[NDArray[np.int64]], problems: int, seconds: Callable[[NDArray[np.int64]], float]
) -> float:
    """How far other problems in the pilot would have moved the time: half the width of an interval."""
    k = len(arrays)
    if k < 2 or k == problems:
        return 0.0
    draws = np.random.default_rng(0).integers(0, k, (RESAMPLES, k))
    found = [seconds(np.concatenate([arrays[place] for place in places])) for places in draws]
    return _t(k - 1) * float(np.std(found)) * sqrt(k / (k - 1)) * sqrt(1 - k / problems)


def _t(freedom: int) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom))


def _around(value: float, half: float, known: float) -> Quantity:
    return Quantity(value=value, low=min(value, max(known, value - half)), high=value + half)


class Comparison(BaseModel):
    """What something took beside what was estimated."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    actual: float
    estimate: Quantity
    within: bool | None
    """Whether it lies in the interval; null while work goes on, and where there is no interval."""


def compared(actual: float, estimate: Quantity, ended: bool = True) -> Comparison:
    """The two beside each other; nothing is said of the interval before the end."""
    return Comparison(actual=actual, estimate=estimate, within=estimate.holds(actual) if ended else None)


def read_estimate(path: Path) -> Estimate:
    """What `rlt estimate --out` wrote; raises ConfigError where it is none."""
    try:
        return Estimate.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"estimate: {path}: no such file; make it by `rlt estimate --out {path}`") from error
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"estimate: {path} is no estimate ({reason}); make one by `rlt estimate --out`") from error


def shown(value: float, unit: str) -> str:
    """A figure for people, in tokens, seconds or bytes.

    >>> shown(12_310, "tokens"), shown(8.42, "seconds"), shown(5_430, "seconds"), shown(31_400_000, "bytes")
    ('12,310', '8.4 s', '1 h 30 min', '31.4 MB')
    >>> shown(200, "seconds"), shown(432, "bytes")
    ('3 min 20 s', '432 B')
    """
    if unit == "seconds":
        return _time(value)
    return _size(value) if unit == "bytes" else f"{value:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def interval(estimate: Quantity, unit: str) -> str:
    """The interval for people.

    >>> interval(Quantity(value=5, low=4, high=7), "tokens"), interval(Quantity(value=5), "tokens")
    ('4 to 7', 'unknown')
    """
    if estimate.low is None or estimate.high is None:
        return "unknown"
    return f"{shown(estimate.low, unit)} to {shown(estimate.high, unit)}"


def against(found: Comparison, name: str, unit: str) -> str:
    """One comparison for people.

    >>> against(compared(5, Quantity(value=6, low=4, high=7)), "tokens", "tokens")
    'tokens 5 of 6 (4 to 7): as estimated'
    """
    verdict = {None: "", True: ": as estimated", False: ": outside"}[found.within]
    expected = f"{shown(found.estimate.value, unit)} ({interval(found.estimate, unit)})"
    return f"{name} {shown(found.actual, unit)} of {expected}{verdict}"
