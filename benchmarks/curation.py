"""`rlt select` on planted copies and planted test questions: recall, precision, seconds, memory.

    python benchmarks/curation.py                        # 100,000 rows
    python benchmarks/curation.py --rows 3000            # what the tests run
    python benchmarks/curation.py --tests aime24/test.jsonl --tests amc23/test.jsonl --json figures.json

Rows are made from a seed: explanations of 120 to 350 words whose frequencies are Zipf's, a sentence in twelve one of
40 that all texts share. One row in a hundred of each kind is planted, at any place, with a reward of its own. A copy
counts as found where one of the two is dropped; what is dropped besides is a false alarm, and so are the texts with a
quarter of their words exchanged, which are meant to stay. Test questions are made likewise unless --tests names files.

Seconds are wall time of the whole command, memory is the peak of its process. Left out: real copies, which nobody has
labelled; see LOG.md for GSM8K.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from student.curation.contamination import read_questions

SHARE = 0.01
"""Of the rows, of each kind that is planted."""
EDITS: Mapping[str, float] = {"5 % of the words edited": 0.05, "10 % of the words edited": 0.1}
OTHERS = "25 % of the words edited: another text"
EXACT = ("word by word", "other case and punctuation")


@dataclass(frozen=True)
class Figure:
    """What became of one kind of planted rows."""

    kind: str
    planted: int
    found: int

    @property
    def share(self) -> float:
        """Of the planted ones."""
        return self.found / max(1, self.planted)


class Writer:
    """Makes texts from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._words = ["".join(self.random.choices(letters, k=self.random.randint(2, 9))) for _ in range(20_000)]
        self._words[:10] = [str(number) for number in range(10)]
        self._shares = 1 / np.arange(3, 20_003)
        self._shares /= self._shares.sum()
        self._common = [self.sentence() for _ in range(40)]

    def words(self, count: int) -> list[str]:
        """So many words."""
        return [self._words[index] for index in self._numbers.choice(len(self._words), count, p=self._shares)]

    def sentence(self) -> str:
        """Of 8 to 20 words."""
        return " ".join(self.words(self.random.randint(8, 20))).capitalize() + "."

    def text(self, shortest: int, longest: int) -> str:
        """Sentences of so many words together."""
        left, sentences = self.random.randint(shortest, longest), []
        while left > 0:
            shared = self.random.random() < 1 / 12
            sentences.append(self.random.choice(self._common) if shared else self.sentence())
            left -= sentences[-1].count(" ") + 1
        return " ".join(sentences)

    def edited(self, text: str, share: float) -> str:
        """The text with a share of its words exchanged, left out, doubled or swapped with the next."""
        words = text.split()
        for place in self.random.sample(range(len(words) - 1), round(share * len(words))):
            way = self.random.random()
            if way < 0.6:
                words[place] = self.words(1)[0]
            elif way < 0.8:
                words[place] = ""
            else:
                words[place] = f"{words[place]} {self.words(1)[0]}"
        return " ".join(word for word in words if word)


def rewritten(text: str) -> str:
    """The same words in another case, with other punctuation and spacing."""
    return text.upper().replace(".", " ;").replace(" ", "  ").replace("$", " \\, ")


def plants(writer: Writer) -> Mapping[str, Callable[[str], str]]:
    """How each kind of copy is made from a text."""
    edits = {**EDITS, OTHERS: 0.25}
    made = {kind: (lambda text, share=share: writer.edited(text, share)) for kind, share in edits.items()}
    return {EXACT[0]: lambda text: text, EXACT[1]: rewritten, **made}


def contaminations(writer: Writer) -> Mapping[str, Callable[[str], str]]:
    """How each kind of contaminated question is made from a test question."""
    return {
        "test question, verbatim": lambda text: text,
        "test question, other case": str.swapcase,
        "test question, other punctuation and spacing": rewritten,
        "test question inside a longer text": lambda text: f"{writer.text(20, 40)} {text} {writer.text(20, 40)}",
    }


