"""Reading and writing explanations."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from student.errors import ProblemError
from student.evaluate import Generation
from student.explanations import SCHEMA, Explanation, Score, from_trace, read_explanations
from student.problems import Problem
from student.row_file import RowFile
from student.tags import RLT, THINK

FULL = Explanation(
    problem_id="0123456789abcdef",
    sample=1,
    question="1 + 1?",
    solution="2",
    answer="2",
    explanation="Überlege:\n one and one\u2028 make two. ",
    token_ids=(3, 1, 4),
    closed=True,
    finished=True,
    teacher="teachers/first",
    teacher_digest="00ff",
    seed=2**63 - 1,
    temperature=0.7,
    tags="rlt",
    score=Score(reward=-0.5, rss=-0.25, ss_mean=-0.2, ss_min=-5.0, unclosed_penalty=0.0, notes=("cut to 90 tokens",)),
)
FAILED = Explanation(
    problem_id="fedcba9876543210",
    sample=0,
    question="Why?",
    solution="Because.",
    explanation="",
    token_ids=(),
    closed=False,
    finished=False,
    error="the prompt takes 90 tokens and the model's context holds 64",
)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    file = RowFile(tmp_path / name, SCHEMA)
    file.append([FULL, FAILED])
    file.finish()
    assert read_explanations(str(file.out), RLT) == [FULL, FAILED]


def test_the_parquet_columns_are_the_fields(tmp_path: Path) -> None:
    assert SCHEMA.names == list(Explanation.model_fields)
    assert [field.name for field in SCHEMA.field("score").type] == list(Score.model_fields)
    file = RowFile(tmp_path / "rows.parquet", SCHEMA)
    file.append([FAILED])
    file.finish()
    assert pq.read_schema(file.out).equals(SCHEMA)


def test_the_id_is_computed_whatever_a_file_says() -> None:
    assert FULL.id == "0123456789abcdef-1"
    assert Explanation.model_validate({**FULL.model_dump(), "id": "forged"}).id == FULL.id


def test_a_row_cannot_be_changed_and_takes_no_unknown_column() -> None:
    with pytest.raises(ValidationError):
        FULL.sample = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Explanation.model_validate({**FULL.model_dump(), "rating": 5})


def test_problems_with_a_trace_are_explanations(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "problems.jsonl",
        [
            {"question": "1 + 1?", "solution": "2", "reasoning_trace": "One and one."},
            {"prompt": "2 + 2?", "solution": "4", "trace": "Two and two."},
        ],
    )
    first, second = read_explanations(str(source), RLT)
    problem = Problem(question="1 + 1?", solution="2", reasoning_trace="One and one.")
    assert first == from_trace(problem)
    assert (first.problem_id, first.sample, first.id) == (problem.id, 0, f"{problem.id}-0")
    assert (first.closed, first.finished, first.token_ids, first.teacher) == (True, True, None, None)
    assert second.explanation == "Two and two."


def bad_file(folder: Path) -> Path:
    good = FULL.model_dump(mode="json")
    return write_lines(
        folder / "rows.jsonl",
        [
            good,
            {**good, "sample": -1},
            {"question": "1 + 1?", "solution": "2"},
            {name: value for name, value in good.items() if name != "closed"},
        ],
    )


def test_every_bad_row_is_named_by_file_line_and_reason(tmp_path: Path) -> None:
    source = bad_file(tmp_path)
    with pytest.raises(ProblemError) as caught:
        read_explanations(str(source), RLT)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("3 of 4 rows cannot be used")
    assert f"{source}:2: sample: Input should be greater than or equal to 0, got -1" in message
    assert f"{source}:3: neither an explanation of ours nor a problem with a reasoning_trace" in message
    assert f"{source}:4: closed: Field required" in message
    assert "--skip-invalid" in message


def test_bad_rows_are_set_aside_and_counted_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aside = tmp_path / "aside.jsonl"
    kept = read_explanations(str(bad_file(tmp_path)), RLT, skip_invalid=True, aside=aside)
    assert kept == [FULL]
    assert [json.loads(line)["line"] for line in aside.read_text().splitlines()] == [2, 3, 4]
    assert "3 of 4 rows are bad and were left out" in capsys.readouterr().err


def test_a_repeated_row_is_taken_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = FULL.model_dump(mode="json")
    assert len(read_explanations(str(write_lines(tmp_path / "rows.jsonl", [row, row])), RLT)) == 1
    assert "repeat" in capsys.readouterr().err


def test_files_without_a_usable_row_are_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(ProblemError, match="no rows in it"):
        read_explanations(str(empty), RLT)
    with pytest.raises(ProblemError, match="no such file"):
        read_explanations(str(tmp_path / "none.jsonl"), RLT)
    wrong = write_lines(tmp_path / "wrong.jsonl", [{"a": 1}])
    with pytest.raises(ProblemError, match="1 of 1 rows cannot be used"):
        read_explanations(str(wrong), THINK, skip_invalid=True)


def attempt(number: int, **changes: Any) -> dict[str, Any]:
    """A row of generations.jsonl."""
    thought = "<|begin_of_thought|>\n\n2 and 2\nare 4 <|end_of_thought|>\n\n"
    made = Generation(
        id=f"p-{number}",
        problem_id="p",
        sample=number,
        digest="00ff",
        seed=7,
        question="2 + 2?",
        answer="\\boxed{4}",
        text=f"{thought}<|begin_of_solution|>\n\n4\n\n<|end_of_solution|>",
        solution="4",
        correct=True,
        finished=True,
        tokens=20,
    )
    return made.model_dump() | changes


def test_solutions_of_an_evaluation_are_rows_of_which_the_wrong_ones_have_failed(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "generations.jsonl",
        [
            attempt(0),
            attempt(1, text="<|begin_of_thought|> 5 <|end_of_thought|> no", solution=None, correct=False),
            attempt(2, text="", solution=None, correct=False, finished=False, error="the prompt is too long"),
        ],
    )
    right, wrong, failed = read_explanations(str(path), RLT)
    assert (right.id, right.explanation, right.solution, right.answer) == ("p-0", "2 and 2\nare 4 ", "4", "\\boxed{4}")
    assert (right.closed, right.kept, right.teacher_digest, right.seed) == (True, True, "00ff", 7)
    assert (wrong.error, wrong.closed, wrong.explanation, wrong.kept) == ("the solution is wrong", True, "5 ", False)
    assert (failed.error, failed.closed, failed.kept) == ("the prompt is too long", False, False)


def test_with_the_other_tags_a_solution_is_cut_at_theirs(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "generations.jsonl", [attempt(0, text="<think>\n2 and 2\n</think>\n\n4")])
    [row] = read_explanations(str(path), THINK)
    assert (row.explanation, row.closed) == ("2 and 2\n", True)
