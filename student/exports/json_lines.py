r"""Tables as lines of JSON, column by column in Arrow: several times faster than through Python objects.

    text      backslash, quote and control characters are escaped, all else stays as it is (UTF-8)
    number    as Arrow prints it; NaN and infinity, which JSON does not have, become null
    list, struct   their elements' JSON, put together

Left out: types that no row of ours has (dates, decimals, maps).
"""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from student.exports.arrow_text import joined

_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
_CONTROL = r"[\x00-\x1f]"


def json_lines(table: pa.Table) -> bytes:
    """One object a row, a line each.

    >>> json_lines(pa.table({"a": ["x", None], "b": [[1, 2], []]})).splitlines()
    [b'{"a":"x","b":[1,2]}', b'{"a":null,"b":[]}']
    """
    if not table.num_rows:
        return b""
    rows = table.to_struct_array().combine_chunks()
    lines = joined(json_texts(rows), "\n")
    return "".join(lines.to_pylist()).encode()


def json_texts(array: pa.Array) -> pa.Array:
    """The JSON of each value."""
    kind = array.type
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        texts = _quoted(array.cast(pa.string()))
    elif kinds.is_struct(kind):
        texts = _objects(array)
    elif kinds.is_list(kind) or kinds.is_large_list(kind):
        texts = _lists(array)
    elif kinds.is_floating(kind):
        finite = pc.if_else(pc.is_finite(array), array, pa.scalar(None, kind))
        texts = finite.cast(pa.string())
    else:
        texts = array.cast(pa.string())
    return pc.fill_null(texts, "null")


def _quoted(array: pa.Array) -> pa.Array:
    escaped = array
    for raw, written in _ESCAPES:
        escaped = pc.replace_substring(escaped, raw, written)
    if pc.any(pc.match_substring_regex(escaped, _CONTROL)).as_py():
        values = array.to_pylist()
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])
    return joined('"', escaped, '"')


def _objects(array: pa.Array) -> pa.Array:
    pieces: list[pa.Array | str] = []
    for field, values in zip(array.type, array.flatten(), strict=True):
        pieces += [f"{',' if pieces else '{'}{json.dumps(field.name)}:", json_texts(values)]
    return _where_valid(array, joined(*pieces, "}"))


def _lists(array: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    texts = pa.ListArray.from_arrays(offsets, json_texts(array.flatten()))
    return _where_valid(array, joined("[", pc.binary_join(texts, ","), "]"))


def _where_valid(array: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.string()))
