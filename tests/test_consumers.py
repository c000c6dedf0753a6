"""`make consumers`: every export has a consumer, and what one saw is compared with what is expected of it.

The consumers themselves are in environments of gigabytes; here those run that .venv has.
"""

import json
import re
import sys
from pathlib import Path

import pytest

from scripts import consumer_probe, consumers
from scripts.consumers import Consumer, Seen
from student.explanations import Explanation
from student.exports.registry import FORMATS


def test_every_format_has_a_consumer_and_every_consumer_a_probe() -> None:
    known = consumers.read_consumers()
    assert {form for consumer in known.values() for form in consumer.formats} == set(FORMATS)
    assert set(known) == set(consumer_probe.CONSUMERS)


def test_packages_are_pinned() -> None:
    for consumer in consumers.read_consumers().values():
        assert consumer.package is None or re.fullmatch(r"[\w-]+==[\d.]+", consumer.package)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of consumers with the sample in it."""
    monkeypatch.setattr(consumers, "WORK", tmp_path)
    consumers.make_sample()
    return tmp_path


def test_a_consumer_is_asked_in_its_own_interpreter_and_compared_with_what_is_expected(work: Path) -> None:
    consumer = Consumer(formats=("math-shepherd", "rows"), rows_only=("math-shepherd", "rows"))
    folder = consumers.make_export("math-shepherd")
    asked = {"math-shepherd": folder, "rows": work / "nothing"}
    seen = dict(consumers.ask("datasets", Path(sys.executable), asked))
    assert (
        consumers.verdict(seen["math-shepherd"], consumers.expected("math-shepherd", folder, consumer)) == "as expected"
    )
    assert seen["math-shepherd"].rows == 60
    assert "nothing" in (seen["rows"].error or "")
    assert consumers.verdict(seen["rows"], Seen()).startswith("not loaded: ")


def written(row: Explanation) -> str:
    """What the student learns to write of a row."""
    thought = f"<|begin_of_thought|>\n\n{row.explanation}<|end_of_thought|>"
    return f"{thought}\n\n<|begin_of_solution|>\n\n{row.solution}\n\n<|end_of_solution|>"


def test_what_is_expected_is_what_the_student_check_counted_and_the_ends_that_a_trainer_has_of_its_own(
    work: Path,
) -> None:
    folder = consumers.make_export("trl-preference")
    counted = json.loads((folder / "export.json").read_text())["student_check"]
    wanted = consumers.expected("trl-preference", folder, Consumer(formats=(), ends={"trl-preference": -1}))
    assert (wanted.rows, wanted.trained) == (20, counted["trained_tokens"] - 40)  # an end an answer, two a pair
    assert sorted(wanted.texts) == sorted(written(row) for row in consumers.sample() if row.sample != 1)
    steps = consumers.make_export("trl-stepwise")
    assert consumers.expected("trl-stepwise", steps, Consumer(formats=())).trained == 60 * 4
    problems = consumers.make_export("trl-grpo")
    assert consumers.expected("trl-grpo", problems, Consumer(formats=())).rewarded == 20


def test_a_difference_names_what_was_expected() -> None:
    wanted = Seen(rows=60, tokens=900, trained=500)
    assert consumers.verdict(Seen(rows=60, tokens=800, trained=499), wanted) == "500 trained expected"
    said = Seen(rows=2, trained=9, texts=("a", "b"))
    assert consumers.verdict(Seen(rows=2, trained=9, texts=("b", "b")), said) == (
        "1 answers are not learned as they stand"
    )
    problems = Seen(rows=20, tokens=900, rewarded=20)
    assert (
        consumers.verdict(Seen(rows=20, tokens=899, rewarded=0), problems)
        == "900 tokens expected, 20 rewarded expected"
    )


def test_the_table_goes_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "consumers.md"
    page.write_text(f"before {consumers.START} old {consumers.STOP} after")
    monkeypatch.setattr(consumers, "PAGE", page)
    consumers.write("| new |\n")
    text = page.read_text()
    assert text.startswith(f"before {consumers.START}\n\nMade on ")
    assert text.endswith(f"| new |\n\n{consumers.STOP} after")


def test_a_consumer_that_cannot_be_installed_is_told_in_its_lines(work: Path) -> None:
    consumer = Consumer(formats=("trl-messages",), package="rlt-no-such-package==1.0", beside=("--no-index", "nothing"))
    (line,) = consumers.lines_of("trl", consumer)
    assert line[:3] == ["trl", "1.0", "`trl-messages`"]
    assert line[-1].startswith("not loaded: its environment was not made")


def test_an_unknown_consumer_is_refused_by_name() -> None:
    with pytest.raises(SystemExit, match="no 'deepspeed'; there are trl, datasets"):
        consumers.main(["deepspeed"])


def test_the_flags_of_a_command_are_read_as_they_stand() -> None:
    words = ["--data.dataset", "data.parquet", "--data.apply_chat_template", "--data.max_len", "16384"]
    assert consumer_probe.flags_of(words) == {
        "data.dataset": "data.parquet", "data.apply_chat_template": "true", "data.max_len": "16384",
    }  # fmt: skip
