"""`rlt export`: what is written is what the student is trained on, and nothing is left out silently."""

import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoTokenizer

from student.configs import ExportConfig
from student.distill import token_row
from student.errors import OutputError, ProblemError
from student.explanations import SCHEMA, Explanation, Score, from_trace
from student.exports.export import main
from student.exports.names import FormatName
from student.exports.registry import FORMATS
from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT, STYLES, TagStyle

ROW = Explanation(
    problem_id="p", sample=2, question="1 + 1?", solution="\\boxed{2} ü", explanation="One\nand one.", closed=True,
    finished=True, token_ids=(5, 6), score=Score(reward=0.5, rss=0.5, ss_mean=0.5, ss_min=0.5),
)  # fmt: skip
WRITTEN = (
    "<|begin_of_thought|>\n\nOne\nand one.<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\n\\boxed{2} ü\n\n<|end_of_solution|>"
)
OTHERS = [
    ROW.model_copy(update={"sample": 3, "closed": False}),
    ROW.model_copy(update={"sample": 4, "error": "too long", "explanation": ""}),
    ROW.model_copy(update={"sample": 5, "dropped": "at_least.reward"}),
]


def write_rows(path: Path, rows: list[Explanation]) -> Path:
    values = [row.model_dump() for row in rows]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(values, SCHEMA), path)
    else:
        path.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    return path


def export(rows: Path, form: str, out: Path, **settings: Any) -> list[dict[str, Any]]:
    main(ExportConfig.model_validate({"rows": str(rows), "format": form, "out": str(out), **settings}))
    return read(out)


def read(out: Path) -> list[dict[str, Any]]:
    if (out / "data.parquet").exists():
        return pq.read_table(out / "data.parquet").to_pylist()
    return [json.loads(line) for line in (out / "data.jsonl").read_text(encoding="utf-8").splitlines()]


SYSTEM, USER = {"role": "system", "content": RLT.student_system}, {"role": "user", "content": "1 + 1?"}
ASSISTANT = {"role": "assistant", "content": WRITTEN}
GOLDEN: dict[str, dict[str, Any]] = {
    "trl-prompt-completion": {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]},
    "trl-messages": {"messages": [SYSTEM, USER, ASSISTANT]},
    "bespoke-stratos": {
        "system": RLT.student_system,
        "conversations": [{"from": "user", "value": "1 + 1?"}, {"from": "assistant", "value": WRITTEN}],
    },
    "llamafactory-sharegpt": {
        "system": RLT.student_system,
        "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": WRITTEN}],
    },
    "llamafactory-alpaca": {"instruction": "1 + 1?", "output": WRITTEN, "system": RLT.student_system},
    "axolotl-chat": {"messages": [SYSTEM, USER, ASSISTANT]},
    "openrlhf": {"input": [SYSTEM, USER], "output": [ASSISTANT]},
}


