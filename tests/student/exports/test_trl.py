"""TRL reads the prompt-completion export as it stands, and trains the tokens that `rlt distill` trains.

With one more: the line end with which the template closes a turn belongs to the completion there.
"""

from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from student.configs import ExportConfig
from student.distill import token_row
from student.explanations import from_trace
from student.exports.export import main
from student.problems import Problem
from student.reading import StudentFormat
from student.sft import IGNORED
from student.tags import RLT


def test_trl_trains_the_tokens_that_distillation_trains(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    lessons = [from_trace(problem) for problem in tiny_problems[:5]]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(lesson.model_dump_json() + "\n" for lesson in lessons))
    main(ExportConfig(rows=str(rows), format="trl-prompt-completion", out=str(tmp_path / "out")))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), report_to="none", use_cpu=True, max_length=None),
        train_dataset=load_dataset(
            "parquet", data_files=str(tmp_path / "out" / "data.parquet"), split="train", cache_dir=str(tmp_path)
        ),
        processing_class=tokenizer,
    )
    student_format = StudentFormat(tokenizer, RLT)
    for lesson, read in zip(lessons, trainer.train_dataset, strict=True):
        ours = token_row(lesson, student_format, "explanation")
        trained = [label for label in read["labels"] if label != IGNORED]
        assert read["input_ids"][: len(ours.prompt_ids)] == ours.prompt_ids
        assert trained == [*ours.completion_ids, *tokenizer.encode("\n")]  # the template's own end of a turn
