"""The checks GC-1 to GC-14 and GC-20 on what trainers do with a row, over every format that they concern.

Each is what some trainer's code does to a wrong file without a word (trl.md and the formats' own documentation).
"""

import json
import os
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, load_dataset, load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl.data_utils import is_conversational

from student.configs import ExportConfig, ProblemSource
from student.explanations import Explanation, Verdict, read_explanations
from student.exports.export import main
from student.exports.names import FormatName
from student.exports.registry import FORMATS
from student.problem_files import read_problems
from student.tags import RLT
from tests.student.exports.lessons import explained, write_parquet
from tests.student.exports.test_student_check import DEEPSEEK, check, named, with_template

STEPS = {"1 + 1 is 2.": 0.5, "So 2 + 1 is 4.\n": -0.3, " No, it is 3. ": 0.05}
ROWS = [explained(problem, sample, sample / 2, STEPS) for problem in ("3", "4") for sample in range(3)]
TRL = [name for name in FORMATS if name.startswith("trl-")]
LLAMAFACTORY = [name for name in FORMATS if name.startswith("llamafactory-")]
AXOLOTL = [name for name in FORMATS if name.startswith("axolotl-")]
FAMILY = ("prompt", "chosen", "rejected", "completion", "messages")


def folder_of(form: FormatName, folder: Path, rows: list[Explanation] = ROWS, **settings: Any) -> Path:
    """An export of the rows in a format."""
    source = write_parquet(rows, folder / "rows.parquet")
    values = {"rows": str(source), "format": form, "out": str(folder / "out"), "file_type": FORMATS[form].file_types[0]}
    main(ExportConfig.model_validate({**values, **settings}))
    return folder / "out"


def rows_of(form: FormatName, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder_of(form, folder, **settings) / "data.parquet").to_pylist()
    return found


def loaded(folder: Path) -> Dataset:
    """The folder as `load_dataset` finds its data by the README's front matter."""
    return load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))


@pytest.mark.parametrize("form", TRL)
def test_gc_1_a_row_is_texts_or_messages_and_never_both(form: FormatName, tmp_path: Path) -> None:
    for row in rows_of(form, tmp_path):
        kinds = {is_conversational({key: row[key]}) for key in FAMILY if key in row}
        assert len(kinds) == 1


@pytest.mark.parametrize("form", TRL)
def test_gc_2_a_file_to_fine_tune_on_has_no_prompt_without_a_completion(form: FormatName, tmp_path: Path) -> None:
    for row in rows_of(form, tmp_path, columns=["answer", "id"]):
        others = {"completion", "completions", "chosen", "privileged_context"}
        assert "prompt" not in row or others & row.keys() or not FORMATS[form].answered


@pytest.mark.parametrize("form", TRL)
def test_gc_3_no_column_has_a_name_that_trl_acts_on(form: FormatName, tmp_path: Path) -> None:
    names = set(rows_of(form, tmp_path, columns=["answer", "id", "gain", "license"])[0])
    assert not names & {"input_ids", "text", "conversations", "chat_template_kwargs", "tools"}
    assert "labels" not in names or form == "trl-stepwise"
    ours = {name for name in names if name.split("_")[-1] in ("answer", "id", "gain", "license")}
    assert all(name.startswith("rlt_") for name in ours)
    assert len(ours) >= (4 if FORMATS[form].answered else 2)  # a problem has no id and no gain of an explanation


@pytest.mark.parametrize(("form", "everything"), [("trl-prompt-completion", False), ("trl-messages", True)])
def test_gc_4_trl_learns_a_completion_alone_and_all_of_messages(
    form: FormatName, everything: bool, tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=loaded(folder_of(form, tmp_path)),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
    )
    batch = trainer.data_collator([trainer.train_dataset[0]])
    learned = (batch["labels"] != -100).sum().item()
    assert (learned == batch["input_ids"].numel()) is everything
    assert learned > 0


def test_gc_5_a_prompt_that_is_not_the_head_of_its_row_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    student = with_template(tiny_model_folder, DEEPSEEK, tmp_path / "student")
    _, faults = check(ROWS[:1], student, tmp_path, tags="think")
    assert ("3-0", "prefix mismatch") in named(faults)


def test_gc_6_a_thought_stands_in_the_content_as_a_think_block(tmp_path: Path) -> None:
    for row in rows_of("trl-messages", tmp_path, tags="think"):
        (answer,) = (turn for turn in row["messages"] if turn["role"] == "assistant")
        assert set(answer) == {"role", "content"}
        assert answer["content"].startswith("<think>\n1 + 1 is 2.")
        assert answer["content"].count("</think>\n\nIt is") == 1


