"""Problems from files and to files, and the `rlt problems` verb that shows how a file was read.

Every row becomes a Problem or a bad row, named by file, line and reason. Bad rows stop the run before any work, unless
they are skipped: then they go to a side file and are counted. How rows are read from each format is rows.py, what their
columns mean is row_layouts.py.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TextIO

from student import processes
from student.configs import ProblemsConfig, ProblemSource
from student.errors import OutputError, ProblemError
from student.problems import Problem
from student.row_layouts import BadRow, RowReader
from student.rows import open_rows, read_rows
from student.tags import STYLES, Tags

__all__ = ["main", "read_problems", "read_rows", "whole_file", "write_problems"]

SHOWN_REASONS = 3
"""Bad rows that an error message spells out, each of another reason."""
SHOWN_CHARACTERS = 240
"""Characters of a text that the report shows."""
WRITTEN_COLUMNS = ("id", "question", "solution", "reasoning_trace", "answer", "metadata")


@dataclass
class Intake:
    """What came of reading a source: its problems, what was left out, and how it was read."""

    name: str
    form: str
    layout: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The column of each field, as the first problem has them."""
    rows: int = 0
    bad: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    problems: list[Problem] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def keep(self, problem: Problem) -> None:
        """Takes a problem, unless it was taken before."""
        if problem.id in self.ids:
            self.duplicates += 1
            return
        self.ids.add(problem.id)
        self.problems.append(problem)

    def leave_out(self, number: int, reason: str) -> None:
        """Counts a bad row, and remembers it while few reasons are known."""
        self.bad += 1
        if len(self.reasons) < SHOWN_REASONS:
            self.reasons.setdefault(reason, number)

    def bad_rows(self) -> str:
        """The first bad row of each of the first reasons as `file:line: reason`, and how many more there are."""
        more = self.bad - len(self.reasons)
        shown = [f"{self.name}:{number}: {reason}" for reason, number in self.reasons.items()]
        return "; ".join(shown + ([f"and {more} more"] if more else []))

    def remarks(self, aside: Path | None) -> Iterator[str]:
        """What was left out, for stderr."""
        if self.bad:
            where = f" (see {aside})" if aside else ""
            yield f"{self.name}: {self.bad} of {self.rows} rows are bad and were left out{where}"
        if self.duplicates:
            yield f"{self.name}: {self.duplicates} of {self.rows} rows repeat an earlier problem and were left out"


def read_problems(source: ProblemSource, tags: Tags, aside: Path | None = None) -> list[Problem]:
    """The problems of a source in their order, each once; without the first `source.skip`, at most `source.limit`.

    Bad rows raise ProblemError, which names the first of them, unless `source.skip_invalid`: then they are written to
    `aside` (JSONL: line, reason, row) and counted on stderr. Raises ProblemError either way for a source that cannot be
    read, or that holds no problem.
    """
    intake = take_in(source, tags, aside)
    for remark in intake.remarks(aside):
        processes.tell(f"rlt: {remark}")
    return intake.problems


def take_in(source: ProblemSource, tags: Tags, aside: Path | None = None) -> Intake:
    """Reads a source as read_problems does, says how, and prints nothing."""
    reader = RowReader(source.columns, tags)
    opened = open_rows(source.problems, source.split)
    intake = Intake(opened.name, opened.form)
    with ExitStack() as outputs:
        side_file = SideFile(aside if source.skip_invalid else None, outputs)
        for number, row in opened.rows:
            problem = read_row(row, number, reader, intake, side_file)
            if problem is not None:
                intake.keep(_licensed(problem, source.license))
            if source.limit is not None and len(intake.problems) == source.skip + source.limit:
                break
    _check(intake, source.skip_invalid)
    if source.skip >= len(intake.problems):
        raise ProblemError(f"{intake.name}: skip {source.skip} leaves none of its {len(intake.problems)} problems")
    del intake.problems[: source.skip]
    return intake


def _licensed(problem: Problem, name: str | None) -> Problem:
    if name is None or problem.license is not None:
        return problem
    return problem.model_copy(update={"metadata": {**problem.metadata, "license": name}})


class BadRows(Protocol):
    """Where bad rows go."""

    def add(self, number: int, reason: str, row: dict[str, Any] | str) -> None:
        """One of them, as text where it could not be read."""


class SideFile:
    """The bad rows, one JSON object a line, in a file that is made with the first of them; without a path, nowhere."""

    def __init__(self, path: Path | None, outputs: ExitStack) -> None:
        self._path = path if processes.is_first() else None
        self._outputs = outputs
        self._file: TextIO | None = None

    def add(self, number: int, reason: str, row: dict[str, Any] | str) -> None:
        """Writes one row, null where it could not be read."""
        if self._path is None:
            return
        self._file = self._file or self._outputs.enter_context(whole_file(self._path))
        values = row if isinstance(row, dict) else None
        self._file.write(json.dumps({"line": number, "reason": reason, "row": values}, default=str) + "\n")


