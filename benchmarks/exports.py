"""`rlt export` of a million rows: rows a second and memory, at two sizes of file.

    python -m benchmarks.exports                                   # 100,000 and 1,000,000 rows, some minutes
    python -m benchmarks.exports --rows 2000 --rows 4000           # what the tests run

Rows are made from a seed: four explanations a problem, of 15 sentences from 20,000, some 1,000 characters, a question
of 3 and a solution of 2; Parquet, zstd. Each export is a process of its own: seconds are wall time with the start of
the interpreter, memory is the peak of the process. Rows a second between the two sizes leave the start out. Left out:
the sampled tokens and verdicts of real rows, which are columns that no export reads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from student.explanations import SCHEMA
from student.exports.names import FormatName

EXPORTS: tuple[tuple[FormatName, str], ...] = (
    ("trl-messages", "parquet"),
    ("trl-messages", "jsonl"),
    ("trl-prompt-completion", "parquet"),
    ("llamafactory-alpaca", "parquet"),
    ("trl-preference", "parquet"),
    ("hf-datasets", "parquet"),
)
GROUP = 8192
SAMPLES = 4


@dataclass(frozen=True)
class Figure:
    """What one export took."""

    format: str
    file_type: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    written_mb: float


def write_rows(path: Path, rows: int, seed: int) -> None:
    """A file of explanations."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in made_rows(rows, seed):
            writer.write_table(table)


def made_rows(rows: int, seed: int) -> Iterator[pa.Table]:
    """The rows, a group at a time."""
    chance = np.random.default_rng(seed)
    words = np.array(["".join(chance.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(5000)])
    sentences = pa.array([" ".join(chance.choice(words, 11)).capitalize() + "." for _ in range(20_000)])
    for first in range(0, rows, GROUP):
        count = min(GROUP, rows - first)
        numbers = np.arange(first, first + count)
        reward = pa.array(chance.normal(-1, 0.5, count))
        made = {
            "problem_id": pc.binary_join_element_wise("p", pa.array(numbers // SAMPLES).cast(pa.string()), ""),
            "sample": pa.array(numbers % SAMPLES),
            "question": _texts(sentences, chance, count, 3),
            "solution": _texts(sentences, chance, count, 2),
            "answer": pa.array(numbers % 97).cast(pa.string()),
            "explanation": _texts(sentences, chance, count, 15),
            "closed": pa.repeat(pa.scalar(True), count),
            "finished": pa.repeat(pa.scalar(True), count),
            "score": pa.StructArray.from_arrays([reward] * 4, ["reward", "rss", "ss_mean", "ss_min"]),
        }
        yield pa.table([_column(made, field, count) for field in SCHEMA], schema=SCHEMA)


def _texts(sentences: pa.Array, chance: np.random.Generator, count: int, length: int) -> pa.Array:
    chosen = sentences.take(pa.array(chance.integers(0, len(sentences), count * length)))
    offsets = pa.array(np.arange(0, count * length + 1, length, dtype=np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, chosen), " ")


def _column(made: dict[str, pa.Array], field: pa.Field, count: int) -> pa.Array:
    if field.name != "score":
        return made[field.name].cast(field.type) if field.name in made else pa.nulls(count, field.type)
    given = {name: made["score"].field(name) for name in made["score"].type.names}
    parts = [given.get(part.name, pa.nulls(count, part.type)) for part in field.type]
    return pa.StructArray.from_arrays(parts, fields=list(field.type))


def export(rows: Path, count: int, form: str, file_type: str, out: Path) -> Figure:
    """Runs `rlt export` once."""
    command = [sys.executable, "-m", "student.cli", "export", "--rows", str(rows), "--format", form]
    command += ["--file-type", file_type, "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    written = sum(file.stat().st_size for file in out.iterdir())
    peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)
    return Figure(form, file_type, count, seconds, usage.ru_utime + usage.ru_stime, peak, written / 2**20)


def printed(figures: Sequence[Figure]) -> str:
    """The figures as a table, the sizes of one export side by side."""
    sizes = sorted({figure.rows for figure in figures})
    head = " | ".join(f"{size:,} rows: s, peak MB" for size in sizes)
    lines = [
        f"| format | file | {head} | rows/s between | CPU s a million | MB written |",
        "|" + "---|" * (5 + len(sizes)),
    ]
    for form, file_type in dict.fromkeys((figure.format, figure.file_type) for figure in figures):
        of_it = sorted((f for f in figures if (f.format, f.file_type) == (form, file_type)), key=lambda f: f.rows)
        first, last = of_it[0], of_it[-1]
        rows, seconds = last.rows - first.rows, last.seconds - first.seconds
        cost = " | ".join(f"{figure.seconds:.1f}, {figure.peak_mb:.0f}" for figure in of_it)
        cpu = 1e6 * (last.cpu_seconds - first.cpu_seconds) / max(rows, 1)
        rate = f"{rows / seconds:,.0f}" if seconds > 0 else "-"
        lines.append(f"| {form} | {file_type} | {cost} | {rate} | {cpu:.1f} | {last.written_mb:,.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Figure]:
    """Makes the files, exports them in each format, prints the table; returns what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="rows of a file; unset is 100000 and 1000000")
    parser.add_argument("--format", action="append", help="formats, of those that are measured; unset is all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the figures here too")
    asked = parser.parse_args(arguments)
    figures = []
    with tempfile.TemporaryDirectory() as name:
        for count in asked.rows or (100_000, 1_000_000):
            source = Path(name) / f"{count}.parquet"
            write_rows(source, count, asked.seed)
            for number, (form, file_type) in enumerate(EXPORTS):
                if asked.format is None or form in asked.format:
                    out = Path(name) / f"{count}-{number}"
                    figures.append(export(source, count, form, file_type, out))
                    for file in out.iterdir():
                        file.unlink()
    print(printed(figures))
    if asked.json:
        Path(asked.json).write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return figures


if __name__ == "__main__":
    main()
