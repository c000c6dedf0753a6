r"""Problems for RL: one row a problem, a prompt that asks for what the scorer reads, and a truth that it recognises.

The scorers here are the trainers' own where they can be installed (TRL), and our glue files as the trainer calls them.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from datasets import load_dataset
from math_verify import parse
from trl.data_utils import is_conversational
from trl.rewards import accuracy_reward

from student.configs import ExportConfig, ExportOptions
from student.errors import ConfigError, ProblemError
from student.explanations import Explanation
from student.exports.export import main
from student.exports.formats import Options
from student.exports.ground_truths import NO_ANSWER, UNPARSED
from student.exports.names import FormatName
from student.exports.prompts import SAID, VerlRl
from student.exports.registry import FORMATS
from student.tags import RLT
from tests.student.exports.lessons import explained

FORMS: list[FormatName] = ["verl-rl", "trl-grpo", "openrlhf-rl", "nemo-rl-grpo", "verifiers"]
SYSTEM = f"{RLT.student_system} State the final answer in \\boxed{{}}."
ANSWERS = ["72", r"\frac{1}{2}", "-3.5", "2:30", r"\{1, 2\}", "x^2 + 1", "(1, 2]", "10\\%", "1,234"]


def problems(answers: list[str]) -> list[Explanation]:
    """Two explanations of each problem whose answer this is."""
    return [
        explained(answer, sample, reward=float(sample)).model_copy(update={"problem_id": f"p{number}"})
        for number, answer in enumerate(answers)
        for sample in (0, 1)
    ]


def export(rows: list[Explanation], form: FormatName, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The rows of an export as `datasets` reads them; the files lie in `folder`/out."""
    source = folder / "rows.jsonl"
    source.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    kind = FORMATS[form].file_types[0]
    values = {"rows": str(source), "format": form, "out": str(folder / "out"), "file_type": kind, **settings}
    main(ExportConfig.model_validate(values))
    reader = {"parquet": "parquet", "jsonl": "json"}[kind]
    data = load_dataset(reader, data_files=str(folder / "out" / f"data.{kind}"), cache_dir=str(folder / "cache"))
    return list(data["train"])


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A glue file as its trainer loads it: by path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_format_of_problems_is_tested() -> None:
    assert {name for name in get_args(FormatName) if not FORMATS[name].answered} == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_a_problem_is_one_row_however_many_explanations_it_has(form: FormatName, tmp_path: Path) -> None:
    rows = export(problems(["72", "8"]), form, tmp_path)
    assert [row["rlt_problem_id"] for row in rows] == ["p0", "p1"]
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (report["read"], report["written"], report["refused"]) == (4, 2, {SAID: 2})


def test_gc_15_to_17_a_verl_row_is_this(tmp_path: Path) -> None:
    row, other = export(problems(["72", "8"]), "verl-rl", tmp_path)
    assert row == {
        "data_source": "rlt",
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is 72?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {
            "split": "train", "index": row["extra_info"]["index"], "answer": "It is \\boxed{72}.",
            "question": "What is 72?", "problem_id": "p0",
        },
        "rlt_problem_id": "p0",
    }  # fmt: skip
    assert 0 <= row["extra_info"]["index"] < 2**53
    assert row["extra_info"]["index"] != other["extra_info"]["index"]
    assert "custom_reward_function.path=compute_score.py" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("source", VerlRl.known)
def test_gc_16_verls_own_scorer_gets_the_mark_it_looks_for(source: str, tmp_path: Path) -> None:
    mark = VerlRl.marks.get(source, "\\boxed{}")
    (row,) = export(problems(["72"]), "verl-rl", tmp_path, data_source=source, answer_prompt=f"Answer with {mark}.")
    assert mark in row["prompt"][0]["content"]
    assert "custom_reward_function.path=" not in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ConfigError, match="--answer-prompt does not ask for it"):
        FORMATS["verl-rl"].check(Options(ExportOptions(data_source=source, answer_prompt="Say it.")))


def test_gc_18_openrlhf_reads_the_source_in_one_word(tmp_path: Path) -> None:
    (row,) = export(problems(["72"]), "openrlhf-rl", tmp_path, data_source="toy")
    assert (row["datasource"], row["label"]) == ("toy", "72")
    assert "data_source" not in row
    assert row["input"][0]["content"] == SYSTEM


