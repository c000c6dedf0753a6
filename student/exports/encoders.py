"""Tables of rows as the bytes of files, made while rows still come.

What is held meanwhile is one group of rows (and of Parquet the footer, some 5 kB a group), so a file of any length
takes the same memory to make. Left out: where the bytes go.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from student.exports.json_lines import json_lines

GROUP_ROWS = 8192
"""Rows of one Parquet row group, or of one file of a `datasets` folder, at most; sooner where they are long."""
GROUP_BYTES = 32 * 2**20
"""Bytes of such a group, as Arrow holds it."""

Piece = tuple[str, bytes]
"""The name of a file, and the next bytes of it; all pieces of a file come before those of another."""


class Encoder(Protocol):
    """Turns tables into the bytes of one file; what the calls return, joined, is the file."""

    def add(self, table: pa.Table) -> bytes:
        """More rows, in order."""

    def end(self) -> bytes:
        """What is still owed."""


class DataFiles(Protocol):
    """Turns tables into the pieces of one file or several."""

    def add(self, table: pa.Table) -> Iterator[Piece]:
        """More rows, in order."""

    def end(self) -> Iterator[Piece]:
        """What is still owed."""


class OneFile:
    """The pieces of a file that an encoder makes."""

    def __init__(self, name: str, encoder: Encoder) -> None:
        self._name = name
        self._encoder = encoder

    def add(self, table: pa.Table) -> Iterator[Piece]:
        """What is ready of the file."""
        yield self._name, self._encoder.add(table)

    def end(self) -> Iterator[Piece]:
        """The rest of it."""
        yield self._name, self._encoder.end()


class JsonLines:
    """One object a line, as `rlt explain` writes it."""

    def add(self, table: pa.Table) -> bytes:
        """The rows as lines."""
        return json_lines(table)

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


class SavedDataset:
    """The files of a folder as `datasets.Dataset.save_to_disk` writes it, the type of every column stated."""

    def __init__(self, schema: pa.Schema, seed: str) -> None:
        import datasets

        features = datasets.Features.from_arrow_schema(schema)
        self._features = features.to_dict()
        self._schema = features.arrow_schema
        self._groups = Groups(schema)
        self._names: list[str] = []
        self._digest = hashlib.sha256(seed.encode())

    def add(self, table: pa.Table) -> Iterator[Piece]:
        """A data file, once one is full."""
        for group in self._groups.add(table):
            yield self._data_file(group)

    def end(self) -> Iterator[Piece]:
        """The last data file, and the two files that say what the folder holds."""
        yield self._data_file(self._groups.rest())
        info = {"citation": "", "description": "", "features": self._features, "homepage": "", "license": ""}
        yield "dataset_info.json", json.dumps(info, indent=2).encode()
        yield "state.json", json.dumps(saved_state(self._names, self._digest.hexdigest()), indent=2).encode()

    def _data_file(self, group: pa.Table) -> Piece:
        data = arrow_stream(group.cast(self._schema))
        self._digest.update(data)
        self._names.append(f"data-{len(self._names):05}.arrow")
        return self._names[-1], data


def arrow_stream(group: pa.Table) -> bytes:
    """A data file of a `datasets` folder."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, group.schema) as writer:
        writer.write_table(group.combine_chunks(), max_chunksize=1000)  # the same bytes however the rows came
    return sink.getvalue()


def saved_state(data_files: list[str], digest: str) -> dict[str, object]:
    """What `datasets` writes to state.json."""
    return {
        "_data_files": [{"filename": name} for name in data_files],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": "train",
    }