def test_gc_7_a_plain_completion_begins_with_its_own_space_and_leaves_the_end_token_to_trl(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = folder_of("trl-prompt-completion-text", tmp_path)
    for row in loaded(folder):
        assert not row["prompt"].endswith(" ")
        assert row["completion"].startswith(" <|begin_of_thought|>")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=loaded(folder),
        processing_class=tokenizer,
    )
    ids = trainer.train_dataset[0]["input_ids"]
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("form", ["trl-stepwise", "stepwise-soft"])
def test_gc_8_there_are_as_many_labels_as_steps_and_no_step_ends_in_the_separator(
    form: FormatName, tmp_path: Path
) -> None:
    for row in rows_of(form, tmp_path):
        labels = row["labels"] if form == "trl-stepwise" else row["soft_labels"]
        assert len(row["completions"]) == len(labels) == 3
        assert all(type(label) is (bool if form == "trl-stepwise" else float) for label in labels)
        assert all(step == step.strip() for step in row["completions"])


@pytest.mark.parametrize("form", LLAMAFACTORY)
def test_gc_10_no_row_is_abnormal_to_llamafactory(form: FormatName, tmp_path: Path) -> None:
    """By the rules of its converters: human and gpt in turn, an answer last, or in objects beside the question."""
    for row in rows_of(form, tmp_path):
        if "conversations" in row:
            speakers = [turn["from"] for turn in row["conversations"]]
            assert speakers == ["human"] if "chosen" in row else speakers == ["human", "gpt"]
            assert all(turn["value"] for turn in row["conversations"])
        if "chosen" in row and "conversations" in row:
            assert row["chosen"]["from"] == row["rejected"]["from"] == "gpt"
        if "instruction" in row:
            assert all(type(row[name]) is str and row[name] for name in ("instruction", "system"))
            assert row.get("output") or (row["chosen"] and row["rejected"])


@pytest.mark.parametrize("form", LLAMAFACTORY)
def test_gc_11_and_13_the_declaration_beside_the_data_names_formatting_and_every_column(
    form: FormatName, tmp_path: Path
) -> None:
    folder = folder_of(form, tmp_path)
    declared = json.loads((folder / "dataset_info.json").read_text())["rlt"]
    assert (folder / declared["file_name"]).is_file()
    assert "format" not in declared
    assert declared.get("formatting", "alpaca") == ("sharegpt" if "sharegpt" in form else "alpaca")
    columns = pq.read_schema(folder / declared["file_name"]).names
    assert set(declared["columns"].values()) == {name for name in columns if not name.startswith("rlt_")}
    assert declared.get("ranking", False) is form.endswith("preference")


@pytest.mark.parametrize("form", LLAMAFACTORY)
def test_gc_12_all_lines_have_the_same_keys(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path, [*ROWS[:3], *(explained("5", sample, sample) for sample in range(3))],
                       file_type="jsonl", columns=["gain", "id"])  # fmt: skip
    lines = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert len({tuple(line) for line in lines}) == 1
    assert len(lines) > 1


def test_gc_14_rows_without_a_thought_are_counted(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0].model_copy(update={"sample": 3, "explanation": ""})]
    report = json.loads((folder_of("llamafactory-alpaca", tmp_path, rows) / "export.json").read_text())
    assert (report["written"], report["without_thought"]) == (7, 1)


@pytest.mark.parametrize("form", FORMATS)
def test_gc_20_no_file_has_messages_and_a_prompt(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path)
    names = json.loads((folder / "export.json").read_text())["columns"]
    assert not {"messages", "prompt"} <= set(names)


@pytest.mark.parametrize("form", [name for name in FORMATS if name.endswith("kto")])
def test_a_label_of_kto_is_a_real_boolean(form: FormatName, tmp_path: Path) -> None:
    name = "label" if form == "trl-kto" else "kto_tag"
    assert {row[name] for row in rows_of(form, tmp_path)} == {True, False}
    assert pq.read_schema(tmp_path / "out" / "data.parquet").field(name).type == "bool"


@pytest.mark.parametrize("form", [name for name in FORMATS if name not in ("hf-datasets", "rows")])
def test_datasets_finds_the_data_by_the_readme_and_reads_the_same_rows(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path)
    if "parquet" in FORMATS[form].file_types:
        rows = pq.read_table(folder / "data.parquet").to_pylist()
    else:
        rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert list(loaded(folder)) == rows


def test_a_folder_that_was_made_anew_with_other_rows_is_read_anew(tmp_path: Path) -> None:
    first = loaded(folder_of("trl-messages", tmp_path))
    shutil.rmtree(tmp_path / "out")
    second = loaded(folder_of("trl-messages", tmp_path, ROWS[::-1]))
    assert [row["rlt_id"] for row in second] == [row["rlt_id"] for row in first][::-1]


def test_a_saved_dataset_has_typed_features(tmp_path: Path) -> None:
    found = load_from_disk(str(folder_of("hf-datasets", tmp_path)))
    assert [row["messages"][2]["content"].count("1 + 1 is 2.") for row in found] == [1] * len(ROWS)
    features = found.features.to_dict()
    assert features["closed"] == {"dtype": "bool", "_type": "Value"}
    assert features["score"]["reward"] == {"dtype": "float64", "_type": "Value"}
    assert features["measures"]["steps"]["feature"]["credit"] == {"dtype": "float64", "_type": "Value"}