def test_gc_9_and_19_trls_own_reward_reads_every_truth(tmp_path: Path) -> None:
    rows = export(problems(ANSWERS), "trl-grpo", tmp_path)
    assert len(rows) == len(ANSWERS)
    assert all(is_conversational(row) for row in rows)
    right = [[{"role": "assistant", "content": f"So it is $\\boxed{{{answer}}}$."}] for answer in ANSWERS]
    wrong = [[{"role": "assistant", "content": "So it is $\\boxed{71}$."}] for _ in ANSWERS]
    truths = [row["solution"] for row in rows]
    assert accuracy_reward(right, truths) == [1.0] * len(ANSWERS)
    assert accuracy_reward(wrong, truths) == [0.0] * len(ANSWERS)
    assert all(parse(truth, extraction_mode="first_match") for truth in truths)  # as open-r1 parses them


def test_open_r1_reads_the_problem_and_is_told_the_system_message(tmp_path: Path) -> None:
    (row,) = export(problems(["72"]), "trl-grpo", tmp_path)
    assert row["problem"] == "What is 72?"
    assert "messages" not in row
    assert f"system_prompt: '{SYSTEM}'" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_a_problem_without_a_truth_is_left_out_and_counted(form: FormatName, tmp_path: Path) -> None:
    rows = problems(["72", "8", "9"])
    bare = rows[2].model_copy(update={"answer": None, "solution": "Eight."})
    torn = rows[4].model_copy(update={"answer": "}{"})
    hashed = rows[4].model_copy(update={"problem_id": "p3", "answer": None, "solution": "So 9.\n#### 9"})
    (first, second) = export([rows[0], bare, torn, hashed], form, tmp_path)
    assert (first["rlt_problem_id"], second["rlt_problem_id"]) == ("p0", "p3")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["refused"] == {NO_ANSWER: 1, UNPARSED: 1}


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_reward_that_verl_is_given_tells_right_from_wrong(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = export(problems([answer]), "verl-rl", tmp_path)
    score = loaded(tmp_path / "out" / "compute_score.py", monkeypatch).compute_score
    truth, source, extra = row["reward_model"]["ground_truth"], row["data_source"], row["extra_info"]
    thought = "<|begin_of_thought|>\n\nIs it \\boxed{71}?"
    closed = f"{thought}<|end_of_thought|>\n\n<|begin_of_solution|>\n\n"
    assert score(source, f"{closed}It is \\boxed{{{answer}}}.\n\n<|end_of_solution|>", truth, extra) == 1.0
    assert score(source, f"{closed}It is \\boxed{{71}}.", truth, extra) == 0.0
    assert score(source, f"{thought} It is \\boxed{{{answer}}}.", truth, extra) == 0.0  # its thought never closes
    assert score(source, f"{closed}It is {answer}.", truth, extra) == 0.0  # not stated as it was asked for


def test_a_tower_of_powers_costs_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(problems(["72"]), "verl-rl", tmp_path)
    score = loaded(tmp_path / "out" / "compute_score.py", monkeypatch).compute_score
    assert score("rlt", "\\boxed{9^{9^{9^9}}}", "72") == 0.0
    assert score("rlt", "\\boxed{99999999!}", "72") == 0.0


def test_openrlhf_gets_a_reward_a_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = export(problems(["72"]), "openrlhf-rl", tmp_path)
    reward = loaded(tmp_path / "out" / "reward_func.py", monkeypatch).reward_func
    asked = "<|im_start|>user\nin \\boxed{72}?<|im_end|>\n"
    found = reward([f"{asked}\\boxed{{72}}<|im_end|>", f"{asked}\\boxed{{7}}"], [asked] * 2, [row["label"]] * 2)
    assert found["rewards"].tolist() == [1.0, 0.0]


def test_a_reader_of_json_alone_gets_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes jsonl only; say --file-type jsonl"):
        export(problems(["72"]), "nemo-rl-grpo", tmp_path, file_type="parquet")


def test_where_no_problem_has_a_truth_it_is_said(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"answer": None, "solution": "So."}) for row in problems(["1"])]
    with pytest.raises(ProblemError, match="1 no answer"):
        export(rows, "verl-rl", tmp_path)
