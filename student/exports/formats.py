"""What a format is, and the lessons that every format is made from.

    explanations (sources.py) -> lessons -> Format.convert -> data.parquet or data.jsonl (export.py)

A lesson is a row to train on as text: system message, question, and what the student learns to write, laid out as
student/reading.py lays it out in tokens.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from student.configs import ExportOptions
from student.exports.arrow_text import joined, repeated, turns
from student.tags import Tags

PROVENANCE = pa.schema([("rlt_id", pa.string()), ("rlt_problem_id", pa.string())])
"""Columns that every format carries; no trainer gives a meaning to names that begin so."""


class Format(Protocol):
    """What one trainer reads."""

    @property
    def name(self) -> str: ...

    @property
    def purpose(self) -> str:
        """Who reads it, and for what, in one line."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Its columns, those of PROVENANCE last."""
        ...

    @property
    def whole_problems(self) -> bool:
        """It must be given all lessons of a problem in one table."""
        ...

    def convert(self, lessons: pa.Table, options: ExportOptions) -> pa.Table:
        """The lessons in this format, by its schema; fewer rows where not every lesson makes one."""
        ...

    def glue(self, data: str) -> Mapping[str, str]:
        """The files, by name, that the trainer needs beside the file `data`."""
        ...


def lessons_of(rows: pa.Table, tags: Tags) -> pa.Table:
    """Explanations as lessons: their own columns with `system`, `written` and those of PROVENANCE.

    `written` is what the student learns to write after the prompt: StudentFormat.completion_ids as text, without the
    end token, which is the trainer's to add.
    """
    rows = rows.combine_chunks()
    text = {name: rows[name].combine_chunks() for name in ("problem_id", "explanation", "solution")}
    thought = [tags.thought_open, text["explanation"], tags.thought_close]
    columns = {
        "system": repeated(tags.student_system, len(rows)),
        "written": joined(*thought, tags.answer_open, text["solution"], tags.answer_close),
        "rlt_id": joined(text["problem_id"], "-", rows["sample"].combine_chunks().cast(pa.string())),
        "rlt_problem_id": text["problem_id"],
    }
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


def column(lessons: pa.Table, name: str) -> pa.Array:
    """A column of lessons as one array."""
    return lessons[name].combine_chunks()


def prompt_turns(lessons: pa.Table) -> pa.Array:
    """What the student is asked: system message and question."""
    return turns([("system", column(lessons, "system")), ("user", column(lessons, "question"))])


def with_provenance(lessons: pa.Table, schema: pa.Schema, *columns: pa.Array) -> pa.Table:
    """The columns of a format, and those of PROVENANCE after them."""
    return pa.Table.from_arrays([*columns, *(column(lessons, name) for name in PROVENANCE.names)], schema=schema)


def schema_of(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    """The schema of a format: its own columns, then those of PROVENANCE."""
    return pa.schema([*fields, *PROVENANCE])


def whole_problems(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables that end where a problem ends, for rows of a problem that stand together.

    >>> tables = [pa.table({"problem_id": ids}) for ids in (["a", "b"], ["b", "c"])]
    >>> [table["problem_id"].to_pylist() for table in whole_problems(tables)]
    [['a'], ['b', 'b'], ['c']]
    """
    held: pa.Table | None = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        if len(held):
            ends = pc.run_end_encode(column(held, "problem_id")).run_ends
            last = ends[-2].as_py() if len(ends) > 1 else 0
            yield from [held.slice(0, last)] if last else []
            held = held.slice(last)
    yield from [held] if held is not None and len(held) else []
