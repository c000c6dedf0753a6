"""Shards: a row comes back as it was written, and each row is in exactly one of ok, failed and dropped."""

from io import BytesIO

import pyarrow as pa
import pytest

from server.datasets.shards import Include, chosen, read_table, rows_of, write_rows
from student.explanations import SCHEMA, Explanation, Score


def row(number: int, **values: object) -> Explanation:
    return Explanation.model_validate(
        {
            "problem_id": "p",
            "sample": number,
            "question": "1 + 1?",
            "solution": "2",
            "explanation": "Zwei – 2\u2028\n",
            "token_ids": (5, 6, 399),
            "closed": True,
            "finished": True,
            "seed": 2**63 - 1,
            **values,
        }
    )


def shard(*rows: Explanation) -> pa.Table:
    file = BytesIO()
    write_rows(file, rows)
    return read_table(BytesIO(file.getvalue()))


SCORE = Score(reward=-1.5, rss=-1.0, ss_mean=-1.0, ss_min=-3.0, notes=("an empty explanation",))
ROWS = [
    row(0, score=SCORE),
    row(1, error="the prompt takes 9 tokens", token_ids=None, explanation=""),
    row(2, dropped="its end tag was not reached", closed=False),
    row(3, error="refused", dropped="also"),
    row(4),
]


def test_rows_come_back_as_they_were_written() -> None:
    assert rows_of(shard(*ROWS)) == ROWS


def test_a_shard_without_rows_has_all_columns() -> None:
    assert shard().schema.names == SCHEMA.names
    assert rows_of(shard()) == []


@pytest.mark.parametrize(
    ("include", "samples"), [("ok", [0, 4]), ("failed", [1, 3]), ("dropped", [2]), ("all", [0, 1, 2, 3, 4])]
)
def test_each_row_is_either_ok_or_failed_or_dropped(include: Include, samples: list[int]) -> None:
    assert chosen(shard(*ROWS), include)["sample"].to_pylist() == samples
