"""Folders as one stream of bytes, made while their files still grow.

A folder of `datasets` is a tar, of files that are whole when they are added. Other folders are zips, since a tar states
the length of a file before its first byte; Parquet and pictures lie in them as they are, texts compressed.
"""

import json
import tarfile
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, Any

import pyarrow as pa

from student.exports.encoders import Drain, Groups, Piece, arrow_stream, saved_state
from student.exports.exporter import Export
from student.exports.sources import as_columns

PACKED = (".parquet", ".arrow", ".png")
"""Files that are compressed already."""


@dataclass(frozen=True)
class Source:
    """The dataset, for names and dates within the download."""

    name: str
    finished_at: int
    """Unix seconds."""
    title: str = ""
    """For people."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for."""


class DatasetsFolder:
    """A tar of the folder that `datasets.Dataset.save_to_disk` would write; unpacked, `load_from_disk` reads it."""

    def __init__(self, schema: pa.Schema, source: Source) -> None:
        self._schema = schema
        self._groups = Groups(schema)
        self._source = source
        self._files: list[str] = []
        self._digest = sha256(source.name.encode())

    def add(self, table: pa.Table) -> bytes:
        """A data file, once one is full."""
        return b"".join(self._data_file(group) for group in self._groups.add(table))

    def end(self) -> bytes:
        """The last data file, then the two files that say what the folder holds, and the tar's end."""
        last = self._data_file(self._groups.rest())
        info = {"citation": "", "description": "", "features": None, "homepage": "", "license": ""}
        state = saved_state(self._files, self._digest.hexdigest())
        files = [
            self._member(name, _json(it).encode()) for name, it in [("dataset_info.json", info), ("state.json", state)]
        ]
        return b"".join([last, *files, b"\0" * 1024])

    def _data_file(self, group: pa.Table) -> bytes:
        data = arrow_stream(group)
        self._digest.update(data)
        self._files.append(f"data-{len(self._files):05}.arrow")
        return self._member(self._files[-1], data)

    def _member(self, name: str, data: bytes) -> bytes:
        header = tarfile.TarInfo(f"{self._source.name}/{name}")
        header.size, header.mtime = len(data), self._source.finished_at
        return header.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class TrainerZip:
    """A zip of the folder that `rlt export` would write.

    Its first bytes are handed out once it has a row: a dataset without one is refused with a status of its own.
    """

    def __init__(self, source: Source, exported: Export) -> None:
        self._export = exported
        self._zip = StreamedZip(f"{source.name}-{exported.name}", source)
        self._held: list[bytes] = []

    def add(self, table: pa.Table) -> bytes:
        """What is ready of the zip."""
        self._take(self._export.add(as_columns(table, self._export.reads)))
        return self._ready() if self._export.ready else b""

    def end(self) -> bytes:
        """The rest of it; raises ProblemError where no row was written."""
        self._take(self._export.end())
        return self._ready() + self._zip.end()

    def _take(self, pieces: Iterable[Piece]) -> None:
        self._held.extend(self._zip.write(name, data) for name, data in pieces)

    def _ready(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)


class StreamedZip:
    """A zip of one folder, whose files are written one after the other, each piece by piece."""

    def __init__(self, folder: str, source: Source) -> None:
        self._folder = folder
        self._date = time.gmtime(source.finished_at)[:6]
        self._sink = Drain()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._name: str | None = None
        self._file: IO[bytes] | None = None

    def write(self, name: str, data: bytes) -> bytes:
        """What is ready of the zip, with more of a file; one that had ended may not go on."""
        if self._file is None or name != self._name:
            self._close_file()
            member = zipfile.ZipInfo(f"{self._folder}/{name}", self._date)
            member.compress_type = zipfile.ZIP_STORED if name.endswith(PACKED) else zipfile.ZIP_DEFLATED
            self._name, self._file = name, self._zip.open(member, "w", force_zip64=True)
        self._file.write(data)
        return self._sink.taken()

    def end(self) -> bytes:
        """The rest of it."""
        self._close_file()
        self._zip.close()
        return self._sink.taken()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
