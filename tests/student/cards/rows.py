"""Rows for the tests of cards."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from student.cards.census import Census
from student.explanations import SCHEMA, Explanation, Score
from student.measures.results import Measures


def row(sample: int = 0, reward: float | None = None, leak: float | None = None, **values: Any) -> Explanation:
    """An explanation with these measures."""
    score = None if reward is None else Score(reward=reward, rss=reward, ss_mean=-1, ss_min=-2)
    measures = None if leak is None else Measures(leak=leak)
    given = {"problem_id": "a", "explanation": "so", "closed": True, "finished": True, "measures": measures}
    return Explanation(sample=sample, question="1 + 1?", solution="2", score=score, **(given | values))


def table(rows: Sequence[Explanation]) -> pa.Table:
    """Rows as Arrow has them."""
    return pa.Table.from_pylist([each.model_dump() for each in rows], SCHEMA)


def census_of_rows(*rows: Explanation) -> Census:
    """The census of rows."""
    census = Census()
    census.add(table(rows))
    return census