def write_rows(path: Path, rows: int, questions: Sequence[str], seed: int) -> dict[str, list[list[str]]]:
    """Writes the rows; returns by kind the ids of the planted ones: pairs of copies, or a row with a test question."""
    writer, planted = Writer(seed), dict[str, list[list[str]]]()
    count = round(SHARE * rows)
    made: list[dict[str, Any]] = []
    for kind, copy in plants(writer).items():
        for _ in range(count):
            text = writer.text(120, 350)
            pair = [_row(writer, writer.text(20, 60), each) for each in (text, copy(text))]
            planted.setdefault(kind, []).append([f"{row['problem_id']}-0" for row in pair])
            made.extend(pair)
    for kind, copy in contaminations(writer).items():
        for _ in range(count):
            made.append(_row(writer, copy(writer.random.choice(questions)), writer.text(120, 350)))
            planted.setdefault(kind, []).append([f"{made[-1]['problem_id']}-0"])
    places = sorted(writer.random.sample(range(rows), len(made)))
    writer.random.shuffle(made)
    with path.open("w", encoding="utf-8") as file:
        for row in _laid_out(writer, rows, dict(zip(places, made, strict=True))):
            file.write(json.dumps(row) + "\n")
    return planted


def _laid_out(writer: Writer, rows: int, planted: Mapping[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for place in range(rows):
        yield planted.get(place) or _row(writer, writer.text(20, 60), writer.text(120, 350))


def _row(writer: Writer, question: str, explanation: str) -> dict[str, Any]:
    reward = writer.random.gauss(-1, 0.5)
    return {
        "problem_id": f"{writer.random.getrandbits(64):016x}",
        "sample": 0,
        "question": question,
        "solution": "\\boxed{7}",
        "explanation": explanation,
        "token_ids": writer.random.choices(range(150_000), k=explanation.count(" ") * 4 // 3),
        "closed": True,
        "finished": True,
        "score": {"reward": reward, "rss": reward, "ss_mean": reward, "ss_min": reward, "rkl": abs(reward) / 10},
    }


def select(rows: Path, out: Path, tests: Sequence[str]) -> dict[str, float]:
    """Runs `rlt select`; seconds and the peak of its memory, MB."""
    command = [sys.executable, "-m", "student.cli", "select", "--rows", str(rows), "--out", str(out)]
    command += [word for test in tests for word in ("--contamination.files", test)]
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    seconds = usage.ru_utime + usage.ru_stime
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": seconds,
        "peak_mb": usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20),
    }


def figures(out: Path, planted: Mapping[str, list[list[str]]]) -> dict[str, Any]:
    """Recall by kind, and the precision of all that was dropped."""
    table = pq.read_table(out / "rows.parquet", columns=["id", "dropped"]).to_pylist()
    dropped = {row["id"]: row["dropped"].partition(":")[0] for row in table if row["dropped"] is not None}
    found = {
        kind: [Figure(kind, len(groups), sum(any(name in dropped for name in group) for group in groups))]
        for kind, groups in planted.items()
    }
    wanted = {name for kind, groups in planted.items() if kind != OTHERS for group in groups for name in group}
    hits = {by: [name in wanted for name, reason in dropped.items() if reason == by] for by in set(dropped.values())}
    return {
        "recall": [asdict(figure) | {"share": figure.share} for [figure] in found.values()],
        "dropped": {by: len(of_reason) for by, of_reason in hits.items()},
        "precision": {by: sum(of_reason) / len(of_reason) for by, of_reason in hits.items()},
    }


def printed(found: Mapping[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"| {'planted':<46} | rows | dropped | share |", f"|{'-' * 48}|------|---------|-------|"]
    lines += [
        f"| {row['kind']:<46} | {row['planted']:>4} | {row['found']:>7} | {row['share']:.3f} |"
        for row in found["recall"]
    ]
    lines += [
        f"precision of what {by} dropped: {share:.4f} ({found['dropped'][by]} rows)"
        for by, share in found["precision"].items()
    ]
    cost = "{rows:,} rows: {seconds:.0f} s of wall time, {cpu_seconds:.0f} s of CPU, peak {peak_mb:.0f} MB"
    return "\n".join([*lines, cost.format(**found)])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Makes the rows, selects among them, prints the table; returns what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", action="append", default=[], help="test sets; unset makes 200 questions")
    parser.add_argument("--json", help="write the figures here too")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = asked.tests or [made_tests(folder / "tests.jsonl")]
        questions = [question.text for file in tests for question in read_questions(file)]
        planted = write_rows(folder / "rows.jsonl", asked.rows, questions, asked.seed)
        cost = select(folder / "rows.jsonl", folder / "out", tests)
        found = {"rows": asked.rows, **figures(folder / "out", planted), **cost}
    print(printed(found))
    if asked.json:
        Path(asked.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def made_tests(path: Path) -> str:
    """A test set of 200 questions, a fifth of them shorter than 13 words."""
    writer = Writer(1)
    texts = [writer.text(14, 60) if number % 5 else " ".join(writer.words(9)) for number in range(200)]
    rows = [json.dumps({"question": text, "answer": "7"}) + "\n" for text in texts]
    path.write_text("".join(rows), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main()
