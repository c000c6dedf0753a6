"""The student's own template: what it cuts, drops and adds is told by row, and what it takes as it is is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from student.configs import ExportConfig
from student.distill import token_row
from student.explanations import Explanation, from_trace
from student.exports.export import main
from student.exports.registry import FORMATS
from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT, STYLES, TagStyle
from tests.student.exports.lessons import write_parquet

# The heads of published templates, cut down to what they do to an answer.
DEEPSEEK = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}<|endoftext|>"
    "{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<A><think>\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<A>{% if '</think>' in m.content %}{{ m.content }}"
    "{% else %}<think>\n\n</think>\n\n{{ m.content }}{% endif %}<|endoftext|>"
    "{% else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<A>{% endif %}"
)
TRIMMED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content | trim | replace('+', 'plus') }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)


def with_template(folder: Path, template: str | None, into: Path) -> str:
    """The tiny student's tokenizer, with another template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(into)
    (into / "config.json").write_text((folder / "config.json").read_text())
    return str(into)


def check(rows: list[Explanation], tried: str, folder: Path, **settings: Any) -> tuple[dict[str, Any], list[Any]]:
    """What export.json says of the check, and the faults by row."""
    source, out = write_parquet(rows, folder / "rows.parquet"), folder / "out"
    asked = {"rows": str(source), "format": "trl-prompt-completion", "check_student": tried, **settings}
    main(ExportConfig.model_validate({**asked, "out": str(out)}))
    faults = [json.loads(line) for line in (out / "student_check.jsonl").read_text().splitlines()]
    return json.loads((out / "export.json").read_text())["student_check"], faults


def named(faults: list[Any]) -> list[tuple[str, str]]:
    return [(fault["id"], fault["fault"]) for fault in faults]


@pytest.mark.parametrize("style", STYLES)
def test_a_template_that_keeps_the_answer_has_no_fault_and_the_tokens_that_distillation_trains(
    style: TagStyle, tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    lessons = [from_trace(problem) for problem in tiny_problems[:5]]
    report, faults = check(lessons, str(tiny_model_folder), tmp_path, tags=style)
    assert faults == []
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    ours = [token_row(lesson, StudentFormat(tokenizer, STYLES[style]), "explanation") for lesson in lessons]
    lengths = [len(row.prompt_ids) + len(row.completion_ids) + 1 for row in ours]  # the line end of the turn
    trained = sum(len(row.completion_ids) + 1 for row in ours)
    assert report == {
        "student": str(tiny_model_folder), "max_tokens": 1024, "rows": 5, "tokens": sum(lengths),
        "trained_tokens": trained, "longest": max(lengths), "faults": {},
    }  # fmt: skip


def test_a_row_that_is_longer_than_the_student_reads_is_named(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons = [from_trace(problem) for problem in tiny_problems[:2]]
    lessons[1] = lessons[1].model_copy(update={"explanation": "So it goes. " * 200})
    report, faults = check(lessons, str(tiny_model_folder), tmp_path, check_tokens=600)
    assert named(faults) == [(lessons[1].id, "over-long")]
    assert faults[0]["detail"] == f"{report['longest']} tokens, and the student reads at most 600"
    assert f"1 rows: over-long (the first: {lessons[1].id}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "style", "faults"),
    [
        (DEEPSEEK, "think", ["prefix mismatch", "dropped thought"]),
        (DEEPSEEK, "rlt", ["prefix mismatch"]),
        (QWEN3, "rlt", ["added thought"]),
        (QWEN3, "think", []),
        (TRIMMED, "rlt", ["changed text"]),
        (NO_SYSTEM, "rlt", ["refused by the template"]),
    ],
)
def test_what_a_template_does_to_an_answer_is_told(
    template: str, style: TagStyle, faults: list[str], tiny_model_folder: Path, tmp_path: Path
) -> None:
    row = Explanation(
        problem_id="p", sample=0, question="1?", solution="1 + 0", explanation="Easy.", closed=True, finished=True
    )
    student = with_template(tiny_model_folder, template, tmp_path / "student")
    _, found = check([row], student, tmp_path, tags=style)
    assert named(found) == [("p-0", fault) for fault in faults]


def test_a_control_token_in_a_text_is_named(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    lesson = from_trace(tiny_problems[0]).model_copy(update={"explanation": "So.<|im_end|>"})
    assert "<|im_end|>" in AutoTokenizer.from_pretrained(tiny_model_folder).all_special_tokens
    _, faults = check([lesson], str(tiny_model_folder), tmp_path)
    assert named(faults) == [(lesson.id, "control token")]


def test_pairs_are_looked_at_by_the_rows_that_they_are_made_of(
    tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    score = {"reward": 1.0, "rss": 1.0, "ss_mean": 1.0, "ss_min": 1.0}
    lesson = from_trace(tiny_problems[0])
    rows = [
        Explanation.model_validate({**lesson.model_dump(), "sample": sample, "score": {**score, "reward": sample}})
        for sample in range(3)
    ]
    report, _ = check(rows, str(tiny_model_folder), tmp_path, format="trl-preference")
    assert report["rows"] == 2  # the third is in no pair


@pytest.mark.parametrize("form", ["trl-prompt-completion-text", "axolotl-input-output"])
def test_a_template_that_is_written_out_is_the_prompt_of_the_student(
    form: str, tiny_model_folder: Path, tiny_problems: list[Problem], tmp_path: Path
) -> None:
    lessons = [from_trace(problem) for problem in tiny_problems[:3]]
    report, faults = check(lessons, str(tiny_model_folder), tmp_path, format=form, student=str(tiny_model_folder))
    assert faults == []
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    ours = [token_row(lesson, StudentFormat(tokenizer, RLT), "explanation") for lesson in lessons]
    ends = 0 if form == "axolotl-input-output" else len(ours)  # TRL adds the end token
    assert report["trained_tokens"] == sum(len(row.completion_ids) for row in ours) - ends
    assert report["tokens"] == report["trained_tokens"] + sum(len(row.prompt_ids) for row in ours)


@pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if not form.answered])
def test_a_prompt_for_rl_is_counted_with_the_sentence_that_asks_for_the_answer(
    form: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    row = Explanation(
        problem_id="p",
        sample=0,
        question="1 + 0?",
        solution="\\boxed{1}",
        explanation="So.",
        closed=True,
        finished=True,
    )
    kind = FORMATS[form].file_types[0]
    report, _ = check([row], str(tiny_model_folder), tmp_path, format=form, file_type=kind, answer_prompt="In a box.")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    system = {"role": "system", "content": f"{RLT.student_system} In a box."}
    asked = [system, {"role": "user", "content": "1 + 0?"}]
    rendered = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert report["tokens"] == len(tokenizer(rendered)["input_ids"])