def read_row(
    row: dict[str, Any] | str, number: int, reader: RowReader, intake: Intake, side_file: BadRows
) -> Problem | None:
    """The problem in a row; None where it is bad: the boundary of one row, whose fault is recorded."""
    intake.rows += 1
    try:
        if isinstance(row, str):
            raise BadRow(row)
        problem = reader.problem(row)
        if not intake.layout:
            intake.layout, intake.columns = reader.layout_line(row), reader.columns(row)
    except BadRow as bad:
        intake.leave_out(number, str(bad))
        side_file.add(number, str(bad), row)
        return None
    return problem


def _check(intake: Intake, skip_invalid: bool) -> None:
    if not intake.rows:
        raise ProblemError(f"{intake.name}: no rows in it; check that it is the right file, and was written whole")
    if intake.bad == intake.rows:
        raise ProblemError(f"no row of {intake.rows} can be used: {intake.bad_rows()}; mend them")
    if intake.bad and not skip_invalid:
        remedy = "mend them, or leave them out with --skip-invalid"
        raise ProblemError(f"{intake.bad} of {intake.rows} rows cannot be used: {intake.bad_rows()}; {remedy}")


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[Any]:
    """A file that gets its name once it is whole: until then it is called `path.tmp`, and an error removes it."""
    temporary = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_problems(problems: Sequence[Problem], path: Path) -> None:
    """Writes problems so that read_problems gives them back: Parquet where `path` ends in .parquet, else JSONL.

    In Parquet the metadata are JSON text, since each row may have others. Raises OutputError for other suffixes, before
    anything is written.
    """
    check_out(path)
    if path.suffix == ".parquet":
        _write_parquet(problems, path)
        return
    with whole_file(path) as file:
        for problem in problems:
            file.write(json.dumps(_written(problem), ensure_ascii=False) + "\n")


def check_out(path: Path) -> None:
    """Raises OutputError where problems cannot be written as `path`."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise OutputError(f"{path}: problems are written as .jsonl or .parquet; name the file so")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")


def _written(problem: Problem) -> dict[str, Any]:
    values = problem.model_dump()
    return {column: values[column] for column in WRITTEN_COLUMNS}


def _write_parquet(problems: Sequence[Problem], path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    rows = [{**_written(problem), "metadata": json.dumps(problem.metadata)} for problem in problems]
    schema = pyarrow.schema([(column, pyarrow.string()) for column in WRITTEN_COLUMNS])
    with whole_file(path, "wb") as file:
        write_table(pyarrow.Table.from_pylist(rows, schema), file)


def main(config: ProblemsConfig) -> None:
    """Reads the problems, prints what was found, and writes them where `config.out` says."""
    if config.out is not None:
        check_out(Path(config.out))
    aside = _aside(config)
    intake = take_in(config, STYLES[config.tags], aside)
    if config.out is not None:
        write_problems(intake.problems, Path(config.out))
    print("\n".join(_report(intake, config.out)))
    for remark in intake.remarks(aside):
        print(f"rlt problems: {remark}", file=sys.stderr)


def _aside(config: ProblemsConfig) -> Path:
    """The side file: beside the output, else in the current folder, since the input's may not be ours to write."""
    return Path(config.out or Path(config.problems).name or "problems").with_suffix(".skipped.jsonl")


def _report(intake: Intake, out: str | None) -> Iterator[str]:
    problems = intake.problems
    lengths = {
        "question": [len(problem.question) for problem in problems],
        "solution": [len(problem.solution) for problem in problems],
        "trace": [len(problem.reasoning_trace) for problem in problems if problem.reasoning_trace],
    }
    yield intake.name
    yield f"  read as      {intake.form}; {intake.layout}"
    yield f"  rows         {intake.rows:,} read, {intake.bad:,} bad, {intake.duplicates:,} repeated"
    yield f"  problems     {len(problems):,}"
    yield f"  with trace   {len(lengths['trace']):,}"
    yield f"  with answer  {sum(problem.answer is not None for problem in problems):,}"
    yield "  characters   shortest, median, longest"
    yield from (f"    {name:<10} {_spread(counts)}" for name, counts in lengths.items() if counts)
    yield from [f"  written to   {out}"] if out else []
    yield f"the first, {problems[0].id}"
    yield from (f"  {name:<12} {_excerpt(text)}" for name, text in _texts(problems[0]) if text is not None)


def _spread(counts: Sequence[int]) -> str:
    return f"{min(counts):,}, {median(counts):,.0f}, {max(counts):,}"


def _texts(problem: Problem) -> list[tuple[str, str | None]]:
    return [
        ("question", problem.question),
        ("trace", problem.reasoning_trace),
        ("solution", problem.solution),
        ("answer", problem.answer),
    ]


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
