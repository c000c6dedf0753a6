"""Loads every export with its real consumer: `make consumers`, or `python scripts/consumers.py [NAME ...]`.

    sample rows, a student from scratch -> `rlt export`, a folder a format
    consumers.toml -> .consumers/NAME, an environment of its own -> consumer_probe.py there -> rows and trained tokens

What a consumer saw is compared with what `--check-student` counted; asked for all of them, the table goes into
docs/consumers.md. The exit status is 1 where one saw anything else, or could not be asked. Left out: training.
"""

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from student.configs import ExportConfig, ScratchConfig
from student.explanations import SCHEMA, Explanation, Score
from student.exports.export import main as export
from student.exports.formats import Options, lessons_of
from student.exports.names import FormatName
from student.exports.registry import FORMATS
from student.measures.results import Measures, Step
from student.models import save_pair
from student.problems import Problem

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".consumers"
PROBE = ROOT / "scripts" / "consumer_probe.py"
PAGE = ROOT / "docs" / "consumers.md"
START, STOP = "<!-- table -->", "<!-- /table -->"
STEPS = {"$1 + 1 = 2$.": 0.5, " So \\frac{4}{2} it is.\n": -0.3, " – No, “ü”.\t": 0.05}
"""What all explanations have in common, with the credits: LaTeX, line ends, white space at the end, more than ASCII."""
PROBLEMS, SAMPLES = 20, 3
WRITTEN_OUT: tuple[FormatName, ...] = ("axolotl-input-output", "trl-prompt-completion-text")
"""Formats without a template of their own: `--student` writes the student's."""


class Consumer(BaseModel):
    """A table of consumers.toml, which explains the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: tuple[FormatName, ...]
    package: str | None = None
    beside: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()
    rows_only: tuple[FormatName, ...] = ()
    ends: Mapping[FormatName, int] = {}
    heads: Mapping[FormatName, str] = {}


class Seen(BaseModel):
    """What a consumer's dataset holds, as consumer_probe.py prints it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: int = 0
    tokens: int = 0
    trained: int = 0
    texts: tuple[str, ...] = ()
    rewarded: int | None = None
    error: str | None = None


def read_consumers() -> dict[str, Consumer]:
    """By name."""
    tables = tomllib.loads((ROOT / "scripts" / "consumers.toml").read_text(encoding="utf-8"))
    return {name: Consumer.model_validate(table) for name, table in tables.items()}


def sample() -> list[Explanation]:
    """The rows that are exported: some explanations a problem, with their rewards and the credits of their steps."""
    return [_explanation(number, place) for number in range(PROBLEMS) for place in range(SAMPLES)]


def _explanation(number: int, place: int) -> Explanation:
    pieces, cut, start = (f"Way {place}.\n", *STEPS), [], 0
    for piece, credit in zip(pieces, (0.1, *STEPS.values()), strict=True):
        cut.append(Step(start=start, stop=start + len(piece), credit=credit))
        start += len(piece)
    return Explanation(
        problem_id=f"p{number}",
        sample=place,
        question=f"What is {number}?",
        solution=f"It is \\boxed{{{number}}}.",
        answer=str(number),
        explanation="".join(pieces),
        closed=True,
        finished=True,
        score=Score(reward=place, rss=place, ss_mean=0, ss_min=0),
        measures=Measures(steps=tuple(cut)),
    )


def make_sample() -> None:
    """The rows and a student to read them: a Qwen2 of two layers, its template ChatML, its tokenizer theirs."""
    from student.scratch import make_scratch

    shutil.rmtree(WORK / "student", ignore_errors=True)
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in sample()], SCHEMA), WORK / "rows.parquet")
    config = ScratchConfig(
        problems="unused", out="unused", vocabulary=400, hidden_size=32, layers=2, heads=4, key_value_heads=2,
        intermediate_size=64, max_tokens=1024,
    )  # fmt: skip
    problems = [
        Problem(question=row.question, solution=row.solution, reasoning_trace=row.explanation) for row in sample()
    ]
    save_pair(*make_scratch(config, problems), WORK / "student")


def make_export(form: FormatName) -> Path:
    """The folder of the sample in a format, made anew, with what the student's tokenizer makes of it."""
    out, student = WORK / "exports" / form, str(WORK / "student")
    shutil.rmtree(out, ignore_errors=True)
    config = ExportConfig(
        rows=str(WORK / "rows.parquet"),
        format=form,
        out=str(out),
        file_type=FORMATS[form].file_types[0],
        check_student=student,
        student=student if form in WRITTEN_OUT else None,
    )
    export(config)
    return out


def expected(form: FormatName, folder: Path, consumer: Consumer) -> Seen:
    """What a consumer must see of an export: what `--check-student` counted of it, and the answers themselves."""
    report = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    rows, check = report["written"], report["student_check"]
    if form in consumer.rows_only:
        return Seen(rows=rows)
    if not FORMATS[form].answered:
        return Seen(rows=rows, tokens=check["tokens"], rewarded=rows)
    if form == "trl-stepwise":
        return Seen(rows=rows, trained=rows * (1 + len(STEPS)))  # one label a step
    trained = check["trained_tokens"] + check["rows"] * consumer.ends.get(form, 0)
    return Seen(rows=rows, trained=trained, texts=answers(form, consumer))


