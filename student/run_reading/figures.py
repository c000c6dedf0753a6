"""metrics.jsonl as series: every number by its step, a bounded number of points, and what each series came to.

A point is the mean over `per_point` log entries that follow each other, at the last one's step. `per_point` doubles as
entries come, so that a file of any length takes the memory of 2 `points`. What is said of a whole series (first, last,
least, most) is of single entries.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from student.run_reading.lines import json_object, number, shown

MOST_SERIES = 200
LONGEST_NAME = 100
NO_SERIES = ("step", "epoch")


class Series(BaseModel):
    """A figure by step."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """As in metrics.jsonl."""
    values: tuple[float | None, ...]
    """One for each of the steps; null where it was not measured."""
    first: float
    last: float
    least: float
    most: float


class Figures(BaseModel):
    """What a run has measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: tuple[float, ...]
    """Of the points, rising."""
    series: tuple[Series, ...]
    entries: int
    """Log entries that were read."""
    per_point: int
    """Entries whose mean a point is."""
    skipped: int
    """Lines that could not be used: no JSON, no step, or an earlier step than the line before."""


@dataclass
class _Point:
    step: float
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, step: float, sums: Mapping[str, float], counts: Mapping[str, int]) -> None:
        self.step = step
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + counts[name]

    def mean(self, name: str) -> float | None:
        return number(self.sums[name] / self.counts[name]) if name in self.sums else None


@dataclass
class _Range:
    first: float
    last: float
    least: float
    most: float

    def add(self, value: float) -> None:
        self.last, self.least, self.most = value, min(self.least, value), max(self.most, value)


def read_figures(lines: Iterable[bytes], points: int) -> Figures:
    """The series of log entries, thinned to at most `points` points, at least 2."""
    reading = _Reading(points)
    for line in lines:
        reading.line(line)
    return reading.figures()


class _Reading:
    def __init__(self, points: int) -> None:
        self._most = points
        self._points: list[_Point] = []
        self._in_last = 0
        """Entries in the last point."""
        self._per_point = 1
        self._ranges: dict[str, _Range] = {}
        self._entries = self._skipped = 0

    def line(self, line: bytes) -> None:
        entry = json_object(line)
        step = number((entry or {}).get("step"))
        if entry is None or step is None or (self._points and step < self._points[-1].step):
            self._skipped += line.endswith(b"\n")  # without it the line is still being written
            return
        self._entries += 1
        values = self._values(entry)
        for name, value in values.items():
            self._ranges.setdefault(name, _Range(value, value, value, value)).add(value)
        self._add(step, values)

    def _values(self, entry: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of an entry, of the first MOST_SERIES names that come."""
        found: dict[str, float] = {}
        for name, value in entry.items():
            measured, known = number(value), shown(name, LONGEST_NAME)
            wanted = known in self._ranges or len(self._ranges) + len(found) < MOST_SERIES
            if measured is not None and wanted and name not in NO_SERIES:
                found[known] = measured
        return found

    def _add(self, step: float, values: Mapping[str, float]) -> None:
        """To the last point where it is of the same step or has room, else to a new one."""
        last = self._points[-1] if self._points else None
        if last is None or (self._in_last >= self._per_point and last.step != step):
            if len(self._points) == self._most:
                self._halve()
                return self._add(step, values)
            last = _Point(step)
            self._points.append(last)
            self._in_last = 0
        last.add(step, values, dict.fromkeys(values, 1))
        self._in_last += 1
        return None

    def _halve(self) -> None:
        """Merges points two by two; the last of an odd number is left alone, and is half full."""
        odd = len(self._points) % 2
        merged = self._points[::2]
        for point, other in zip(merged, self._points[1::2], strict=False):
            point.add(other.step, other.sums, other.counts)
        self._points = merged
        self._in_last = self._per_point if odd else 2 * self._per_point
        self._per_point *= 2

    def figures(self) -> Figures:
        return Figures(
            steps=tuple(point.step for point in self._points),
            series=tuple(
                Series(
                    name=name,
                    values=tuple(point.mean(name) for point in self._points),
                    first=found.first,
                    last=found.last,
                    least=found.least,
                    most=found.most,
                )
                for name, found in self._ranges.items()
            ),
            entries=self._entries,
            per_point=self._per_point,
            skipped=self._skipped,
        )