@pytest.mark.parametrize("source", ["rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("file", ["parquet", "jsonl"])
@pytest.mark.parametrize("form", GOLDEN)
def test_a_row_in_each_format_is_this(form: str, file: str, source: str, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / source, [ROW, *OTHERS])
    assert export(rows, form, tmp_path / "out", file_type=file) == [
        {**GOLDEN[form], "rlt_id": "p-2", "rlt_problem_id": "p", "rlt_reward": 0.5}
    ]


def test_the_settings_name_every_format_and_no_other() -> None:
    assert list(FORMATS) == list(get_args(FormatName)) == [form.name for form in FORMATS.values()]
    assert GOLDEN.keys() <= FORMATS.keys()


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [ROW, *OTHERS])
    export(rows, "trl-messages", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert {name: report[name] for name in ("read", "written", "failed", "dropped", "unclosed")} == {
        "read": 4, "written": 1, "failed": 1, "dropped": 1, "unclosed": 1,
    }  # fmt: skip
    assert report["columns"] == ["messages", "rlt_id", "rlt_problem_id", "rlt_reward"]
    kept = export(rows, "trl-messages", tmp_path / "all", keep_unclosed=True)
    assert [row["rlt_id"] for row in kept] == ["p-2", "p-3"]


@pytest.mark.parametrize("style", STYLES)
def test_the_text_is_what_the_student_is_trained_on(
    style: TagStyle, tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    student_format = StudentFormat(tokenizer, STYLES[style])
    lessons = [from_trace(problem) for problem in tiny_problems]
    exported = export(
        write_rows(tmp_path / "rows.parquet", lessons), "trl-prompt-completion", tmp_path / "out", tags=style
    )
    assert len(exported) == 40
    for lesson, row in zip(lessons, exported, strict=True):
        trained = token_row(lesson, student_format, "explanation")
        assert tokenizer.decode(trained.completion_ids[:-1]) == row["completion"][0]["content"]
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        assert tokenizer.decode(trained.prompt_ids) == prompt


def test_problems_with_a_trace_are_exported_as_distilled(tmp_path: Path) -> None:
    rows = tmp_path / "traces.jsonl"
    rows.write_text('{"question": "2?", "reasoning_trace": "so", "solution": "2"}\n')
    (row,) = export(rows, "trl-messages", tmp_path / "out")
    assert row["messages"][2]["content"].startswith("<|begin_of_thought|>\n\nso<|end_of_thought|>")


def test_axolotl_is_told_how_to_read_the_data(tmp_path: Path) -> None:
    export(write_rows(tmp_path / "rows.jsonl", [ROW]), "axolotl-chat", tmp_path / "out", file_type="jsonl")
    (declared,) = yaml.safe_load((tmp_path / "out" / "axolotl.yaml").read_text())["datasets"]
    assert (tmp_path / "out" / declared["path"]).is_file()
    assert (declared["ds_type"], declared["type"], declared["field_messages"]) == ("json", "chat_template", "messages")


def test_more_rows_than_a_batch_keep_their_order(tmp_path: Path) -> None:
    rows = [ROW.model_copy(update={"sample": number}) for number in range(2500)]
    found = export(write_rows(tmp_path / "rows.parquet", rows), "trl-messages", tmp_path / "out")
    assert [row["rlt_id"] for row in found] == [f"p-{number}" for number in range(2500)]


def test_where_no_row_is_left_nothing_is_written(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", OTHERS)
    with pytest.raises(ProblemError, match=r"none of 3 rows is one to train on \(1 unclosed, 1 failed, 1 dropped"):
        export(rows, "trl-messages", tmp_path / "out")
    assert not list((tmp_path / "out").glob("data*"))
    assert export(rows, "trl-messages", tmp_path / "out", keep_unclosed=True)  # a failed export binds nobody


def test_a_row_without_a_solution_is_named(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [ROW, ROW.model_copy(update={"solution": ""})])
    with pytest.raises(ProblemError, match=r"rows\.jsonl: row 2 has no solution"):
        export(rows, "trl-messages", tmp_path / "out")


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROW.model_dump_json() + "\n" + ROW.model_dump_json()[:50] + "\n")
    with pytest.raises(ProblemError, match=r"rows\.jsonl: not readable as explanations"):
        export(rows, "trl-messages", tmp_path / "out")


def test_a_finished_export_is_kept_and_another_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [ROW])
    export(rows, "trl-messages", tmp_path / "out")
    export(rows, "trl-messages", tmp_path / "out")
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(OutputError, match="format was 'trl-messages', now 'bespoke-stratos'"):
        export(rows, "bespoke-stratos", tmp_path / "out")


def test_data_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_text("mine")
    with pytest.raises(OutputError, match="nothing says how it was made"):
        export(write_rows(tmp_path / "rows.jsonl", [ROW]), "trl-messages", tmp_path)
    assert (tmp_path / "data.parquet").read_text() == "mine"
