"""JSON by columns is the JSON that Python writes, for every text and number."""

import json
import math

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from student.exports.json_lines import json_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | TEXT,
        "number": st.none() | st.floats(),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "truth": st.none() | st.booleans(),
        "turns": st.none() | st.lists(st.none() | st.fixed_dictionaries({"role": TEXT, "content": st.none() | TEXT})),
        "inner": st.none() | st.fixed_dictionaries({"a": st.none() | st.lists(st.none() | st.booleans())}),
    }
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("whole", pa.int64()),
        ("truth", pa.bool_()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("inner", pa.struct([("a", pa.list_(pa.bool_()))])),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=5), st.integers(0, 3))
def test_what_is_written_is_read_back(rows: list[dict[str, object]], start: int) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA).slice(start)
    lines = json_lines(table).decode().split("\n")
    assert lines.pop() == ""
    expected = rows[start:]
    for row in expected:
        number = row["number"]
        row["number"] = None if not isinstance(number, float) or not math.isfinite(number) else number
    assert [json.loads(line) for line in lines] == expected


def test_only_what_json_must_escape_is_escaped() -> None:
    line = json_lines(pa.table({"a": ['ü \u2028 \\ " \n \x07 </think>']}))
    assert line.decode() == '{"a":"ü \u2028 \\\\ \\" \\n \\u0007 </think>"}\n'