def answers(form: FormatName, consumer: Consumer) -> tuple[str, ...]:
    """What the student learns to write of the sample in a format: of pairs and labels, the best and the worst."""
    told = [row for row in sample() if not FORMATS[form].grouped or row.sample in (0, SAMPLES - 1)]
    lessons = lessons_of(pa.Table.from_pylist([row.model_dump() for row in told], SCHEMA), Options())
    return tuple(f"{consumer.heads.get(form, '')}{text}".strip() for text in lessons["written"].to_pylist())


def environment(name: str, consumer: Consumer) -> Path:
    """The Python of a consumer's environment, which is made where it is missing or other packages are pinned now."""
    if consumer.package is None:
        return Path(sys.executable)
    folder, stamp = WORK / name, WORK / name / "made_of"
    wanted = hashlib.sha256(consumer.model_dump_json(include={"package", "beside", "stubs"}).encode()).hexdigest()
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"{name}: making {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *consumer.beside], check=True)
    subprocess.run([*pip, "--no-deps", consumer.package], check=True)
    for stub in consumer.stubs:
        (site_packages(python) / f"{stub}.py").write_text('"""Empty: it cannot be imported on a CPU."""\n')
    stamp.write_text(wanted, encoding="utf-8")
    return python


def site_packages(python: Path) -> Path:
    """Where an environment has its packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())


def ask(name: str, python: Path, exports: Mapping[FormatName, Path]) -> Iterator[tuple[FormatName, Seen]]:
    """What a consumer saw of each export; its own words are in .consumers/NAME.log."""
    quiet = {"AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    cache = {"HF_DATASETS_CACHE": str(WORK / "cache" / name), "RAY_USAGE_STATS_ENABLED": "0", "WANDB_MODE": "offline"}
    command = [str(python), str(PROBE), name, str(WORK / "student")]
    with (WORK / f"{name}.log").open("w", encoding="utf-8") as log:
        answer = subprocess.run(
            [*command, *(f"{form}={folder}" for form, folder in exports.items())],
            stdout=subprocess.PIPE, stderr=log, text=True, check=False, env={**inherited, **quiet, **cache},
        )  # fmt: skip
    said = {line["format"]: line for line in map(json.loads, answer.stdout.splitlines())}
    for form in exports:
        yield form, Seen.model_validate(said.get(form, {"error": f"it ended with status {answer.returncode}"}))


def version(name: str, consumer: Consumer) -> str:
    """Of the package."""
    return consumer.package.partition("==")[2] if consumer.package else metadata.version(name)


def verdict(seen: Seen, wanted: Seen) -> str:
    """In words, for the table."""
    if seen.error is not None:
        return f"not loaded: {seen.error}"
    compared = ("rows", "trained", "rewarded") if wanted.rewarded is None else ("rows", "tokens", "rewarded")
    wrong = [
        f"{getattr(wanted, name)} {name} expected" for name in compared if getattr(seen, name) != getattr(wanted, name)
    ]
    if missed := (Counter(wanted.texts) - Counter(seen.texts)).total():
        wrong.append(f"{missed} answers are not learned as they stand")
    return ", ".join(wrong) or "as expected"


def table(lines: Sequence[Sequence[str]]) -> str:
    """The lines as Markdown."""
    head = ("consumer", "version", "format", "rows", "tokens", "trained", "rewarded", "")
    texts = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in texts) + "\n"


def lines_of(name: str, consumer: Consumer) -> Iterator[list[str]]:
    """The lines of one consumer; where its environment cannot be made, they say so."""
    exports = {form: make_export(form) for form in consumer.formats}
    try:
        found = dict(ask(name, environment(name, consumer), exports))
    except subprocess.CalledProcessError as error:
        why = f"its environment was not made ({error}); pip's words are above"
        found = {form: Seen(error=why) for form in exports}
    for form, seen in found.items():
        counts = [seen.rows, seen.tokens, seen.trained, seen.rewarded or 0]
        told = [f"{count:,}" if count else "" for count in counts]
        judged = verdict(seen, expected(form, exports[form], consumer))
        yield [name, version(name, consumer), f"`{form}`", *told, judged]


def write(made: str) -> None:
    """Puts the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    today = datetime.datetime.now(datetime.UTC).date()
    text = f"{before}{START}\n\nMade on {today}:\n\n{made}\n{STOP}{rest.partition(STOP)[2]}"
    PAGE.write_text(text, encoding="utf-8")


def main(names: list[str]) -> int:
    """Asks the consumers that are named, or all of them."""
    consumers = read_consumers()
    if unknown := [name for name in names if name not in consumers]:
        sys.exit(f"consumers: no {unknown[0]!r}; there are {', '.join(consumers)}")
    WORK.mkdir(exist_ok=True)
    make_sample()
    lines = [line for name in names or consumers for line in lines_of(name, consumers[name])]
    print(table(lines))
    if not names:
        write(table(lines))
    return int(any(line[-1] != "as expected" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
