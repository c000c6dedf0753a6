"""Text and conversations as Arrow columns, made for all rows of a batch at once.

No row becomes a Python object here: a million rows are a matter of seconds. The texts of one column of a batch hold
less than 2 GB (sources.BATCH_ROWS). Left out: whatever is decided row by row.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def joined(*parts: str | pa.Array) -> pa.Array:
    """The parts one after the other, in each row; a plain text is the same in all rows, a null part makes a null.

    >>> joined("<", pa.array(["a", "b"]), ">").to_pylist()
    ['<a>', '<b>']
    """
    return pc.binary_join_element_wise(*parts, "")


def repeated(text: str, rows: int) -> pa.Array:
    """A column that holds `text` in every row."""
    return pa.repeat(pa.scalar(text, pa.string()), rows)


def column(table: pa.Table, path: str) -> pa.Array:
    """A column as one array; `score.reward` is a field of a struct, null where the struct is."""
    name, *fields = path.split(".")
    array = table[name].combine_chunks()
    for field in fields:
        array = pc.struct_field(array, field)
    return array


def turn(speaker: str, texts: pa.Array, role: str = "role", content: str = "content") -> pa.Array:
    """One turn a row: an object, no list."""
    return pa.StructArray.from_arrays([repeated(speaker, len(texts)), texts], [role, content])


def turns(spoken: Sequence[tuple[str, pa.Array]], role: str = "role", content: str = "content") -> pa.Array:
    """One conversation a row: each turn is who speaks, and the column of what is said.

    >>> turns([("user", pa.array(["1 + 1?"])), ("assistant", pa.array(["2"]))]).to_pylist()
    [[{'role': 'user', 'content': '1 + 1?'}, {'role': 'assistant', 'content': '2'}]]
    """
    return listed([turn(speaker, texts, role, content) for speaker, texts in spoken])


def listed(items: Sequence[pa.Array]) -> pa.Array:
    """One list a row, of the row's value in each of `items`.

    >>> listed([pa.array([1, 2]), pa.array([10, 20])]).to_pylist()
    [[1, 10], [2, 20]]
    """
    width, rows = len(items), len(items[0])
    by_row = pa.array(np.arange(width * rows).reshape(width, rows).T.ravel())
    starts = pa.array(np.arange(0, width * rows + 1, width, dtype=np.int32))
    return pa.ListArray.from_arrays(starts, pa.concat_arrays(items).take(by_row))
