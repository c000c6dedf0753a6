"""The rows of a source of problems or explanations, one object a format; what their columns mean is row_layouts.py.

A row is its number and either its values by column, or the reason why it cannot be read: a bad row is data, its
siblings go on. The number is the line in JSONL and CSV, the count from 1 elsewhere. A file that cannot be read at all
raises ProblemError. JSONL and CSV are read line by line and Parquet batch by batch, so memory stays flat; JSON has to
be held whole. Left out: compressed text and spreadsheets (unpack or convert them first).
"""

import csv
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from student.errors import ProblemError

Row = tuple[int, dict[str, Any] | str]

LINE_LIMIT = 16 * 2**20
"""Bytes in the longest line that is read (the longest known trace has about 0.3 MB)."""
JSON_LIMIT = 512 * 2**20
"""Bytes in the largest JSON file that is read, since it is held whole and several times over."""
PARQUET_ROWS = 64
"""Rows of a Parquet file or dataset that are turned into Python objects at once."""

DATASET_ROWS = "rows.parquet"
"""The file with the rows in the folder of a dataset."""

_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(:(?P<configuration>[\w.-]+))?")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """`value` for an error message: its repr, cut to a readable length.

    >>> shown("a question " * 100)
    "'a question a question a que...stion a question a question '"
    """
    return _SHORT.repr(value)


def first_line(error: BaseException) -> str:
    """What another library's error says, for one line of ours: its first line, cut to a readable length."""
    text = " ".join((str(error).strip() or type(error).__name__).split("\n")[0].split())
    return text if len(text) <= 200 else text[:197] + "..."


class Format(Protocol):
    """A kind of file: the suffixes that it goes by, and its rows."""

    @property
    def name(self) -> str: ...
    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def rows(self, path: Path, split: str) -> Iterator[Row]:
        """Every row; raises ProblemError where the file as a whole cannot be read."""
        ...


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line; blank lines are passed over."""

    name: str = "JSONL"
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")

    def rows(self, path: Path, split: str) -> Iterator[Row]:
        with path.open("rb") as file:
            for number, line in enumerate(bounded_lines(file), start=1):
                if line is None or line.strip():
                    yield number, parse_line(line)


def bounded_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Each line with its end and without a byte order mark; None for a line over LINE_LIMIT, which is never held."""
    mark = b"\xef\xbb\xbf"
    while line := file.readline(LINE_LIMIT + 1):
        too_long = len(line) > LINE_LIMIT
        while line and too_long and not line.endswith(b"\n"):
            line = file.readline(LINE_LIMIT)
        yield None if too_long else line.removeprefix(mark)
        mark = b""


