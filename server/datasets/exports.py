"""A dataset as one download, made while it is sent: its own rows, or those of a trainer's format with all their files.

    jsonl, parquet      the rows, one file
    datasets            a tar of the folder that `save_to_disk` writes
    any other           a zip of the folder that `rlt export` writes in that format, by the same code

Tables of rows go in and bytes come out; what is held meanwhile is one group of rows (and of Parquet the footer, some
5 kB a group), so the download of a dataset of any length takes the same memory. Left out: a student's own template
(`--student`), which is a model to load.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, Protocol, get_args

import pyarrow as pa

from server.datasets.archives import DatasetsFolder, Source, TrainerZip
from server.datasets.shards import Include
from server.errors import Invalid
from student.configs import ExportOptions
from student.explanations import SCHEMA
from student.exports.cold_start import export_of
from student.exports.encoders import Encoder, JsonLines, Parquet
from student.exports.formats import Options
from student.exports.names import ExportName, FileType

RowsFormat = Literal["jsonl", "parquet", "datasets"]
"""Our own rows, whichever are asked for."""
OUR_ROWS: tuple[RowsFormat, ...] = get_args(RowsFormat)
TRAINERS: tuple[ExportName, ...] = get_args(ExportName)


class ExportQuery(ExportOptions):
    """What a download is to be; all but the first two go with a trainer's format only."""

    format: Literal[RowsFormat, ExportName] = "jsonl"
    """Our own rows (`datasets` is a tar of a `datasets` folder), or a format of `rlt export`: a zip of its folder."""
    include: Include = "ok"
    """Which of our own rows; ok are those to train on, and a trainer's format has no others."""
    file_type: FileType = "parquet"
    """How the rows of a trainer's format are stored."""

    def check(self) -> None:
        """Raises Invalid where a field does not go with the format."""
        if self.format not in OUR_ROWS and self.include != "ok":
            raise Invalid(f"include: {self.format} holds rows to train on (ok), got {self.include!r}", param="include")
        others = self.model_dump(exclude_defaults=True, exclude={"format", "include"})
        if self.format in OUR_ROWS and others:
            name = min(others)
            raise Invalid(f"{name}: goes with a trainer's format, not with {self.format}; leave it out", param=name)


class Download(Protocol):
    """How a format is handed out."""

    suffix: str
    media_type: str

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder: ...

    def rows(self, asked: ExportQuery) -> Include:
        """Which rows the encoder is to be given."""
        ...


class _OurRows:
    def rows(self, asked: ExportQuery) -> Include:
        """Those that are asked for."""
        return asked.include


class JsonLinesDownload(_OurRows):
    """A row a line."""

    suffix = ".jsonl"
    media_type = "application/jsonl"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """As `rlt explain` writes them."""
        return JsonLines()


class ParquetDownload(_OurRows):
    """One file."""

    suffix = ".parquet"
    media_type = "application/vnd.apache.parquet"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """Of our schema."""
        return Parquet(SCHEMA)


class DatasetsDownload(_OurRows):
    """A folder of `datasets` as a tar."""

    suffix = ".tar"
    media_type = "application/x-tar"

    def encoder(self, source: Source, asked: ExportQuery) -> Encoder:
        """Of our schema."""
        return DatasetsFolder(SCHEMA, source)


class TrainerDownload:
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
    **{name: TrainerDownload(name) for name in TRAINERS},
}


async def export(encoder: Encoder, tables: AsyncIterator[pa.Table]) -> AsyncIterator[bytes]:
    """The bytes of the file, as they are made; encoding runs in a thread."""
    async for table in tables:
        if data := await asyncio.to_thread(encoder.add, table):
            yield data
    yield await asyncio.to_thread(encoder.end)
