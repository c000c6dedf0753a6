"""`rlt export`: the rows to train on, in the format of another trainer.

    OUT/data.parquet or data.jsonl     the rows
    OUT/export.json                    format, columns, what was written and what was left out; written last
    OUT/settings.json                  the settings; others are refused
    OUT/...                            what the trainer needs beside its data

Left out on purpose: splitting the rows, and choosing among them (`rlt select` does).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from student.config import remember
from student.configs import ExportConfig
from student.errors import OutputError, ProblemError
from student.exports.formats import Format, lessons_of, whole_problems
from student.exports.registry import FORMATS
from student.exports.sources import batches, check_rows
from student.problem_files import whole_file
from student.tags import STYLES

REPORT = "export.json"
"""Its presence says that the export is whole."""
Write = Callable[[pa.Table], Any]


@dataclass
class Counts:
    """What became of the rows that were read."""

    read: int = 0
    kept: int = 0
    """Rows to train on."""
    written: int = 0
    """Rows of the format made of them: as many, or fewer where a format pairs or passes over some."""
    failed: int = 0
    """Without an explanation: they carry an error."""
    dropped: int = 0
    """Turned away by a selection."""
    unclosed: int = 0
    """Their explanation never reached its end tag."""


def main(config: ExportConfig) -> None:
    """Carries out `rlt export`; raises RltError where something must be mended first."""
    out, form = Path(config.out), FORMATS[config.format]
    data = out / f"data.{config.file}"
    if is_whole(out, data, config):
        return
    remember(config, out / "settings.json")
    counts = write_data(config, form, data)
    for name, text in form.glue(data.name).items():
        with whole_file(out / name) as file:
            file.write(text)
    report = {"format": form.name, "columns": form.schema.names, "file": data.name, **asdict(counts)}
    with whole_file(out / REPORT) as file:
        file.write(json.dumps(report, indent=2) + "\n")
    print(f"{out}: {', '.join(f'{name} {value}' for name, value in asdict(counts).items())}")


def is_whole(out: Path, data: Path, config: ExportConfig) -> bool:
    """Whether `out` holds this very export; raises OutputError where it holds another, or data that nobody explains.

    One that broke off binds nobody: it starts anew, perhaps with other settings.
    """
    settings = out / "settings.json"
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; name a folder")
    if (out / REPORT).exists():
        remember(config, settings)
        print(f"{out}: finished already, nothing to do")
        return True
    if data.exists() and not settings.exists():
        raise OutputError(f"{data} exists and nothing says how it was made; name another folder")
    settings.unlink(missing_ok=True)
    return False


def write_data(config: ExportConfig, form: Format, data: Path) -> Counts:
    """Streams the rows of the source into `data`; raises ProblemError where none is left, and leaves no file then."""
    counts = Counts()
    with writer(data, form.schema) as write, tqdm(desc="export", unit="row", disable=None) as bar:
        found = lessons(config, counts, bar)
        for table in whole_problems(found) if form.whole_problems else found:
            made = form.convert(table, config)
            counts.written += len(made)
            write(made)
        check_written(counts, config)
    return counts


def lessons(config: ExportConfig, counts: Counts, bar: Any) -> Iterator[pa.Table]:
    """The rows to train on as lessons, and what was read in `counts` and on the bar."""
    tags = STYLES[config.tags]
    for rows in batches(config.rows, tags):
        check_rows(rows, config.rows, before=counts.read)
        kept = kept_rows(rows, counts, keep_unclosed=config.keep_unclosed)
        if len(kept):
            yield lessons_of(kept, tags)
        bar.update(len(rows))


def check_written(counts: Counts, config: ExportConfig) -> None:
    """Raises ProblemError where nothing was written."""
    if not counts.kept:
        raise ProblemError(
            f"{config.rows}: none of {counts.read} rows is one to train on ({counts.unclosed} unclosed, "
            f"{counts.failed} failed, {counts.dropped} dropped by a selection); --keep-unclosed takes unclosed ones"
        )
    if not counts.written:
        raise ProblemError(
            f"{config.rows}: {config.format} needs problems with several explanations of different rewards, and none "
            f"of the {counts.kept} rows makes one; run `rlt score`, or lower --margin"
        )


def kept_rows(rows: pa.Table, counts: Counts, *, keep_unclosed: bool) -> pa.Table:
    """The rows to train on; the others are counted by the first reason that applies: failed, dropped, unclosed."""
    counts.read += len(rows)
    before = len(rows)
    rows = rows.filter(pc.is_null(rows["error"]))
    counts.failed += before - len(rows)
    before = len(rows)
    rows = rows.filter(pc.is_null(rows["dropped"]))
    counts.dropped += before - len(rows)
    if not keep_unclosed:
        before = len(rows)
        rows = rows.filter(pc.fill_null(rows["closed"], True))
        counts.unclosed += before - len(rows)
    counts.kept += len(rows)
    return rows


@contextmanager
def writer(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """What writes tables into a file that has its name only when whole: Parquet or JSONL, by its suffix."""
    if path.suffix == ".parquet":
        with whole_file(path, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield parquet.write_table
        return
    with whole_file(path) as file:
        yield lambda table: write_lines(table, file)


def write_lines(table: pa.Table, file: TextIO) -> None:
    """A table as JSONL."""
    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
