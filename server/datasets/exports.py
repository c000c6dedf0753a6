"""A dataset as one download: JSONL, one Parquet file, or a folder of `datasets` as tar, made while it is sent.

Tables of rows go in and bytes come out; what is held meanwhile is one group of rows (and of Parquet the footer, some
5 kB a group), so the download of a dataset of any length takes the same memory. Left out: the trainers' own formats
and compression (Parquet's aside).
"""

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

ExportFormat = Literal["jsonl", "parquet", "datasets"]

GROUP_ROWS = 8192
"""Rows of one Parquet row group, or of one file of a `datasets` folder, at most; sooner where they are long."""
GROUP_BYTES = 32 * 2**20
"""Bytes of such a group, as Arrow holds it."""


class Encoder(Protocol):
    """Turns tables into the bytes of one file; what the calls return, joined, is the file."""

    def add(self, table: pa.Table) -> bytes:
        """More rows, in order."""

    def end(self) -> bytes:
        """What is still owed."""


class JsonLines:
    """One object a line, as `rlt explain` writes it."""

    def add(self, table: pa.Table) -> bytes:
        """The rows as lines."""
        return "".join(f"{_json(row)}\n" for row in table.to_pylist()).encode()

    def end(self) -> bytes:
        """Nothing: every line is whole."""
        return b""


class Groups:
    """Collects small tables until they make a group."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The group that is full by now, if any."""
        self._tables.append(table)
        rows = sum(held.num_rows for held in self._tables)
        if rows >= GROUP_ROWS or sum(held.nbytes for held in self._tables) >= GROUP_BYTES:
            yield self.rest()

    def rest(self) -> pa.Table:
        """All that is held, which may be no row; it is held no longer."""
        tables, self._tables = self._tables, []
        return pa.concat_tables([self._schema.empty_table(), *tables])


class Parquet:
    """One Parquet file (zstd) of several row groups."""

    def __init__(self, schema: pa.Schema) -> None:
        self._groups = Groups(schema)
        self._sink = Drain()
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")

    def add(self, table: pa.Table) -> bytes:
        """A row group, once one is full."""
        for group in self._groups.add(table):
            self._writer.write_table(group)
        return self._sink.taken()

    def end(self) -> bytes:
        """The last row group and the footer."""
        self._writer.write_table(self._groups.rest())
        self._writer.close()
        return self._sink.taken()


class Drain(io.RawIOBase):
    """A file that is only written to; what was written is taken away in between."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: "io.ReadableBuffer") -> int:  # type: ignore[name-defined]
        """Keeps a copy, until it is taken."""
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class DatasetsFolder:
    """A tar of the folder that `datasets.Dataset.save_to_disk` would write; unpacked, `load_from_disk` reads it."""

    def __init__(self, schema: pa.Schema, name: str, written_at: int) -> None:
        self._schema = schema
        self._groups = Groups(schema)
        self._name = name
        self._written_at = written_at
        self._files: list[str] = []
        self._digest = hashlib.sha256(name.encode())

    def add(self, table: pa.Table) -> bytes:
        """A data file, once one is full."""
        return b"".join(self._data_file(group) for group in self._groups.add(table))

    def end(self) -> bytes:
        """The last data file, then the two files that say what the folder holds, and the tar's end."""
        last = self._data_file(self._groups.rest())
        info = {"citation": "", "description": "", "features": None, "homepage": "", "license": ""}
        state: dict[str, object] = {
            "_data_files": [{"filename": name} for name in self._files],
            "_fingerprint": self._digest.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": "train",
        }
        files = [
            self._member(name, _json(it).encode()) for name, it in [("dataset_info.json", info), ("state.json", state)]
        ]
        return b"".join([last, *files, b"\0" * 1024])

    def _data_file(self, group: pa.Table) -> bytes:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, self._schema) as writer:
            writer.write_table(group, max_chunksize=1000)
        data = sink.getvalue()
        self._digest.update(data)
        self._files.append(f"data-{len(self._files):05}.arrow")
        return self._member(self._files[-1], data)

    def _member(self, name: str, data: bytes) -> bytes:
        header = tarfile.TarInfo(f"{self._name}/{name}")
        header.size, header.mtime = len(data), self._written_at
        return header.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Download:
    """How a format is handed out."""

    suffix: str
    media_type: str
    encoder: Callable[[pa.Schema, str, int], Encoder]
    """Of the rows' schema, the dataset's name, and when it was finished (Unix seconds)."""


DOWNLOADS: dict[ExportFormat, Download] = {
    "jsonl": Download(".jsonl", "application/jsonl", lambda schema, name, at: JsonLines()),
    "parquet": Download(".parquet", "application/vnd.apache.parquet", lambda schema, name, at: Parquet(schema)),
    "datasets": Download(".tar", "application/x-tar", DatasetsFolder),
}


async def export(encoder: Encoder, tables: AsyncIterator[pa.Table]) -> AsyncIterator[bytes]:
    """The bytes of the file, as they are made; encoding runs in a thread."""
    async for table in tables:
        if data := await asyncio.to_thread(encoder.add, table):
            yield data
    yield await asyncio.to_thread(encoder.end)