@pytest.mark.parametrize("form", [*AXOLOTL, "trl-stepwise"])
def test_axolotls_yaml_names_the_data_and_fields_that_are_there(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path)
    config = yaml.safe_load((folder / "axolotl.yaml").read_text())
    assert {"base_model", "learning_rate", "micro_batch_size", "gradient_accumulation_steps"} <= config.keys()
    (declared,) = config["datasets"]
    assert (folder / declared["path"]).is_file()
    columns = pq.read_schema(folder / declared["path"]).names
    assert {value for name, value in declared.items() if name.startswith("field_")} <= set(columns)


LENGTHS: list[tuple[FormatName, str, str]] = [
    ("trl-messages", "README.md", "--max_length 16384"),
    ("trl-preference", "README.md", "--max_length 16384"),
    ("trl-kto", "README.md", "--max_length 16384"),
    ("trl-grpo", "README.md", "--max_completion_length 8192"),
    *((form, "README.md", "--cutoff_len 16384") for form in LLAMAFACTORY),
    *((form, "axolotl.yaml", "sequence_len: 16384") for form in AXOLOTL),
    ("openrlhf", "README.md", "--data.max_len 16384"),
    ("openrlhf-rl", "README.md", "--data.max_len 10240"),
    ("verl-sft", "README.md", "data.max_length=16384 data.max_token_len_per_gpu=16384"),
    ("verl-rl", "README.md", "data.max_prompt_length=2048 data.max_response_length=8192"),
    ("prime-rl", "sft.toml", "seq_len = 16384"),
]


@pytest.mark.parametrize(("form", "file", "told"), LENGTHS)
def test_a_trainer_is_told_how_long_a_row_may_be_since_its_default_cuts_thoughts(
    form: FormatName, file: str, told: str, tmp_path: Path
) -> None:
    assert told in (folder_of(form, tmp_path) / file).read_text()


@pytest.mark.parametrize("form", FORMATS)
def test_no_command_names_the_folder_by_a_dot_which_datasets_cannot_load(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path)
    text = "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".toml", ".yaml"))
    assert not re.search(r'name\s*=?\s*"?\."?(\s|$)', text)


@pytest.mark.parametrize("form", ["prm800k", "trl-stepwise", "math-shepherd"])
def test_labelled_steps_that_are_exported_are_read_again_as_traces(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path, file_type="jsonl", columns=["answer"])
    problems = read_problems(ProblemSource(problems=str(folder / "data.jsonl")), RLT)
    assert [problem.question for problem in problems] == ["What is 3?", "What is 4?"]
    assert {problem.reasoning_trace for problem in problems} == {"1 + 1 is 2.\nSo 2 + 1 is 4.\nNo, it is 3."}
    assert [problem.answer for problem in problems] == ["3", "4"]


@pytest.mark.parametrize(("verb", "form"), [("sft", "trl-messages"), ("dpo", "trl-preference"), ("kto", "trl-kto")])
def test_the_command_in_the_readme_is_one_that_trl_takes_and_finds_the_data_with(
    verb: str, form: FormatName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(form, tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))
    (command,) = (line for line in (folder / "README.md").read_text().splitlines() if line.startswith("trl "))
    trl, named_verb, *flags = shlex.split(os.path.expandvars(command))
    assert (trl, named_verb) == ("trl", verb)
    parser = import_module(f"trl.scripts.{verb}").make_parser()
    script, training, *_ = parser.parse_args_and_config([*flags, "--use_cpu", "true", "--bf16", "false"])
    assert training.max_length == 16384  # 1,024 would cut most thoughts
    read = load_dataset(script.dataset_name, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(read) == pq.read_metadata(folder / "data.parquet").num_rows


@pytest.mark.parametrize("form", ["bespoke-stratos", "trl-messages", "axolotl-chat"])
def test_conversations_that_are_exported_are_read_again(form: FormatName, tmp_path: Path) -> None:
    folder = folder_of(form, tmp_path, file_type="jsonl")
    problems = read_problems(ProblemSource(problems=str(folder / "data.jsonl")), RLT)
    assert {problem.reasoning_trace for problem in problems} == {"\n".join(STEPS).strip()}
    assert [(problem.question, problem.answer) for problem in problems] == [("What is 3?", "3"), ("What is 4?", "4")]


@pytest.mark.parametrize("form", ["rows", "hf-datasets"])
def test_our_own_columns_are_read_again_as_they_were(form: FormatName, tmp_path: Path) -> None:
    told = {"token_ids": (1, 2), "verdicts": (Verdict(filter="closed", kept=True, detail=""),), "license": "mit"}
    rows = [row.model_copy(update=told) for row in ROWS]
    folder = folder_of(form, tmp_path, rows)
    if form == "rows":
        assert read_explanations(str(folder / "data.parquet"), RLT) == rows
    else:
        assert [
            Explanation.model_validate(row) for row in load_from_disk(str(folder)).remove_columns("messages")
        ] == rows