def parse_line(line: bytes | None) -> dict[str, Any] | str:
    r"""The JSON object on a line, or why there is none.

    >>> parse_line(b'{"question": "1 + 1?"}'), parse_line(b"[1]")
    ({'question': '1 + 1?'}, 'not a JSON object but [1]')
    >>> parse_line(b'{"a": \xff}')
    'not UTF-8 (byte 0xff at column 7); save the file as UTF-8'
    """
    if line is None:
        return f"the line is longer than {LINE_LIMIT // 2**20} MB; is each row on a line of its own?"
    if b"\0" in line:
        return f"a NUL byte at column {line.index(0) + 1}; was the file written whole, and as UTF-8?"
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {line[error.start]:#x} at column {error.start + 1}); save the file as UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
    except (ValueError, RecursionError) as error:
        return f"not JSON ({first_line(error)})"
    return value if isinstance(value, dict) else f"not a JSON object but {shown(value)}"


@dataclass(frozen=True)
class Json:
    """A list of objects, or an object that holds one; JSONL that was named .json is read as JSONL."""

    name: str = "JSON"
    suffixes: tuple[str, ...] = (".json",)

    def rows(self, path: Path, split: str) -> Iterator[Row]:
        if _holds_lines(path):
            yield from JsonLines().rows(path, split)
            return
        for number, value in enumerate(_row_list(_load_json(path), path, split), start=1):
            yield number, value if isinstance(value, dict) else f"not a JSON object but {shown(value)}"


def _holds_lines(path: Path) -> bool:
    with path.open("rb") as file:
        filled = (line for line in bounded_lines(file) if line is None or line.strip())
        first, second = next(filled, None), next(filled, None)
    return second is not None and isinstance(parse_line(first), dict)


def _load_json(path: Path) -> object:
    if path.stat().st_size > JSON_LIMIT:
        raise ProblemError(f"{path}: a JSON file over {JSON_LIMIT // 2**20} MB; write it as JSONL, one row a line")
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig")) if content.strip() else []
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProblemError(f"{path}:{line}: not UTF-8 (byte {content[error.start]:#x}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ProblemError(
            f"{path}:{error.lineno}: not JSON ({error.msg.removesuffix(' at')} at column {error.colno}); mend it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"{path}: not JSON ({first_line(error)}); mend it") from error


def _row_list(value: object, path: Path, split: str) -> list[object]:
    if isinstance(value, list):
        return value
    lists = {key: item for key, item in value.items() if isinstance(item, list)} if isinstance(value, dict) else {}
    if split in lists:
        return lists[split]
    if len(lists) == 1:
        return next(iter(lists.values()))
    raise ProblemError(f"{path}: a list of rows is expected, or an object that holds one list, got {shown(value)}")


@dataclass(frozen=True)
class DelimitedText:
    """Cells between delimiters, the first row naming the columns; a quoted cell may hold line ends."""

    name: str
    suffixes: tuple[str, ...]
    delimiter: str

    def rows(self, path: Path, split: str) -> Iterator[Row]:
        with path.open("rb") as file:
            lines = _CellLines(path, file)
            table = _table_rows(path, lines, self.delimiter)
            header = next(table, (0, []))[1]
            if len(set(header)) < len(header):
                raise ProblemError(f"{path}:1: two columns of one name in {shown(header)}; rename one")
            for number, cells in table:
                yield number, _named_cells(header, cells)


class _CellLines:
    """The lines of one file as text, for csv.reader; an open quote is stopped before it swallows the file.

    Bytes that are not UTF-8 become lone surrogates, so that their row is refused by name and its siblings are read.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._lines = bounded_lines(file)
        self._number = 0
        self._held_bytes = 0
        self.row_number = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        self._held_bytes += LINE_LIMIT + 1 if line is None else len(line)
        if line is None or self._held_bytes > LINE_LIMIT:
            size = f"longer than {LINE_LIMIT // 2**20} MB"
            raise ProblemError(f"{self._path}:{self.row_number}: a row {size}; is a quote never closed?")
        return line.decode("utf-8", errors="surrogateescape")

    def next_row(self) -> None:
        """Says that all lines so far belong to rows already read."""
        self._held_bytes = 0
        self.row_number = self._number + 1


def _table_rows(path: Path, lines: _CellLines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LINE_LIMIT)
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = lines.row_number
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            raise ProblemError(f"{path}:{number}: not CSV ({error}); mend the quotes of this row") from error
        lines.next_row()
        if cells:
            yield number, cells


def _named_cells(header: list[str], cells: list[str]) -> dict[str, Any] | str:
    if len(cells) != len(header):
        return f"{len(cells)} cells under {len(header)} columns; are cells that hold a delimiter quoted?"
    return dict(zip(header, cells, strict=True))


@dataclass(frozen=True)
class Parquet:
    """A Parquet file, read batch by batch."""

    name: str = "Parquet"
    suffixes: tuple[str, ...] = (".parquet",)

    def rows(self, path: Path, split: str) -> Iterator[Row]:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        number = 0
        try:
            # With the buffer, which is the default, what was read of the file stays in memory to the end.
            with ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                    for row in _batch_rows(batch):
                        number += 1
                        yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            where = f"after row {number}" if number else "from the start"
            raise ProblemError(
                f"{path}: not readable as Parquet {where} ({first_line(error)}); write or download it again"
            ) from error


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # row by row it takes five times as long
        yield from _rows_one_by_one(batch)


def _rows_one_by_one(batch: Any) -> Iterator[dict[str, Any] | str]:
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield f"not UTF-8 (byte {error.object[error.start]:#x}); write the file again as UTF-8"


FORMATS: tuple[Format, ...] = (
    JsonLines(),
    Json(),
    DelimitedText("CSV", (".csv",), ","),
    DelimitedText("TSV", (".tsv",), "\t"),
    Parquet(),
)
_BY_SUFFIX: Mapping[str, Format] = {suffix: form for form in FORMATS for suffix in form.suffixes}


@dataclass(frozen=True)
class RowSource:
    """Where rows come from: the name that people gave it, the format found, and the rows."""

    name: str
    form: str
    rows: Iterator[Row]


def open_rows(name: str, split: str = "train") -> RowSource:
    """The rows of a file, of a folder that `rlt select` or `datasets` wrote, or of a hub dataset (`owner/name` or
    `owner/name:config`).

    `split` matters where the source has several. Raises ProblemError, here or at the first row, where there is no such
    source or its format is not known.
    """
    path = Path(name)
    if path.is_file():
        form = _file_format(path)
        return RowSource(name, form.name, form.rows(path, split))
    if (path / DATASET_ROWS).is_file():
        return RowSource(name, "dataset of rlt select", Parquet().rows(path / DATASET_ROWS, split))
    if path.is_dir():
        return RowSource(name, "datasets folder", _saved_dataset_rows(path, split))
    if (hub := _HUB_NAME.fullmatch(name)) and path.suffix not in _BY_SUFFIX:
        return RowSource(name, "hub dataset", _hub_rows(hub["repository"], hub["configuration"], split))
    if path.exists():
        raise ProblemError(f"{name}: not a regular file; name a file or a folder")
    raise ProblemError(f"{name}: no such file or folder, and no hub name (owner/name); check the path")


def read_rows(path: str | Path, split: str = "train") -> Iterator[Row]:
    """Every row of a source as (number, values), or (number, reason) where the row cannot be read; see open_rows."""
    return open_rows(str(path), split).rows


def _file_format(path: Path) -> Format:
    form = _BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        known = ", ".join(_BY_SUFFIX)
        raise ProblemError(f"{path}: the format {path.suffix!r} is not read here ({known} are); convert or rename it")
    return form


def _saved_dataset_rows(path: Path, split: str) -> Iterator[Row]:
    if not any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise ProblemError(f"{path}: a folder that save_to_disk of `datasets` did not write; name a file in it instead")
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    # The boundary to a library that raises whatever its parts raise; to whoever gave the folder it is all one.
    except Exception as error:
        raise ProblemError(f"{path}: cannot be loaded by `datasets` ({first_line(error)}); save it again") from error
    yield from _dataset_rows(_chosen_split(loaded, split, path), str(path))


def _chosen_split(loaded: Any, split: str, path: Path) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    if split in loaded:
        return loaded[split]
    if len(loaded) == 1:
        return next(iter(loaded.values()))
    raise ProblemError(f"{path}: no split {split!r}; choose one of {', '.join(loaded)} with --split")


def _dataset_rows(dataset: Any, name: str) -> Iterator[Row]:
    number = 0
    try:
        for number, row in enumerate(dataset, start=1):
            yield number, row
    except Exception as error:
        raise ProblemError(f"{name}: unreadable after row {number} ({first_line(error)}); get it again") from error


def _hub_rows(repository: str, configuration: str | None, split: str) -> Iterator[Row]:
    _reach_hub(repository)
    import datasets

    try:
        dataset = datasets.load_dataset(repository, configuration, split=split)
    except Exception as error:
        remedy = "check the --split, and the configuration (owner/name:configuration)"
        raise ProblemError(f"{repository}: cannot be loaded from the hub ({first_line(error)}); {remedy}") from error
    yield from _dataset_rows(dataset, repository)


def _reach_hub(repository: str) -> None:
    """Asks the hub once whether it has the dataset: `datasets` itself would try for half a minute to no avail."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(repository, timeout=10)
    except RepositoryNotFoundError as error:
        raise ProblemError(f"{repository}: no such file or folder, and no such dataset on the hub; check it") from error
    except Exception as error:
        raise ProblemError(
            f"{repository}: no such file or folder, and the hub cannot be reached ({first_line(error)}); check the "
            "path or the connection (HF_HUB_OFFLINE=1 uses a copy loaded before)"
        ) from error
