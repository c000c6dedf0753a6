"""TRL reads its exports as they stand, and trains the tokens that `rlt distill` trains.

With one more: the line end with which the template closes a turn belongs to the completion there.
"""

from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from student.configs import ExportConfig
from student.distill import token_row
from student.explanations import Explanation, Score, from_trace
from student.exports.export import main
from student.exports.names import FormatName
from student.problems import Problem
from student.reading import StudentFormat
from student.sft import IGNORED
from student.tags import RLT


def exported(rows: list[Explanation], form: FormatName, folder: Path) -> Dataset:
    """What `datasets` makes of an export of these rows."""
    source, out = folder / "rows.jsonl", folder / "out"
    source.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    main(ExportConfig(rows=str(source), format=form, out=str(out)))
    return load_dataset("parquet", data_files=str(out / "data.parquet"), split="train", cache_dir=str(folder / "cache"))


def test_trl_trains_the_tokens_that_distillation_trains(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    lessons = [from_trace(problem) for problem in tiny_problems[:5]]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=exported(lessons, "trl-prompt-completion", tmp_path),
        processing_class=tokenizer,
    )
    student_format = StudentFormat(tokenizer, RLT)
    for lesson, read in zip(lessons, trainer.train_dataset, strict=True):
        ours = token_row(lesson, student_format, "explanation")
        trained = [label for label in read["labels"] if label != IGNORED]
        assert read["input_ids"][: len(ours.prompt_ids)] == ours.prompt_ids
        assert trained == [*ours.completion_ids, *tokenizer.encode("\n")]  # the template's own end of a turn


def preferences(problems: list[Problem]) -> list[Explanation]:
    """Two explanations a problem, the first with the higher reward."""
    scores = [Score(reward=reward, rss=reward, ss_mean=reward, ss_min=reward) for reward in (-1.0, -2.0)]
    traces = [from_trace(problem) for problem in problems]
    worse = {"sample": 1, "score": scores[1], "explanation": "It is so."}
    return [
        row
        for trace in traces
        for row in (trace.model_copy(update={"score": scores[0]}), trace.model_copy(update=worse))
    ]


def test_trl_reads_the_pairs_with_our_prompt_and_both_answers(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=exported(preferences(tiny_problems[:3]), "trl-preference", tmp_path),
        processing_class=tokenizer,
    )
    student_format = StudentFormat(tokenizer, RLT)
    for problem, read in zip(tiny_problems[:3], trainer.train_dataset, strict=True):
        better, worse = preferences([problem])
        ours = [token_row(row, student_format, "explanation") for row in (better, worse)]
        ends = tokenizer.encode("\n")
        assert read["prompt_ids"] == ours[0].prompt_ids
        assert read["chosen_ids"] == [*ours[0].completion_ids, *ends]
        assert read["rejected_ids"] == [*ours[1].completion_ids, *ends]


def test_trl_reads_the_labels(tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path) -> None:
    trainer = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=KTOConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=exported(preferences(tiny_problems[:3]), "trl-kto", tmp_path),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
    )
    assert [row["label"] for row in trainer.train_dataset] == [True, False] * 3


def test_trl_teaches_the_student_by_itself_with_the_explanation_as_its_context(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    shown: list[str] = []
    rows = exported([from_trace(problem) for problem in tiny_problems[:2]], "trl-sdft", tmp_path)
    trainer = SDFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SDFTConfig(
            output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_steps=1, max_completion_length=4,
            per_device_train_batch_size=2, num_generations=2,
            max_prompt_length=None,
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
    )  # fmt: skip
    build = trainer.teacher_context_builder.build

    def watched(prompts: list[object], contexts: list[str], *rest: object) -> object:
        shown.extend(contexts)
        return build(prompts, contexts, *rest)

    monkeypatch.setattr(trainer.teacher_context_builder, "build", watched)
    trainer.train()
    assert len(shown) == 2
    assert set(shown) <= set(rows["privileged_context"])
