"""`rlt replay` on a tiny model: rows come out the same alone, and what no longer fits is told with its cause."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from student.cli import main as rlt
from student.explanations import Explanation, read_explanations
from student.models import save_pair
from student.problem_files import write_problems
from student.problems import Problem
from student.scratch import make_scratch
from student.tags import RLT
from tests.scratch_models import small_model


def lively(folder: Path, problems: list[Problem], scale: float) -> Path:
    """A random model whose weights are scaled so that prompt and weights matter more than the noise of sampling."""
    model, tokenizer = make_scratch(small_model(folder, hidden_size=64, heads=2), problems)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:
                weights.mul_(scale)
    save_pair(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def lively_folder(tmp_path_factory: pytest.TempPathFactory, tiny_problems: list[Problem]) -> Path:
    return lively(tmp_path_factory.mktemp("lively"), tiny_problems, 10)


@pytest.fixture(scope="module")
def retrained_folder(tmp_path_factory: pytest.TempPathFactory, tiny_problems: list[Problem]) -> Path:
    return lively(tmp_path_factory.mktemp("retrained"), tiny_problems, 8)


def explained(folder: Path, teacher: Path, problems: list[Problem], name: str = "rows.jsonl", *more: str) -> Path:
    """Rows of two samples a problem, made in batches of four."""
    write_problems(problems, folder / "problems.jsonl")
    arguments = ["explain", "--teacher", str(teacher), "--problems", str(folder / "problems.jsonl"), "--samples", "2"]
    arguments += [
        "--sampling.max-tokens",
        "12",
        "--sampling.temperature",
        "1",
        "--sampling.batch-size",
        "4",
    ]
    out = folder / name
    assert rlt([*arguments, "--threads", "1", "--device", "cpu", "--out", str(out), *more]) == 0
    return out


def replayed(rows: Path, row: str, teacher: Path, *more: str) -> int:
    return rlt(["replay", str(rows), "--row", row, "--teacher", str(teacher), "--device", "cpu", *more])


def rewritten(rows: Path, **changes: Any) -> Explanation:
    """The first row, with these changes, alone in its file."""
    row = {**json.loads(rows.read_text(encoding="utf-8").splitlines()[0]), **changes}
    rows.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return Explanation.model_validate(row)


def test_a_row_made_among_others_comes_out_the_same_alone(
    tmp_path: Path, lively_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rows.jsonl", "rows.parquet"):
        rows = explained(tmp_path, lively_folder, tiny_problems[:3], name)
        last = read_explanations(str(rows), RLT)[-1]
        capsys.readouterr()
        assert replayed(rows, last.id, lively_folder) == 0
        assert capsys.readouterr().out == f"{last.id}: the same, 12 tokens\n"


def test_other_weights_and_versions_are_told_as_causes_and_the_exit_status_is_1(
    tmp_path: Path,
    lively_folder: Path,
    retrained_folder: Path,
    tiny_problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = explained(tmp_path, lively_folder, tiny_problems[:1])
    made = read_explanations(str(rows), RLT)[0].provenance
    assert made is not None
    row = rewritten(rows, provenance=made.model_copy(update={"software": "torch 1.0, flash 2"}).model_dump())
    capsys.readouterr()
    assert replayed(rows, row.id, retrained_folder) == 1
    printed = capsys.readouterr()
    first, place, then, now, causes, weights, torch = printed.out.splitlines()
    assert first == f"{row.id}: NOT the same, 12 tokens, not closed, then and 12 tokens, not closed, now"
    assert place.startswith("  first difference at token ")
    assert then.removeprefix("  then: ") != now.removeprefix("  now:  ")
    assert causes == "  likely causes:"
    assert weights.startswith(f"    weights: {row.teacher_digest} then, ")
    assert torch.startswith("    torch: 1.0 then, ")
    assert printed.err.startswith(f"rlt replay: row '{row.id}' does not come out the same")


def test_a_row_that_somebody_edited_is_found_out_at_the_very_token(
    tmp_path: Path, lively_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = explained(tmp_path, lively_folder, tiny_problems[:1])
    ids = list(read_explanations(str(rows), RLT)[0].token_ids or ())
    row = rewritten(rows, token_ids=[*ids[:5], ids[5] + 1, *ids[6:]])
    assert replayed(rows, row.id, lively_folder) == 1
    assert "first difference at token 5, character" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "row", "told"),
    [
        ({}, "nobody-0", "no row has the id 'nobody-0'"),
        ({"provenance": None}, None, "does not say how it was sampled (no engine, top_p, max_tokens)"),
        ({"error": "too long"}, None, "holds no explanation"),
        ({"question": "word " * 2000}, None, "the model's context holds"),
    ],
)
def test_what_cannot_be_made_again_is_one_line(
    changes: dict[str, Any],
    row: str | None,
    told: str,
    tmp_path: Path,
    lively_folder: Path,
    tiny_problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = explained(tmp_path, lively_folder, tiny_problems[:1])
    changed = rewritten(rows, **changes)
    capsys.readouterr()
    assert replayed(rows, row or changed.id, lively_folder) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert told in line


def test_a_teacher_that_is_not_there_is_one_line(
    tmp_path: Path, lively_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = explained(tmp_path, lively_folder, tiny_problems[:1])
    row = read_explanations(str(rows), RLT)[0].id
    capsys.readouterr()
    assert replayed(rows, row, tmp_path / "gone") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "gone': no such folder" in line


def test_another_engine_than_the_rows_is_told_where_it_matters(
    tmp_path: Path, lively_folder: Path, tiny_problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = explained(tmp_path, lively_folder, tiny_problems[:1])
    made = read_explanations(str(rows), RLT)[0].provenance
    assert made is not None
    row = rewritten(rows, provenance=made.model_copy(update={"engine": "scripted"}).model_dump())
    capsys.readouterr()
    assert replayed(rows, row.id, lively_folder) == 1
    assert "'scripted', which is not known here; give --engine" in capsys.readouterr().err
    assert replayed(rows, row.id, lively_folder, "--engine", "transformers") == 0
    assert "    engine: scripted then, transformers now" in capsys.readouterr().out
