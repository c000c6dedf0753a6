"""How the source of a dataset is read, before anything is made of it: columns, the first problems, the bad rows.

It is read as the dataset will read it, through to its end where that takes no longer than READ_SECONDS; else what was
seen by then is told, and that it is not all. Nothing is kept.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from server.datasets.dataset_requests import check_source, limits_of
from server.datasets.sources import ProblemReader, open_source, problem_chunks
from server.service import Parts
from server.web.answering import the_teachers
from server.wire import DatasetRequest, Preview, PreviewedFault, PreviewedProblem
from student.problems import Problem
from student.rows import Row
from student.tags import STYLES

READ_SECONDS = 20.0
SHOWN_COLUMNS = 500
SHOWN_PROBLEMS = 5
SHOWN_FAULTS = 100
SHOWN_CHARACTERS = 1000
"""Of a text of a problem, or of a bad row."""


async def preview(parts: Parts, body: DatasetRequest) -> Preview:
    """How the source of the request is read, whatever else it asks for; raises Invalid, NotFound, Unavailable or
    ProblemError where it cannot be read at all."""
    await check_source(parts, body)
    tags = STYLES[body.tags or the_teachers(parts).tags]
    faults = Faults()
    with TemporaryDirectory() as folder:
        inline = problem_chunks(body.problems or ())
        rows = await open_source(body, inline, parts.files, Path(folder), limits_of(parts).local_sources)
        timely = Timely(rows.rows, READ_SECONDS)
        reader = ProblemReader(replace(rows, rows=iter(timely)), body.columns, tags, faults)
        try:
            first = await asyncio.to_thread(_read, reader.usable(body.limit))
        finally:
            timely.end()  # the thread goes on where the caller has left
    reader.check_rows()
    columns = [name for name in reader.columns[:SHOWN_COLUMNS] if _cut(name) == name]
    return Preview(
        intake=reader.summary(),
        whole=timely.whole,
        columns=columns,
        unlisted_columns=len(reader.columns) - len(columns),
        fields={field: _cut(column) for field, column in reader.intake.columns.items()},
        problems=list(map(_shown, first)),
        faults=faults.first,
    )


class Faults:
    """The first bad rows of a source."""

    def __init__(self) -> None:
        self.first: list[PreviewedFault] = []

    def add(self, number: int, reason: str, row: dict[str, Any] | str) -> None:
        """One more."""
        if len(self.first) < SHOWN_FAULTS:
            text = json.dumps(row, default=str, ensure_ascii=False) if isinstance(row, dict) else ""
            self.first.append(PreviewedFault(row=number, reason=reason, text=_cut(text)))


class Timely:
    """Rows until the time is over: by the row, since a million of them may hold one problem."""

    def __init__(self, rows: Iterator[Row], seconds: float) -> None:
        self.whole = True
        self._rows = rows
        self._until = time.monotonic() + seconds

    def __iter__(self) -> Iterator[Row]:
        """The rows; `whole` says afterwards whether these were all."""
        for row in self._rows:
            if time.monotonic() > self._until:
                self.whole = False
                return
            yield row

    def end(self) -> None:
        """No more of them."""
        self._until = 0.0


def _read(problems: Iterator[Problem]) -> list[Problem]:
    """The first problems; the others are read for the counts."""
    first = list(islice(problems, SHOWN_PROBLEMS))
    deque(problems, maxlen=0)
    return first


def _shown(problem: Problem) -> PreviewedProblem:
    return PreviewedProblem(
        question=_cut(problem.question),
        solution=_cut(problem.solution),
        reasoning_trace=None if problem.reasoning_trace is None else _cut(problem.reasoning_trace),
        answer=None if problem.answer is None else _cut(problem.answer),
    )


def _cut(text: str) -> str:
    """A text as an answer can hold it, in sight of people.

    >>> _cut("a" * 2000) == "a" * 1000 + "…"
    True
    """
    writable = text.encode(errors="replace").decode()
    return writable if len(writable) <= SHOWN_CHARACTERS else writable[:SHOWN_CHARACTERS] + "…"
