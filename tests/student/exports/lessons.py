"""Explanations that the tests of exports share, by what matters there: problem, reward, steps."""

import itertools
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from student.configs import ExportOptions
from student.explanations import SCHEMA, Explanation, Score
from student.exports.exporter import Exporter
from student.exports.formats import Options
from student.exports.names import FormatName
from student.exports.registry import FORMATS
from student.exports.sources import as_columns
from student.measures.results import Measures, Step


def explained(
    problem: str, sample: int, reward: float | None = None, steps: dict[str, float] | None = None
) -> Explanation:
    """One explanation; `steps` are its pieces, one a line, and their credits."""
    pieces = steps or {f"Way {sample}.": 0.0}
    text = "\n".join(pieces)
    borders = [text.index(piece) for piece in pieces] + [len(text)]
    cut = [
        Step(start=start, stop=stop, credit=credit)
        for start, stop, credit in zip(borders, borders[1:], pieces.values(), strict=False)
    ]
    return Explanation(
        problem_id=problem,
        sample=sample,
        question=f"What is {problem}?",
        solution=f"It is \\boxed{{{problem}}}.",
        answer=problem,
        explanation=text,
        closed=True,
        finished=True,
        score=None if reward is None else Score(reward=reward, rss=reward, ss_mean=reward, ss_min=reward),
        measures=None if steps is None else Measures(steps=tuple(cut)),
    )


def table(rows: list[Explanation]) -> pa.Table:
    """The rows in Arrow."""
    return pa.Table.from_pylist([row.model_dump() for row in rows], SCHEMA)


def write_parquet(rows: list[Explanation], path: Path) -> Path:
    """The rows in a file."""
    pq.write_table(table(rows), path)
    return path


def exported(form: FormatName, rows: list[Explanation], **options: object) -> tuple[list[dict[str, object]], Exporter]:
    """The rows of a format as they are in its Parquet file, and the exporter that made them."""
    exporter = Exporter(FORMATS[form], Options(ExportOptions.model_validate(options)), "rows")
    files: dict[str, bytes] = {}
    for name, data in itertools.chain(exporter.add(as_columns(table(rows), exporter.form.reads)), exporter.end()):
        files[name] = files.get(name, b"") + data
    return pq.read_table(BytesIO(files["data.parquet"])).to_pylist(), exporter
