"""`rlt export`: the rows to train on, in the format of another trainer.

    OUT/data.parquet or data.jsonl     the rows
    OUT/README.md and others           the command that trains, and what the trainer needs beside its data
    OUT/card, OUT/manifest.jsonl       where the rows' folder has a card: README.md is one too, with these beside it
    OUT/student_check.jsonl            the rows that --check-student finds fault with
    OUT/export.json                    format, columns, what was written and what was left out; written last
    OUT/settings.json                  the settings; others are refused

A cold start has two such folders, OUT/sft and OUT/rl. The folder is called OUT.partial until it is whole. Left out on
purpose: choosing among the rows (`rlt select` does).
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tqdm import tqdm

from student.config import remember
from student.configs import ExportConfig, ExportOptions
from student.errors import OutputError
from student.exports.cards import write_card
from student.exports.cold_start import ColdStart, export_of
from student.exports.encoders import Piece
from student.exports.exporter import REPORT, Export, Exporter
from student.exports.formats import Chat, Options
from student.exports.registry import FORMATS
from student.exports.sources import batches
from student.tags import STYLES

if TYPE_CHECKING:
    from student.exports.student_check import StudentCheck


def main(config: ExportConfig) -> None:
    """Carries out `rlt export`; raises RltError where something must be mended first."""
    if config.formats:
        print(listing())
        return
    assert config.rows is not None, "a validator asks for it"
    assert config.format is not None, "and for this"
    assert config.out is not None, "and for this"
    out = Path(config.out)
    if is_whole(out, config):
        return
    settings = ExportOptions.model_validate(config.model_dump(include=set(ExportOptions.model_fields)))
    options = Options(settings, config.file_type, chat_of(config.student, settings))
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    remember(config, partial / "settings.json")
    try:
        with checked(config, partial) as check:
            export = export_of(config.format, options, config.rows, check)
            write(export, config.rows, partial)
            write_card(Path(config.rows), partial, out.name, export, config.model_dump(mode="json"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if out.is_dir():
        out.rmdir()
    partial.replace(out)
    for folder, exporter in export.parts.items():
        print(f"{out / folder}: {summary(exporter)}")
    if check is not None:
        print(checked_line(check))


def chat_of(student: str | None, settings: ExportOptions) -> Chat | None:
    """The template of the student that is named, written out."""
    if student is None:
        return None
    from student.exports.student_check import Student

    return Student.load(student).chat(STYLES[settings.tags].student_system)


@contextmanager
def checked(config: ExportConfig, folder: Path) -> Iterator["StudentCheck | None"]:
    """What tries each row with the student's template and writes its faults into a folder; None where none is asked."""
    if config.check_student is None:
        yield None
        return
    from student.exports.student_check import FAULTS_FILE, Student, StudentCheck

    student = Student.load(config.check_student, config.check_tokens)
    with (folder / FAULTS_FILE).open("w", encoding="utf-8") as file:
        yield StudentCheck(student, file)


def checked_line(check: "StudentCheck") -> str:
    """The check on one line; each kind of fault goes to stderr with the first row that has it."""
    for kind, number in check.faults.items():
        print(f"rlt export: {number} rows: {kind} (the first: {check.first[kind]})", file=sys.stderr)
    limit = "no limit" if check.student.max_tokens is None else f"{check.student.max_tokens:,} at most"
    return (
        f"{check.student.name}: {check.rows:,} rows, {check.tokens:,} tokens ({check.trained_tokens:,} trained), "
        f"the longest row {check.longest:,} ({limit}), {sum(check.faults.values()):,} faults (student_check.jsonl)"
    )


def listing() -> str:
    """The formats, one a line."""
    named = {form.name: form.purpose for form in FORMATS.values()} | {ColdStart.name: ColdStart.purpose}
    width = max(map(len, named))
    return "\n".join(f"{name:<{width}}  {purpose}" for name, purpose in named.items())


def is_whole(out: Path, config: ExportConfig) -> bool:
    """Whether `out` holds this very export; raises OutputError where it holds anything else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; name a folder")
    if (out / REPORT).exists():
        remember(config, out / "settings.json")
        print(f"{out}: finished already, nothing to do")
        return True
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} exists and nothing says how it was made; name another folder")
    return False


def write(export: Export, source: str, folder: Path) -> None:
    """Streams the rows of a source into the files of a folder."""
    with Folder(folder) as files, tqdm(desc="export", unit="row", disable=None) as bar:
        for rows in batches(source, export.options.tags, export.reads):
            files.take(export.add(rows))
            bar.update(export.read - bar.n)
        files.take(export.end())


class Folder:
    """Files of a folder, written piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = ""
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, pieces: Iterable[Piece]) -> None:
        """Writes pieces; a file ends where another begins."""
        for name, data in pieces:
            if self._file is None or name != self._name:
                self.__exit__()
                path = self._path / name
                path.parent.mkdir(exist_ok=True)
                self._name, self._file = name, path.open("wb")
            self._file.write(data)


def summary(exporter: Exporter) -> str:
    """The counts on one line; each reason for which rows to train on were left out goes to stderr."""
    counts = exporter.counts.table()
    for reason, number in counts.pop("refused").items():
        print(f"rlt export: {number} rows left out: {reason}", file=sys.stderr)
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counts.items())
