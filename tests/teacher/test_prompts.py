"""The teacher's prompt is the paper's, and explanations are cut out of what it samples to the character."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from student.chat import encode
from student.errors import ScoringError
from student.models import load_tokenizer
from student.tags import STYLES, TagStyle
from teacher.prompts import TeacherFormat


@pytest.fixture(params=["rlt", "think"])
def teacher_format(request: pytest.FixtureRequest, tiny_model_folder: Path) -> TeacherFormat:
    style: TagStyle = request.param
    return TeacherFormat(load_tokenizer(str(tiny_model_folder)), STYLES[style])


def test_the_prompt_states_the_solution_and_opens_the_explanation(tiny_model_folder: Path) -> None:
    layout = TeacherFormat(load_tokenizer(str(tiny_model_folder)), STYLES["rlt"])
    text = str(layout.tokenizer.decode(layout.prompt_ids("1 + 1?", "2")))
    assert text.endswith("<|begin_of_solution|>\n\n2\n\n<|end_of_solution|>\n\n<|begin_of_explanation|>\n\n")
    assert "student" not in layout.tags.teacher_system.lower()


def test_a_whole_explanation_is_cut_back_to_the_tokens_it_was_made_of(teacher_format: TeacherFormat) -> None:
    body = encode(teacher_format.tokenizer, "One and one\nmake two.")
    explained = teacher_format.cut(teacher_format.completion_ids(body))
    assert (explained.explanation_ids, explained.closed) == (body, True)
    assert explained.text == "One and one\nmake two."
    assert explained.sampled_tokens == len(body)


def test_text_after_the_first_end_tag_is_ignored(teacher_format: TeacherFormat) -> None:
    body, more = encode(teacher_format.tokenizer, "first"), encode(teacher_format.tokenizer, "second")
    close = encode(teacher_format.tokenizer, teacher_format.tags.explanation_close)
    assert teacher_format.cut([*body, *close, *more, *close]).text == "first"


def test_no_end_tag_keeps_everything_before_the_end_of_text_and_says_so(teacher_format: TeacherFormat) -> None:
    body = encode(teacher_format.tokenizer, "never closed")
    explained = teacher_format.cut([*body, teacher_format.tokenizer.eos_token_id, *body])
    assert (explained.text, explained.closed) == ("never closed", False)


@pytest.mark.parametrize("sampled", [[], ["close"], ["eos"]])
def test_an_empty_explanation_is_an_empty_explanation(teacher_format: TeacherFormat, sampled: list[str]) -> None:
    tokens = {
        "close": encode(teacher_format.tokenizer, teacher_format.tags.explanation_close),
        "eos": [teacher_format.tokenizer.eos_token_id],
    }
    explained = teacher_format.cut([token for name in sampled for token in tokens[name]])
    assert (explained.explanation_ids, explained.text) == ([], "")
    assert explained.closed == (sampled == ["close"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(alphabet="ab .<|/é€😀\n", max_size=12), cuts=st.lists(st.integers(1, 60), max_size=6))
def test_the_cut_is_exact_however_the_tag_was_spelled(
    teacher_format: TeacherFormat, text: str, cuts: list[int]
) -> None:
    """Tokenised in arbitrary pieces, so that the tag may begin inside a token, the text before it is kept exactly."""
    tag = teacher_format.tags.explanation_close
    whole = text + tag + " rest"
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    ids = [token for a, b in pairwise(edges) for token in encode(teacher_format.tokenizer, whole[a:b])]
    explained = teacher_format.cut(ids)
    assert explained.closed
    assert explained.text == whole[: whole.index(tag)]
    assert explained.explanation_ids[: explained.sampled_tokens] == ids[: explained.sampled_tokens]


def test_control_tokens_in_question_or_solution_are_refused(teacher_format: TeacherFormat) -> None:
    control = teacher_format.tokenizer.eos_token
    with pytest.raises(ScoringError, match="control token"):
        teacher_format.prompt_ids("1 + 1?", f"2{control}")
    with pytest.raises(ScoringError, match="control token"):
        teacher_format.prompt_ids(f"{control}", "2")


def test_the_passage_holds_the_explanation_after_the_prompt(teacher_format: TeacherFormat) -> None:
    body = encode(teacher_format.tokenizer, "because")
    passage = teacher_format.passage("1 + 1?", "2", body)
    assert passage.input_ids[: passage.explanation.start] == teacher_format.prompt_ids("1 + 1?", "2")
    assert passage.input_ids[passage.explanation.start : passage.explanation.stop] == body
    assert len(passage.solution) == 0
