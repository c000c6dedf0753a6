"""From explanations to the files of a format, table by table: the one way that `rlt export` and the service go.

Rows come in, pieces of files go out, and meanwhile a group of rows is held. Left out: where rows are from (sources.py)
and where the pieces go.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from student.errors import ConfigError, ProblemError
from student.exports.encoders import Piece
from student.exports.formats import Context, Format, Options, as_json, lessons_of
from student.exports.sources import WholeProblems, check_rows

REPORT = "export.json"
"""Its presence says that the export is whole."""


@dataclass
class Counts:
    """What became of the rows that were read."""

    read: int = 0
    failed: int = 0
    """Without an explanation: they carry an error."""
    dropped: int = 0
    """Turned away by a selection."""
    unclosed: int = 0
    """Their explanation never reached its end tag."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows to train on that make no row of this format, by reason."""
    without_thought: int = 0
    """Of the others, those whose explanation is empty: a template may put an empty thought of its own there (GC-14)."""
    written: int = 0
    """Rows of the format."""

    def table(self) -> dict[str, Any]:
        """By name."""
        return {**vars(self), "refused": dict(self.refused)}


class Watcher(Protocol):
    """Is shown the lessons that make rows (student_check.py)."""

    def look(self, lessons: pa.Table, form: Format, options: Options) -> None:
        """More of them."""

    def report(self) -> dict[str, Any]:
        """What export.json says of them, as `student_check`."""
        ...


class Export(Protocol):
    """Rows in, pieces of the files of a folder out: one format, or several side by side (cold_start.py)."""

    options: Options

    @property
    def name(self) -> str:
        """As `--format` takes it."""
        ...

    @property
    def reads(self) -> pa.Schema:
        """The columns of the rows that it is given."""
        ...

    @property
    def read(self) -> int:
        """Rows read."""
        ...

    @property
    def ready(self) -> bool:
        """Each format has a row, so that it will not end without one."""
        ...

    @property
    def parts(self) -> Mapping[str, "Exporter"]:
        """The formats by the folder within that each has; an export of one format has it in "", the folder itself."""
        ...

    def add(self, rows: pa.Table) -> Iterator[Piece]:
        """More rows, in order."""
        ...

    def end(self) -> Iterator[Piece]:
        """The rest of the data and all other files; raises ProblemError where a file would have no row."""
        ...


class Exporter:
    """One export of rows in a format."""

    def __init__(self, form: Format, options: Options, source: str, watch: Watcher | None = None) -> None:
        if options.file_type not in form.file_types:
            only = form.file_types[0]
            raise ConfigError(f"format {form.name}: its reader takes {only} only; say --file-type {only}")
        form.check(options)
        self._watch = watch
        self.form = form
        self.options = options
        self.counts = Counts()
        self.schema = form.schema(options)
        self._source = source
        self._problems = WholeProblems()
        self._files = form.files(self.schema, options)
        self._digest = hashlib.sha256()

    @property
    def name(self) -> str:
        """The format's."""
        return self.form.name

    @property
    def reads(self) -> pa.Schema:
        """The format's."""
        return self.form.reads

    @property
    def read(self) -> int:
        """Rows read."""
        return self.counts.read

    @property
    def ready(self) -> bool:
        """It has a row."""
        return self.counts.written > 0

    @property
    def parts(self) -> Mapping[str, "Exporter"]:
        """Itself."""
        return {"": self}

    def add(self, rows: pa.Table) -> Iterator[Piece]:
        """More rows, in order (COLUMNS); the pieces of the data that are ready by then."""
        checked = self._checked(rows)
        for table in self._problems.add(checked) if self.form.grouped else [checked]:
            yield from self._digested(self._files.add(self._converted(table)))

    def end(self) -> Iterator[Piece]:
        """The rest of the data, glue, and the report; raises ProblemError where no row was written."""
        counts = self.counts
        for table in self._problems.rest():
            yield from self._digested(self._files.add(self._converted(table)))
        if not counts.written:
            raise ProblemError(f"{self._source}: none of {counts.read} rows is one to train on ({self._reasons()})")
        yield from self._digested(self._files.end())
        data, digest = f"data.{self.options.file_type}", self._digest.hexdigest()
        context = Context(data, counts.written, self.schema.names, digest, self.options)
        for name, text in self.form.glue(context).items():
            yield name, text.encode()
        yield REPORT, as_json(self.report()).encode()

    def report(self) -> dict[str, Any]:
        """What export.json holds."""
        settings = self.options.settings.model_dump(mode="json", include=set(type(self.options.settings).model_fields))
        return {
            "format": self.form.name,
            "columns": self.schema.names,
            "file_type": self.options.file_type,
            "sha256": self._digest.hexdigest(),
            **self.counts.table(),
            "options": settings,
            **({} if self._watch is None else {"student_check": self._watch.report()}),
        }

    def _digested(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for name, data in pieces:
            self._digest.update(data)
            yield name, data

    def _checked(self, rows: pa.Table) -> pa.Table:
        check_rows(rows, self._source, before=self.counts.read)
        return kept_rows(rows, self.counts, keep_unclosed=self.options.settings.keep_unclosed)

    def _converted(self, rows: pa.Table) -> pa.Table:
        lessons = lessons_of(rows, self.options)
        reasons = self.form.refused(lessons, self.options)
        taken = lessons
        if reasons is not None:
            self.counts.refused.update(reason for reason in reasons.to_pylist() if reason is not None)
            taken = lessons.filter(pc.is_null(reasons))
        self.counts.without_thought += _true(pc.equal(taken["explanation"], ""))
        if self._watch is not None:
            self._watch.look(taken, self.form, self.options)
        made = self.form.convert(lessons, self.options)
        self.counts.written += made.num_rows
        return made

    def _reasons(self) -> str:
        counts = self.counts
        refused = [f"{number} {reason}" for reason, number in counts.refused.items()]
        left = [f"{counts.unclosed} unclosed", f"{counts.failed} failed", f"{counts.dropped} dropped by a selection"]
        return "; ".join([", ".join(left), *refused]) + "); --keep-unclosed takes unclosed ones" * bool(counts.unclosed)


def kept_rows(rows: pa.Table, counts: Counts, *, keep_unclosed: bool) -> pa.Table:
    """The rows to train on; the others are counted by the first reason that applies: failed, dropped, unclosed."""
    failed = pc.is_valid(rows["error"])
    dropped = pc.and_(pc.is_valid(rows["dropped"]), pc.invert(failed))
    closed = pc.fill_null(rows["closed"], True)
    unclosed = pc.and_(pc.invert(pc.or_(failed, dropped)), pc.invert(pc.or_(closed, keep_unclosed)))
    counts.read += len(rows)
    counts.failed += _true(failed)
    counts.dropped += _true(dropped)
    counts.unclosed += _true(unclosed)
    return rows.filter(pc.invert(pc.or_(pc.or_(failed, dropped), unclosed)))


def _true(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0
