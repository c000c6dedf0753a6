"""A dataset as one download: JSONL, one Parquet file, or a folder of `datasets` as tar, made while it is sent.

Tables of rows go in and bytes come out; what is held meanwhile is one group of rows (and of Parquet the footer, some
5 kB a group), so the download of a dataset of any length takes the same memory. Left out: the trainers' own formats
and compression (Parquet's aside).
"""

import asyncio
import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from student.exports.encoders import Encoder, Groups, JsonLines, Parquet, arrow_stream, saved_state

ExportFormat = Literal["jsonl", "parquet", "datasets"]


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
