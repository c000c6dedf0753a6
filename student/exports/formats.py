"""What a format is, and the lessons that every format is made from.

    explanations (sources.py) -> lessons -> Format.convert -> the data's bytes (encoders.py) -> a folder, or the service

A lesson is a row to train on as text: system message, question, and what the student learns to write, laid out as
student/reading.py lays it out in tokens. A format is one object, and all that is particular to it is in it. Columns
that tell where a row is from are called `rlt_*`: trainers act on names such as `prompt`, `labels` and `text` wherever
they find them (export-formats GC-1 to GC-3, GC-20).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, get_args

import pyarrow as pa

from student.configs import ExportOptions
from student.exports.arrow_text import column, joined, repeated, turns
from student.exports.encoders import DataFiles, JsonLines, OneFile, Parquet
from student.exports.names import FileType, FormatName, ProblemColumn
from student.exports.sources import COLUMNS
from student.tags import STYLES, Tags

_PATHS = {
    **dict.fromkeys(("reward", "rss", "rkl"), "score"),
    **dict.fromkeys(("gain", "step_credit", "leak", "repetition", "tokens", "verified"), "measures"),
}


@dataclass(frozen=True)
class Chat:
    """A student's chat template as text: what stands before and after a question, and its end of text."""

    before: str
    after: str
    end: str
    added: str = ""
    """What the tokenizer puts before every text by itself, and `before` begins with."""


@dataclass(frozen=True)
class Options:
    """What the caller wants of a format."""

    settings: ExportOptions = field(default_factory=ExportOptions)
    file_type: FileType = "parquet"
    chat: Chat | None = None
    """The template of the student that was named; None where none was."""

    @property
    def tags(self) -> Tags:
        """The tag style of the texts."""
        return STYLES[self.settings.tags]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that tell where a row is from, without `rlt_`."""
        return tuple(name for name in self.settings.columns if name != "none")


@dataclass(frozen=True)
class Context:
    """What glue may speak of."""

    data: str
    """The data file's name."""
    rows: int
    columns: Sequence[str]
    """Of the data."""
    digest: str
    """SHA-256 of the data, hexadecimal."""
    options: Options


class Format(ABC):
    """What one trainer reads."""

    name: ClassVar[FormatName]
    purpose: ClassVar[str]
    """Who reads it, and for what, in one line."""
    grouped: ClassVar[bool] = False
    """It is given all rows of a problem in one table; they are adjacent in what every verb writes."""
    reads: ClassVar[pa.Schema] = COLUMNS
    """The columns of the rows that it is given."""
    answered: ClassVar[bool] = True
    """Its rows hold what the student learns to write; False: questions alone, answered while training."""
    pieces_apart: ClassVar[bool] = False
    """Of `texts`: the trainer tokenises each by itself."""
    file_types: ClassVar[tuple[FileType, ...]] = get_args(FileType)
    """How its reader takes the rows."""

    @abstractmethod
    def convert(self, lessons: pa.Table, options: Options) -> pa.Table:
        """The lessons in this format, without those that are `refused`."""

    def glue(self, context: Context) -> Mapping[str, str]:
        """The files, by name, that lie beside the data; README.md has the command that trains."""
        return {"README.md": readme(self, context, "")}

    def schema(self, options: Options) -> pa.Schema:
        """Its columns, those that tell where a row is from last."""
        return self.convert(lessons_of(self.reads.empty_table(), options), options).schema

    def refused(self, lessons: pa.Table, options: Options) -> pa.Array | None:
        """Why a lesson makes no row of this format, null where it does; None where each does."""
        return None

    def system(self, lessons: pa.Table, options: Options) -> pa.Array:
        """The system message of each lesson."""
        return column(lessons, "system")

    def texts(self, lessons: pa.Table, options: Options) -> tuple[pa.Array, pa.Array] | None:
        """Prompt and answer of each lesson where the trainer applies no template; None where it does."""
        return None

    def check(self, options: Options) -> None:
        """Raises ConfigError where the options do not go with the format."""
        return

    def files(self, schema: pa.Schema, options: Options) -> DataFiles:
        """What turns its tables into files: one, by `--file-type`."""
        encoder = Parquet(schema) if options.file_type == "parquet" else JsonLines()
        return OneFile(f"data.{options.file_type}", encoder)


def lessons_of(rows: pa.Table, options: Options) -> pa.Table:
    """Explanations as lessons: their own columns with `system` and `written`, and the ids computed anew.

    `written` is what the student learns to write after the prompt: StudentFormat.completion_ids as text, without the
    end token, which is the trainer's to add.
    """
    tags, thought, solution = options.tags, column(rows, "explanation"), column(rows, "solution")
    opened, between = tags.thought_open, tags.thought_close + tags.answer_open
    added = {
        "id": joined(column(rows, "problem_id"), "-", column(rows, "sample").cast(pa.string())),
        "system": repeated(tags.student_system, len(rows)),
        "written": joined(opened, thought, between, solution, tags.answer_close),
    }
    return pa.table({**{name: rows[name] for name in rows.column_names}, **added})


def prompt_turns(lessons: pa.Table) -> pa.Array:
    """What the student is asked: system message and question."""
    return turns([("system", column(lessons, "system")), ("user", column(lessons, "question"))])


def written_turns(lessons: pa.Table) -> pa.Array:
    """What the student learns to write, as a conversation of the assistant's turn."""
    return turns([("assistant", column(lessons, "written"))])


def origin(lessons: pa.Table, options: Options) -> dict[str, pa.Array]:
    """The columns that tell where each row is from, `rlt_id` and the like."""
    return {f"rlt_{name}": column(lessons, _path(name)) for name in options.columns}


def pair_origin(chosen: pa.Table, rejected: pa.Table, options: Options) -> dict[str, pa.Array]:
    """The same where two lessons of a problem make a row: what they share once, what is each one's own twice."""
    found: dict[str, pa.Array] = {}
    for name in options.columns:
        shared = name in get_args(ProblemColumn)
        sides = {f"rlt_{name}": chosen} if shared else {f"rlt_chosen_{name}": chosen, f"rlt_rejected_{name}": rejected}
        found.update({side: column(lessons, _path(name)) for side, lessons in sides.items()})
    return found


def _path(name: str) -> str:
    return f"{_PATHS[name]}.{name}" if name in _PATHS else name


def readme(form: Format, context: Context, command: str, *remarks: str) -> str:
    """README.md: what lies here, which of the files is the data (the front matter, for `datasets`), how to train.

    `datasets` caches a folder by its path and this front matter: without the digest, a folder that was made anew with
    other rows would be the old one to it.
    """
    lines = [
        "---",
        f"configs: [{{config_name: default, data_files: {context.data}, description: sha256 {context.digest}}}]",
        "---",
        f"# {form.name}",
        "",
        f"{context.rows:,} rows for {form.purpose}. `export.json` says how they were made.",
        *(["", "```sh", command, "```"] if command else []),
        *(part for remark in remarks for part in ("", remark)),
    ]
    return "\n".join(lines) + "\n"


def as_json(value: object) -> str:
    """A file of JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
