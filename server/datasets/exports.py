"""A dataset as one download, made while it is sent: its own rows, or those of a trainer's format with all their files.

    jsonl, parquet      the rows, one file
    datasets            a tar of the folder that `save_to_disk` writes
    manifest            the manifests of rows, one file
    folder              a zip of the folder that `rlt select` leaves: rows, manifests, card; cards.py
    any other           a zip of the folder that `rlt export` writes in that format, by the same code

Tables of rows go in and bytes come out; what is held meanwhile is one group of rows (and of Parquet the footer, some
5 kB a group), so the download of a dataset of any length takes the same memory. Left out: a student's own template
(`--student`), which is a model to load.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Literal, Protocol, get_args

import pyarrow as pa

from server.datasets.archives import DatasetsFolder, Source, TrainerZip
from server.datasets.bounds import Bounds
from server.datasets.cards import Tables, folder_zip, manifest_lines
from server.datasets.shards import Include
from server.errors import Invalid
from student.configs import ExportOptions
from student.explanations import SCHEMA
from student.exports.cold_start import export_of
from student.exports.encoders import Encoder, JsonLines, Parquet
from student.exports.formats import Options
from student.exports.names import ExportName, FileType

RowsFormat = Literal["jsonl", "parquet", "datasets", "manifest", "folder"]
"""Our own rows, whichever are asked for."""
OUR_ROWS: tuple[RowsFormat, ...] = get_args(RowsFormat)
TRAINERS: tuple[ExportName, ...] = get_args(ExportName)


class ExportQuery(ExportOptions, Bounds):
    """What a download is to be: its format, which rows, and options of a trainer's format, which go with that only."""

    format: Literal[RowsFormat, ExportName] = "jsonl"
    """Our own rows: a file, a tar of a `datasets` folder, manifests alone, or a zip of the folder of `rlt select` with
    the card; or a format of `rlt export`, a zip of its folder."""
    include: Include | None = None
    """Which of our own rows; unset is ok, those to train on. A trainer's format has no others, a folder has all."""
    file_type: FileType = "parquet"
    """How the rows of a trainer's format are stored."""

    def check(self) -> None:
        """Raises Invalid where a field does not go with the format."""
        if self.format not in OUR_ROWS and self.include not in (None, "ok"):
            raise Invalid(f"include: {self.format} holds rows to train on (ok), got {self.include!r}", param="include")
        if self.format == "folder" and self.include not in (None, "all"):
            raise Invalid(
                f"include: a folder holds all rows (all), got {self.include!r}; leave it out", param="include"
            )
        bound = next(self.bounds(), None)
        if self.format == "folder" and bound is not None:
            raise Invalid(f"{bound.name}: a folder holds all rows; leave it out", param=bound.name)
        others = self.model_dump(exclude_defaults=True, exclude={"format", "include", *Bounds.model_fields})
        if self.format in OUR_ROWS and others:
            name = min(others)
            raise Invalid(f"{name}: goes with a trainer's format, not with {self.format}; leave it out", param=name)


class Download(Protocol):
    """How a format is handed out."""

    suffix: str
    media_type: str

    def chunks(self, source: Source, asked: ExportQuery, tables: Tables) -> AsyncIterator[bytes]:
        """The bytes of the download, as they are made."""
        ...


class _Encoded(ABC):
    @abstractmethod
    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """What turns rows into the file."""

    def rows(self, asked: ExportQuery) -> Include:
        """Those that are asked for."""
        return asked.include or "ok"

    def chunks(self, source: Source, asked: ExportQuery, tables: Tables) -> AsyncIterator[bytes]:
        """Encoded table by table."""
        return export(self.encoder(source, asked), tables(self.rows(asked)))


class JsonLinesDownload(_Encoded):
    """A row a line."""

    suffix = ".jsonl"
    media_type = "application/jsonl"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """As `rlt explain` writes them."""
        return JsonLines()


class ParquetDownload(_Encoded):
    """One file."""

    suffix = ".parquet"
    media_type = "application/vnd.apache.parquet"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """Of our schema."""
        return Parquet(SCHEMA)


class DatasetsDownload(_Encoded):
    """A folder of `datasets` as a tar."""

    suffix = ".tar"
    media_type = "application/x-tar"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """Of our schema."""
        return DatasetsFolder(SCHEMA, source)


class ManifestDownload(_Encoded):
    """A manifest a line."""

    suffix = ".manifest.jsonl"
    media_type = "application/jsonl"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """As `rlt select` writes them."""
        return Manifests()


class Manifests:
    """Turns rows into the lines of their manifests."""

    def add(self, table: pa.Table) -> bytes:
        """More of them."""
        return manifest_lines(table)

    def end(self) -> bytes:
        """Nothing: a line is whole when it is written."""
        return b""


class FolderDownload:
    """The folder of `rlt select` as a zip."""

    suffix = ".zip"
    media_type = "application/zip"

    def chunks(self, source: Source, asked: ExportQuery, tables: Tables) -> AsyncIterator[bytes]:
        """All rows, whatever became of them."""
        return folder_zip(source, tables)


class TrainerDownload(_Encoded):
    """The folder of `rlt export` as a zip."""

    media_type = "application/zip"

    def __init__(self, name: ExportName) -> None:
        self._name = name
        self.suffix = f"-{name}.zip"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """Raises ConfigError where the options do not go with the format."""
        settings = ExportOptions.model_validate(asked.model_dump(include=set(ExportOptions.model_fields)))
        return TrainerZip(source, export_of(self._name, Options(settings, asked.file_type), source.name))

    def rows(self, asked: ExportQuery) -> Include:
        """All of them: the exporter leaves out what is not to be trained on, and counts it."""
        return "all"


DOWNLOADS: dict[str, Download] = {
    "jsonl": JsonLinesDownload(),
    "parquet": ParquetDownload(),
    "datasets": DatasetsDownload(),
    "manifest": ManifestDownload(),
    "folder": FolderDownload(),
    **{name: TrainerDownload(name) for name in TRAINERS},
}


async def export(encoder: Encoder, tables: AsyncIterator[pa.Table]) -> AsyncIterator[bytes]:
    """The bytes of the file, as they are made; encoding runs in a thread."""
    async for table in tables:
        if data := await asyncio.to_thread(encoder.add, table):
            yield data
    yield await asyncio.to_thread(encoder.end)
