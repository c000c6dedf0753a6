"""Lines and JSON of files that are being written, or that somebody spoilt: what cannot be used is passed over.

Memory is bounded whatever a file holds: a line that is too long is skipped, a value that is too deep or too large is
cut, a number that is none is None.
"""

import json
import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

OBJECT_BYTES = 2**20
"""Longest line, and longest file that is one object."""
WHOLE_BYTES = 16 * 2**20
"""Longest file of which every line is read; of a longer one, SPREAD lines."""
SPREAD = 4000
SPREAD_LINE_BYTES = 64 * 2**10
"""Longest line of which such a file is read, so that at most twice SPREAD as much is."""
DEEPEST = 8
MOST_ITEMS = 1000
LONGEST_TEXT = 2000


def spread_lines(file: BinaryIO) -> Iterator[bytes]:
    """All lines, or where the file is longer than WHOLE_BYTES, SPREAD lines evenly over it, the last one included; of
    those, the ones that are longer than SPREAD_LINE_BYTES are passed over."""
    size = os.fstat(file.fileno()).st_size
    if size <= WHOLE_BYTES:
        yield from _lines(file)
        return
    for place in range(SPREAD):
        start = size * place // SPREAD
        if place and start < file.tell():
            continue
        file.seek(start)
        if place and not file.readline(SPREAD_LINE_BYTES).endswith(b"\n"):  # the rest of a line that began before
            continue
        line = file.readline(SPREAD_LINE_BYTES)
        if line.endswith(b"\n"):
            yield line
    yield from [line for line in last_lines(file, OBJECT_BYTES) if line.endswith(b"\n")][-1:]


def last_lines(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """The lines that lie wholly in the last `most_bytes` of a file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - most_bytes))
    if size > most_bytes:
        file.readline(most_bytes)
    yield from _lines(file)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Every line that is not too long; of one that grows meanwhile, what is there."""
    while line := file.readline(OBJECT_BYTES):
        if line.endswith(b"\n") or len(line) < OBJECT_BYTES:
            yield line
            continue
        while (rest := file.readline(OBJECT_BYTES)) and not rest.endswith(b"\n"):
            pass


def json_object(text: bytes) -> dict[str, Any] | None:
    """The object that a line or a file is, as it stands there; None where it is none.

    >>> json_object(b'{"step": 1}'), json_object(b'{"step": 1, "rew'), json_object(b"[1]")
    ({'step': 1}, None, None)
    """
    try:
        value = json.loads(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def number(value: Any) -> float | None:
    """A finite number, or None.

    >>> [number(value) for value in (1, -0.5, float("nan"), True, "1", None, 10**400)]
    [1.0, -0.5, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def shown(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A text of at most `longest` characters that every encoding takes; of what is no text, none.

    >>> shown("a\\ud800b"), shown("abc", 2), shown(7)
    ('a?b', 'ab…', '')
    """
    if not isinstance(value, str):
        return ""
    text = value[:longest].encode("utf-8", errors="replace").decode("utf-8")
    return text + "…" if len(value) > longest else text


def bounded(value: Any, depth: int = 0) -> Any:
    """A JSON value cut to MOST_ITEMS a level, DEEPEST levels and texts of LONGEST_TEXT; wrong numbers are None."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict | list) and depth >= DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {shown(name): bounded(each, depth + 1) for name, each in list(value.items())[:MOST_ITEMS]}
    if isinstance(value, list):
        return [bounded(each, depth + 1) for each in value[:MOST_ITEMS]]
    if value is None or isinstance(value, bool):
        return value
    return value if isinstance(value, int) and abs(value) < 2**53 else number(value)
