"""Text and conversations as Arrow columns, made for all rows of a batch at once."""

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


def turns_type(role: str = "role", content: str = "content") -> pa.DataType:
    """The type of a conversation: a list of turns with these two keys."""
    return pa.list_(pa.struct([(role, pa.string()), (content, pa.string())]))


def turns(spoken: Sequence[tuple[str, pa.Array]], role: str = "role", content: str = "content") -> pa.ListArray:
    """One conversation a row: each turn is who speaks, and the column of what is said.

    >>> turns([("user", pa.array(["1 + 1?"])), ("assistant", pa.array(["2"]))]).to_pylist()
    [[{'role': 'user', 'content': '1 + 1?'}, {'role': 'assistant', 'content': '2'}]]
    """
    count, rows = len(spoken), len(spoken[0][1])
    by_row = pa.array(np.arange(count * rows).reshape(count, rows).T.ravel())
    texts = pa.concat_arrays([texts for _, texts in spoken]).take(by_row)
    roles = pa.array([name for name, _ in spoken]).take(pa.array(np.tile(np.arange(count), rows)))
    starts = pa.array(np.arange(0, count * rows + 1, count, dtype=np.int32))
    return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays([roles, texts], [role, content]))
