"""Spans are known by construction, whatever the texts hold."""

from pathlib import Path

import pytest

from student.errors import ScoringError
from student.models import load_tokenizer
from student.reading import StudentFormat
from student.tags import STYLES, TagStyle


@pytest.fixture(params=["rlt", "think"])
def student_format(request: pytest.FixtureRequest, tiny_model_folder: Path) -> StudentFormat:
    style: TagStyle = request.param
    return StudentFormat(load_tokenizer(str(tiny_model_folder)), STYLES[style])


def spans(student_format: StudentFormat, question: str, thought: str, solution: str) -> tuple[str, str]:
    passage = student_format.read(question, student_format.encode(thought), solution)
    ids, decode = passage.input_ids, student_format.tokenizer.decode
    return (
        str(decode(ids[passage.explanation.start : passage.explanation.stop])),
        str(decode(ids[passage.solution.start : passage.solution.stop])),
    )


def test_the_spans_hold_exactly_explanation_and_solution(student_format: StudentFormat) -> None:
    assert spans(student_format, "1 + 1?", "One and one.", "2") == ("One and one.", "2")


def test_tags_inside_question_thought_or_solution_do_not_move_a_span(student_format: StudentFormat) -> None:
    tags = student_format.tags
    hostile = f"a {tags.thought_close} b {tags.answer_open} c {tags.explanation_close}"
    assert spans(student_format, hostile, hostile, hostile) == (hostile, hostile)


def test_a_control_token_in_a_text_is_refused_by_name(student_format: StudentFormat) -> None:
    control = student_format.tokenizer.eos_token
    with pytest.raises(ScoringError, match="control token"):
        student_format.read(f"1 {control} 1?", [], "2")
    with pytest.raises(ScoringError, match="control token"):
        student_format.read("1?", [], f"2 {control}")


def test_an_explanation_that_does_not_fit_loses_its_end(student_format: StudentFormat) -> None:
    thought = student_format.encode("one two three four five six")
    whole = student_format.read("1 + 1?", thought, "2")
    cut = student_format.read("1 + 1?", thought, "2", max_tokens=len(whole.input_ids) - 3)
    assert cut.cut_tokens == 3
    assert len(cut.input_ids) == len(whole.input_ids) - 3
    assert cut.input_ids[cut.explanation.start : cut.explanation.stop] == thought[:-3]
    assert cut.input_ids[cut.solution.start :] == whole.input_ids[whole.solution.start :]


def test_question_and_solution_that_do_not_fit_alone_are_refused(student_format: StudentFormat) -> None:
    with pytest.raises(ScoringError, match="at most 5"):
        student_format.read("1 + 1?", [], "2", max_tokens=5)


def test_distillation_rows_are_what_the_reward_reads(student_format: StudentFormat) -> None:
    thought = student_format.encode("One and one.")
    passage = student_format.read("1 + 1?", thought, "2")
    trained = student_format.prompt_ids("1 + 1?") + student_format.completion_ids(thought, "2")
    assert trained[: len(passage.input_ids)] == passage.input_ids
    assert trained[-1] == student_format.tokenizer.eos_token_id


def test_the_rlt_layout_is_the_paper_s(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    layout = StudentFormat(tokenizer, STYLES["rlt"])
    text = str(tokenizer.decode(layout.completion_ids(layout.encode("because"), "2")))
    assert text.removesuffix(str(tokenizer.eos_token)) == (
        "<|begin_of_thought|>\n\nbecause<|end_of_thought|>\n\n<|begin_of_solution|>\n\n2\n\n<|end_of_solution|>"
    )


def test_a_template_that_opens_a_thought_does_not_open_it_twice(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.chat_template = (
        "{{ messages[-1]['content'] }}\nassistant:{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    layout = StudentFormat(tokenizer, STYLES["think"])
    text = str(tokenizer.decode(layout.prompt_ids("1 + 1?") + layout.completion_ids([], "2")))
    assert text.count("<think>") == 1


def test_a_template_without_a_system_role_gets_the_system_text_in_the_user_s_turn(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_folder))
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    layout = StudentFormat(tokenizer, STYLES["rlt"])
    text = str(tokenizer.decode(layout.prompt_ids("1 + 1?")))
    assert layout.tags.student_system in text
    assert text.endswith("1 + 1?")
