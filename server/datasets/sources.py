"""Problems of a dataset request, one after another: from its body, an uploaded file, the hub, or a path of the server.

Rows are read as `rlt problems` reads them, but no list is kept: repeated problems are found by an index on disk, so ten
million rows take the memory of one. Bad rows are counted with the first reasons; whether they stop the dataset is told
at the end, before any work.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from server.errors import Invalid
from server.state.files import Files
from server.wire import DatasetRequest, ProblemBody
from student.errors import ProblemError
from student.problem_files import BadRows, Intake, read_row
from student.problems import Problem
from student.row_layouts import SYNONYMS, RowReader
from student.rows import FORMATS, Row, RowSource, open_rows
from student.tags import Tags

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?")
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
"""What the name of an uploaded file may end in."""


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises Invalid where a request names the column of a field that problems do not have."""
    for field in columns:
        if field not in SYNONYMS:
            raise Invalid(f"columns.{field}: no field of a problem; choose from {', '.join(SYNONYMS)}", param="columns")


def check_name(source: str, local: bool) -> None:
    """Raises Invalid for a source that is no name of the hub where the service reads none of its own paths."""
    if not local and not HUB_NAME.fullmatch(source):
        raise Invalid(
            f"source: {source[:80]!r} is no name of a hub dataset (owner/name or owner/name:configuration), and this "
            "service reads no paths of its own machine; upload the file (POST /v1/files) and give its file_id",
            param="source",
        )


def check_file_name(filename: str, field: str = "file_id") -> None:
    """Raises Invalid for an uploaded file whose name does not say its format."""
    if not filename.lower().endswith(SUFFIXES):
        raise Invalid(
            f"{field}: {filename[:80]!r} does not say its format; upload it under a name that ends in "
            f"{', '.join(SUFFIXES)}",
            param=field,
        )


def open_name(source: str, split: str, local: bool) -> RowSource:
    """The rows of a name of the hub, or of a path where that is allowed; raises ProblemError.

    `datasets` takes a folder of this name for the dataset, so where paths are not allowed there may be none.
    """
    if not local and (not HUB_NAME.fullmatch(source) or Path(source.partition(":")[0]).exists()):
        raise ProblemError(f"{source}: no dataset of the hub; check the name, or upload the file")
    return open_rows(source, split)


async def open_source(
    request: DatasetRequest, inline: AsyncIterator[bytes], files: Files, folder: Path, local: bool
) -> RowSource:
    """The rows of what the request names; what is not read in place is first copied into `folder`. `inline` is the
    problems of its body, as `problem_lines` writes them. Raises ProblemError or NotFound."""
    if request.source is not None:
        return await asyncio.to_thread(open_name, request.source, request.split, local)
    if request.file_id is not None:
        return await open_file(files, request.file_id, folder, request.split)
    path = folder / "problems.jsonl"
    await _copy(inline, path)
    return _opened(path, "problems", request.split)


async def open_file(files: Files, file_id: str, folder: Path, split: str = "train") -> RowSource:
    """The rows of an uploaded file, of which a copy is made in `folder`."""
    file = await files.get(file_id)
    path = folder / f"{file_id}{Path(file.filename).suffix}"
    await _copy(files.stream(file_id), path)
    return _opened(path, file.filename, split)


async def problem_chunks(problems: Sequence[ProblemBody]) -> AsyncIterator[bytes]:
    """The problems of a request's body as `open_source` takes them."""
    for line in problem_lines(problems):
        yield line


def problem_lines(problems: Sequence[ProblemBody]) -> Iterator[bytes]:
    """The problems of a request's body as JSONL."""
    return (problem.model_dump_json().encode() + b"\n" for problem in problems)


async def _copy(chunks: AsyncIterator[bytes], path: Path) -> None:
    with path.open("wb") as copy:
        async for chunk in chunks:
            await asyncio.to_thread(copy.write, chunk)


def _opened(path: Path, name: str, split: str) -> RowSource:
    """The rows of a copy, under the name that its owner knows."""
    opened = open_rows(str(path), split)
    return RowSource(name, opened.form, _named(opened.rows, str(path), name))


def _named(rows: Iterator[Row], path: str, name: str) -> Iterator[Row]:
    """The rows of a copy; what cannot be read is told under the name that its owner knows."""
    try:
        yield from rows
    except ProblemError as error:
        raise ProblemError(str(error).replace(path, name)) from error


class ProblemReader:
    """Reads a source once; `intake` says afterwards how that went."""

    def __init__(self, rows: RowSource, columns: Mapping[str, str], tags: Tags, aside: BadRows | None = None) -> None:
        self.intake = Intake(rows.name, rows.form)
        self.problems = 0
        self.columns: tuple[str, ...] = ()
        """Of the first row that could be read at all."""
        self._rows = rows.rows
        self._reader = RowReader(columns, tags)
        self._aside = aside or Nowhere()

    def read(self, limit: int | None, skip_invalid: bool) -> Iterator[Problem]:
        """Each problem once, at most `limit`; at the end raises ProblemError where the source cannot be used."""
        yield from self.usable(limit)
        self._check(skip_invalid)

    def usable(self, limit: int | None) -> Iterator[Problem]:
        """Each problem once, at most `limit`, whatever else is in the source."""
        with closing(SeenIds()) as seen:
            for number, row in self._rows:
                if not self.columns and isinstance(row, dict):
                    self.columns = tuple(row)
                problem = read_row(row, number, self._reader, self.intake, self._aside)
                if problem is None:
                    continue
                if not seen.add(problem.id):
                    self.intake.duplicates += 1
                    continue
                self.problems += 1
                yield problem
                if self.problems == limit:
                    break

    def summary(self) -> dict[str, Any]:
        """How the source was read, for the dataset's `intake`."""
        intake = self.intake
        return {
            "source": intake.name,
            "form": intake.form,
            "layout": intake.layout,
            "rows": intake.rows,
            "problems": self.problems,
            "repeated": intake.duplicates,
            "bad": intake.bad,
            "bad_examples": [{"row": number, "reason": reason} for reason, number in intake.reasons.items()],
        }

    def check_rows(self) -> None:
        """Raises ProblemError where the source held no row."""
        if not self.intake.rows:
            raise ProblemError(
                f"{self.intake.name}: no rows in it; check that it is the right file, and was written whole"
            )

    def _check(self, skip_invalid: bool) -> None:
        intake = self.intake
        self.check_rows()
        if intake.bad == intake.rows:
            raise ProblemError(f"no row of {intake.rows} can be used: {intake.bad_rows()}; mend them")
        if intake.bad and not skip_invalid:
            raise ProblemError(
                f"{intake.bad} of {intake.rows} rows cannot be used: {intake.bad_rows()}; mend them, or leave them out "
                'with "skip_invalid": true'
            )


class Nowhere:
    """Where bad rows go that nobody looks at."""

    def add(self, number: int, reason: str, row: dict[str, Any] | str) -> None:
        """It is counted already."""


class SeenIds:
    """Which problems came before: 64-bit ids in an index that goes to a temporary file once it is large."""

    def __init__(self) -> None:
        # Of one reader, whose steps run in threads by turns.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -65536")
        self._database.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY)")

    def add(self, problem_id: str) -> bool:
        """Whether it is new."""
        number = int(problem_id, 16) - 2**63
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount == 1

    def close(self) -> None:
        """Forgets all."""
        self._database.close()
