"""A file of results that grows row by row: it can be killed at any moment, goes on, and has its name only when whole.

    OUT.partial         JSONL, one fsync a batch; a torn last line is dropped and owed again
    OUT                 the same file renamed, or the Parquet made of it
    OUT.settings.json   the settings it is made with; others are refused

Left out: two runs that write the same OUT at the same time.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from student.config import FREE, Config, remember
from student.errors import OutputError
from student.problem_files import whole_file

ROWS_AT_A_TIME = 1024
"""Rows that are held in memory while Parquet is made."""


class RowFile:
    """Rows on their way into `out`: JSONL, or Parquet where its name ends so and a schema is given."""

    def __init__(self, out: Path, schema: pa.Schema | None = None) -> None:
        check_out(out, (".jsonl",) if schema is None else (".jsonl", ".parquet"))
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.settings = out.with_name(out.name + ".settings.json")
        self._schema = schema

    @property
    def begun(self) -> bool:
        """There is a result already, whole or in part."""
        return self.out.exists() or self.partial.exists()

    def claim(self, config: Config) -> None:
        """Saves the settings beside the result; raises OutputError where one is there that was made with others."""
        if self.out.exists() and not self.settings.exists():
            raise OutputError(f"{self.out} exists and nothing says how it was made; {_REMEDY}")
        if not self.begun:
            self.settings.unlink(missing_ok=True)
        remember(config, self.settings, free=FREE)

    def whole(self, ids: Sequence[str], constant: Mapping[str, str]) -> bool:
        """The result is there, one row an id; raises OutputError where it is there but was made from something else."""
        if not self.out.exists():
            return False
        found = list(_columns(self.out, ["id", *constant]))
        if len(found) != len(ids):
            raise OutputError(f"{self.out} has {len(found)} rows and the problems now make {len(ids)}; {_REMEDY}")
        _check_rows(self.out, found, ids, constant)
        return True

    def resume(self, ids: Sequence[str], constant: Mapping[str, str], unit: int = 1) -> list[dict[str, Any]]:
        """The rows already written, the first of those with these ids; the rest is owed.

        Only whole units of `unit` rows are kept, so that the rest is made in the same batches as without a break.
        Raises OutputError where a row is not the one expected there, or differs in a value of `constant`: the problems
        or the weights have changed since.
        """
        if not self.partial.exists():
            return []
        rows, ends = _whole_lines(self.partial)
        _check_rows(self.partial, rows, ids, constant)
        kept = len(rows) if len(rows) == len(ids) else len(rows) - len(rows) % unit
        os.truncate(self.partial, ends[kept])
        return rows[:kept]

    def append(self, rows: Iterable[BaseModel]) -> None:
        """Adds rows and waits until they are on the disk; where they do not fit, none stays and OSError rises."""
        data = "".join(row.model_dump_json() + "\n" for row in rows).encode()
        with naming(self.partial), self.partial.open("ab", buffering=0) as stream:
            start = stream.seek(0, os.SEEK_END)
            try:
                _write_all(stream.fileno(), data)
            except OSError:
                os.truncate(self.partial, start)
                raise

    def finish(self) -> None:
        """Gives the whole file its name."""
        self.append([])
        if self.out.suffix != ".parquet":
            self.partial.replace(self.out)
            return
        with naming(self.out), whole_file(self.out, "wb") as file:
            _write_parquet(self.partial, file, self._schema)
        self.partial.unlink()


_REMEDY = "choose another name, or remove it and start anew"


def check_out(out: Path, suffixes: Sequence[str]) -> None:
    """Raises OutputError where rows cannot be written as `out`: another suffix, or a folder."""
    if out.suffix not in suffixes:
        raise OutputError(f"{out}: rows are written as {' or '.join(suffixes)}; name the file so")
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file in it")


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows before the first torn line, and the byte at which each number of rows ends (ends[0] = 0)."""
    rows: list[dict[str, Any]] = []
    ends = [0]
    with path.open("rb") as stream:
        for line in stream:
            row = _row_of(line)
            if row is None:
                break
            rows.append(row)
            ends.append(ends[-1] + len(line))
    return rows, ends


def _row_of(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _check_rows(path: Path, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], constant: Mapping[str, str]) -> None:
    for number, row in enumerate(rows, start=1):
        wanted = ids[number - 1] if number <= len(ids) else "no more rows"
        if row.get("id") != wanted:
            raise OutputError(
                f"{path}:{number}: holds {row.get('id')!r} where the problems now ask for {wanted!r}; {_REMEDY}"
            )
        for name, value in constant.items():
            if row.get(name) != value:
                raise OutputError(f"{path}:{number}: {name} was {row.get(name)!r}, now {value!r}; {_REMEDY}")


def _columns(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """The named values of every row of a whole result."""
    if path.suffix != ".parquet":
        rows, _ = _whole_lines(path)
        yield from ({name: row.get(name) for name in names} for row in rows)
        return
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=names):
            yield from batch.to_pylist()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _write_parquet(jsonl: Path, parquet: BinaryIO, schema: pa.Schema | None) -> None:
    with jsonl.open("rb") as lines, pq.ParquetWriter(parquet, schema, compression="zstd") as writer:
        while chunk := [json.loads(line) for line in islice(lines, ROWS_AT_A_TIME)]:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes the folder of `path`, and puts its name into an OSError that has none, as that of a full disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
