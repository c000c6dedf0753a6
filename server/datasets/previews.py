"""How the source of a dataset is read, before anything is made of it: columns, the first problems, the bad rows.

It is read as the dataset will read it, through to its end where that takes no longer than READ_SECONDS; else what was
seen by then is told, and that it is not all. Nothing is kept.
"""

import asyncio
import json
from collections.abc import Iterator
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
from student.tags import STYLES

READ_SECONDS = 20.0
READ_AT_A_TIME = 1000
"""Problems between two looks at the clock."""
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
        reader = ProblemReader(rows, body.columns, tags, faults)
        first, whole = await _read(reader.usable(body.limit))
    reader.check_rows()
    return Preview(
        intake=reader.summary(),
        whole=whole,
        columns=list(reader.columns),
        fields=dict(reader.intake.columns),
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


async def _read(problems: Iterator[Problem]) -> tuple[list[Problem], bool]:
    """The first problems, and whether all the others were read too before the time was over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + READ_SECONDS
    first = await asyncio.to_thread(lambda: list(islice(problems, SHOWN_PROBLEMS)))
    while loop.time() < until:
        if not await asyncio.to_thread(_count, problems):
            return first, True
    return first, False


def _count(problems: Iterator[Problem]) -> int:
    return sum(1 for _ in islice(problems, READ_AT_A_TIME))


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
