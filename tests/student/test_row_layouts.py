"""How columns become problems, and the reason for every row that does not."""

import json
from decimal import Decimal
from typing import Any

import pytest

from student.errors import ConfigError
from student.problems import Problem
from student.row_layouts import DEPTH_LIMIT, SYNONYMS, TEXT_LIMIT, BadRow, RowReader, find_columns
from student.tags import RLT, STYLES, THINK, TagStyle

RLT_REPLY = (
    "<|begin_of_thought|>\n\nTwo and two.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{4}.\n\n<|end_of_solution|>"
)


def read(row: dict[str, Any], style: TagStyle = "rlt", **columns: str) -> Problem:
    return RowReader(columns, STYLES[style]).problem(row)


def reason(row: dict[str, Any], style: TagStyle = "rlt", **columns: str) -> str:
    with pytest.raises(BadRow) as caught:
        read(row, style, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("question", SYNONYMS["question"])
@pytest.mark.parametrize("solution", SYNONYMS["solution"] + SYNONYMS["answer"])
def test_every_synonym_is_found_whatever_its_case(question: str, solution: str) -> None:
    problem = read({question.title(): "1 + 1?", solution.upper(): "2"})
    assert (problem.question, problem.solution, problem.metadata) == ("1 + 1?", "2", {})


def test_the_best_synonym_wins_and_the_others_are_metadata() -> None:
    problem = read({"problem": "p", "question": "q", "answer": "2", "output": "o", "solution": "s", "url": "u"})
    assert (problem.question, problem.solution, problem.answer) == ("q", "s", "2")
    assert problem.metadata == {"problem": "p", "output": "o", "url": "u"}


def test_own_columns_win_over_synonyms() -> None:
    row = {"question": "q", "title": "t", "answer": "2", "gold": 3}
    problem = read(row, question="title", answer="gold")
    assert (problem.question, problem.answer, problem.metadata) == ("t", "3", {"question": "q", "answer": "2"})


def test_an_own_column_that_is_not_there_is_named() -> None:
    assert reason({"question": "q", "answer": "2"}, question="text").startswith("no column 'text'")


def test_a_field_that_problems_do_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="'title' is no field of a problem; choose from question, solution"):
        RowReader({"title": "t"}, RLT)


def test_unknown_columns_are_named_beside_the_accepted_ones() -> None:
    told = reason({"foo": 1, "bar": 2})
    for name in ("'foo', 'bar'", "question, prompt, problem", "answer, final_answer", "conversations", "--columns"):
        assert name in told


def test_a_trace_is_read_under_its_synonyms_and_without_tags_around_it() -> None:
    for column in SYNONYMS["reasoning_trace"]:
        assert read({"question": "q", "answer": "2", column: "<think>\nHm.\n</think>"}).reasoning_trace == "Hm."
    assert read({"question": "q", "answer": "2", "trace": " Hm.\n"}).reasoning_trace == " Hm.\n"
    for nothing in (None, "", "  \n", "<think></think>"):
        assert read({"question": "q", "answer": "2", "trace": nothing}).reasoning_trace is None


@pytest.mark.parametrize(
    ("value", "answer"),
    [(27.0, "27"), (204, "204"), (0.5, "0.5"), (-3.0, "-3"), (" 33 ", "33"), (10**400, str(10**400)), (1e20, "1e+20")],
)
def test_an_answer_may_be_a_number(value: float | str, answer: str) -> None:
    problem = read({"question": "q", "answer": value})
    assert (problem.answer, problem.solution) == (answer, answer)


def test_an_answer_may_be_a_decimal() -> None:
    assert read({"question": "q", "answer": Decimal("5.00")}).answer == "5"
    assert read({"question": "q", "answer": Decimal("0.25")}).answer == "0.25"


def test_a_solution_and_an_answer_are_both_kept_and_a_box_gives_a_missing_answer() -> None:
    assert read({"question": "q", "solution": r"so \boxed{4}", "answer": 5}).answer == "5"
    for missing in ({}, {"answer": None}, {"answer": " "}):
        assert read({"question": "q", "solution": r"so \boxed{4}", **missing}).answer == "4"
    assert read({"question": "q", "solution": "4"}).answer is None


def test_gsm8k_is_split_into_trace_and_answer_without_the_calculator() -> None:
    problem = read({"question": "q", "answer": "48/2 = <<48/2=24>>24 in May.\n48+24 = <<48+24=72>>72.\n#### 1,072"})
    assert problem.reasoning_trace == "48/2 = 24 in May.\n48+24 = 72."
    assert (problem.solution, problem.answer) == ("1,072", "1,072")
    assert reason({"question": "q", "answer": "rationale\n#### "}) == "solution (column 'answer') is empty"


@pytest.mark.parametrize(
    ("turn_keys", "roles"),
    [
        (("from", "value"), ("user", "assistant")),
        (("from", "value"), ("human", "gpt")),
        (("role", "content"), ("user", "assistant")),
    ],
)
@pytest.mark.parametrize(
    "reply",
    [RLT_REPLY, "<think>\nTwo and two.\n</think>\n\nIt is \\boxed{4}.", "Two and two.</think>It is \\boxed{4}."],
)
def test_conversations_give_thought_and_solution(
    turn_keys: tuple[str, str], roles: tuple[str, str], reply: str
) -> None:
    texts = ("2 + 2?", reply)
    turns = [dict(zip(turn_keys, turn, strict=True)) for turn in zip(roles, texts, strict=True)]
    column = "conversations" if turn_keys[0] == "from" else "messages"
    problem = read({"system": "Think.", column: turns, "source": "numina"})
    assert (problem.question, problem.reasoning_trace) == ("2 + 2?", "Two and two.")
    assert (problem.solution, problem.answer) == ("It is \\boxed{4}.", "4")
    assert problem.metadata == {"source": "numina"}


def test_a_system_turn_is_passed_over_and_an_answer_column_wins() -> None:
    turns = [
        {"from": "system", "value": "Think."},
        {"from": "user", "value": "q", "role": None},
        {"from": "assistant", "value": RLT_REPLY},
    ]
    assert read({"conversations": turns, "answer": 5}).answer == "5"


@pytest.mark.parametrize(
    ("turns", "complaint"),
    [
        ("text", "conversations is 'text', a list of turns is expected"),
        ([], "one user turn and one assistant turn are expected, got []"),
        ([{"from": "user", "value": "q"}] * 2, "one user turn and one assistant turn are expected"),
        ([{"from": "user", "value": None}], "conversations holds the turn {'from': 'user', 'value': None}"),
        ([{"from": "tool", "value": "x"}], "conversations holds the turn"),
        ([{"from": ["user"], "value": "x"}], "conversations holds the turn"),
        (["q", "a"], "conversations holds the turn 'q'"),
        ([{"from": "user", "value": "q"}, {"from": "gpt", "value": "plain"}], "the assistant's text holds neither"),
        (
            [{"from": "user", "value": "q"}, {"from": "gpt", "value": RLT_REPLY.removesuffix("<|end_of_solution|>")}],
            "the assistant's text holds neither a closed solution (<|end_of_solution|> nor </think>)",
        ),
    ],
)
def test_a_conversation_of_another_shape_is_refused(turns: Any, complaint: str) -> None:
    assert reason({"conversations": turns}).startswith(complaint)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question": "", "solution": "2"}, "question is empty"),
        ({"question": " \n", "solution": "2"}, "question is empty"),
        ({"question": "q", "solution": ""}, "solution is empty"),
        ({"question": "q", "solution": "\t", "answer": "2"}, "solution is empty"),
        ({"question": "q", "answer": " "}, "solution (column 'answer') is empty"),
        ({"question": float("nan"), "solution": "2"}, "question is nan, text is expected"),
        ({"problem": 5, "solution": "2"}, "question (column 'problem') is 5, text is expected"),
        ({"question": None, "solution": "2"}, "question is missing (null), text is expected"),
        ({"question": ["q"], "solution": "2"}, "question is ['q'], text is expected"),
        ({"question": "q", "solution": 2}, "solution is 2, text is expected"),
        ({"question": "q", "solution": None, "answer": "2"}, "solution is missing (null), text is expected"),
        ({"question": "q", "answer": float("nan")}, "solution (column 'answer') is nan, text is expected"),
        ({"question": "q", "solution": "2", "answer": float("inf")}, "answer is inf, text is expected"),
        ({"question": "q", "solution": "2", "answer": True}, "answer is True, text is expected"),
        ({"question": "q", "solution": "2", "answer": ["2"]}, "answer is ['2'], text is expected"),
        ({"question": "q", "solution": "2", "trace": 7}, "reasoning_trace (column 'trace') is 7, text is expected"),
        ({"question": "a\0", "solution": "2"}, "question holds a NUL character at 2; remove it"),
        ({"question": "q", "solution": "\ud800"}, r"solution holds '\ud800' at character 1: a byte that is not UTF-8"),
        ({"question": "q" * (TEXT_LIMIT + 1), "solution": "2"}, "question has 16777217 characters, more than 16777216"),
    ],
)
def test_a_text_that_cannot_be_used_is_named_with_its_column_and_value(row: dict[str, Any], complaint: str) -> None:
    assert reason(row).startswith(complaint)


@pytest.mark.parametrize(("style", "other"), [("rlt", "think"), ("think", "rlt")])
@pytest.mark.parametrize("field", ["question", "solution", "trace"])
def test_a_tag_of_the_style_in_use_is_refused_and_the_other_style_offered(
    style: TagStyle, other: TagStyle, field: str
) -> None:
    for marker in STYLES[style].markers:
        row = {"question": "q", "solution": "s", "trace": "t"} | {field: f"what does {marker} mean?"}
        assert f"holds the tag {marker!r}; remove it or use --tags {other}" in reason(row, style)
        assert read(row, other).solution


def test_the_tag_styles_share_no_tag() -> None:
    assert not set(RLT.markers) & set(THINK.markers)


def test_metadata_are_what_json_can_hold() -> None:
    row = {
        "question": "q",
        "answer": "2",
        "a": float("nan"),
        "b": b"image",
        "c": Decimal("1.5"),
        "d": "\ud800",
        "e": None,
    }
    metadata = read({**row, "f": {"x": (1, [True])}}).metadata
    assert metadata == {"a": None, "b": None, "c": "1.5", "d": "?", "f": {"x": [1, [True]]}}
    json.dumps(metadata, allow_nan=False).encode("utf-8")


def test_a_metadata_column_is_unpacked_be_it_an_object_or_its_json() -> None:
    row = {"question": "q", "answer": "2", "url": "u"}
    assert read({**row, "metadata": {"level": 5}}).metadata == {"url": "u", "level": 5}
    assert read({**row, "metadata": '{"level": 5}'}).metadata == {"url": "u", "level": 5}
    assert read({**row, "metadata": "{no json"}).metadata == {"url": "u", "metadata": "{no json"}


def test_metadata_nested_too_deep_are_refused() -> None:
    nested: Any = 1
    for _ in range(DEPTH_LIMIT + 2):
        nested = [nested]
    assert "nested deeper" in reason({"question": "q", "answer": "2", "x": nested})


def test_a_foreign_id_is_kept_and_our_own_is_not_kept_twice() -> None:
    foreign = read({"id": 60, "question": "q", "answer": "2"})
    assert foreign.metadata == {"id": 60}
    assert read({"id": foreign.id, "question": "q", "answer": "2"}).metadata == {}


def test_columns_are_found_once_for_rows_of_the_same_columns() -> None:
    assert find_columns(("Problem", "Answer")) is find_columns(("Problem", "Answer"))


GPQA = {
    "Question": "What is water?",
    "Correct Answer": "H2O\n",
    "Incorrect Answer 1": "CO2",
    "Incorrect Answer 2": "O2",
    "Incorrect Answer 3": "N2",
}


def test_gpqa_options_are_shuffled_the_same_way_each_time_and_the_letter_follows() -> None:
    reader = RowReader({}, RLT)
    problems = [reader.problem({**GPQA, "Question": f"What is water ({number})?"}) for number in range(60)]
    assert problems == [reader.problem({**GPQA, "Question": f"What is water ({number})?"}) for number in range(60)]
    for problem in problems:
        assert problem.solution == f"{problem.answer}) H2O"
        assert f"\n{problem.solution}\n" in problem.question
    assert {problem.answer for problem in problems} == {"A", "B", "C", "D"}


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2 + 2?", "choices": ["3", "4", "5"], "answer": 1},
        {"question": "2 + 2?", "options": ["3", "4", "5"], "answer": "B"},
        {"question": "2 + 2?", "options": [3, 4, 5], "answer": "4"},
        {"question": "2 + 2?", "choices": {"text": ["3", "4", "5"], "label": ["p", "q", "r"]}, "answer": "q"},
    ],
)
def test_the_right_option_is_marked_by_number_letter_text_or_label(row: dict[str, Any]) -> None:
    problem = RowReader({}, RLT).problem(row)
    assert problem.solution == f"{problem.answer}) 4"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q?", "choices": ["3", "4"], "answer": 2}, "answer 2 is no option"),
        ({"question": "q?", "choices": ["3", "4"], "answer": None}, "answer None is no option"),
        ({"question": "q?", "choices": ["3"], "answer": 0}, "1 options; 2 to 10 are read"),
    ],
)
def test_an_option_that_is_not_there_is_a_bad_row(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        RowReader({}, RLT).problem(row)


def rated(text: str, rating: int) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": False}


PRM = {
    "labeler": "x",
    "question": {
        "problem": "1 + 2?",
        "ground_truth_solution": "It is \\boxed{3}.",
        "ground_truth_answer": "3",
        "pre_generated_steps": ["One and two."],
    },
    "label": {
        "steps": [
            {
                "completions": [rated("Bad.", -1), rated("One and two.", 1)],
                "human_completion": None,
                "chosen_completion": 1,
            },
            {"completions": [rated("4.", -1)], "human_completion": {"text": "So 3."}, "chosen_completion": None},
            {"completions": [rated("Never.", -1)], "human_completion": None, "chosen_completion": None},
        ],
        "finish_reason": "solution",
    },
}


def test_prm800k_gives_the_steps_that_were_chosen_and_keeps_the_ratings() -> None:
    problem = read(PRM)
    assert (problem.question, problem.solution, problem.answer) == ("1 + 2?", "It is \\boxed{3}.", "3")
    assert problem.reasoning_trace == "One and two.\nSo 3."
    assert problem.metadata == {"labeler": "x", "label": PRM["label"]}
    without = read(PRM | {"question": PRM["question"] | {"ground_truth_solution": None}})  # type: ignore[operator]
    assert without.solution == "3"


STEPS = ["1 + 2 = 3.", "The answer is: 3"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1 + 2?", "completions": STEPS, "labels": [False, True]},
        {"prompt": "1 + 2?", "completions": STEPS, "soft_labels": [-0.1, 0.2]},
        {
            "input": "1 + 2? Step 1: 1 + 2 = 3. ки\nStep 2: The answer is: 3 ки",
            "label": "1 + 2? Step 1: 1 + 2 = 3. -\nStep 2: The answer is: 3 +",
            "task": "GSM8K",
        },
    ],
)
def test_labelled_steps_are_the_trace_and_a_last_step_that_is_right_the_solution(row: dict[str, Any]) -> None:
    problem = read(row)
    assert (problem.question, problem.solution, problem.answer) == ("1 + 2?", "The answer is: 3", "3")
    assert problem.reasoning_trace == "\n".join(STEPS)


def test_of_steps_that_end_wrong_an_answer_column_is_the_solution_and_without_one_the_row_is_bad() -> None:
    row = {"prompt": "1 + 2?", "completions": STEPS, "labels": [True, False]}
    assert reason(row).startswith("the last step is labelled wrong and no column holds the answer")
    assert read(row | {"answer": 4}).solution == read(row | {"rlt_answer": "4"}).solution == "4"
    assert reason(row | {"labels": [True]}) == "2 completions and 1 labels; there must be as many"
    assert "expected are completions" in reason(PRM | {"label": {"steps": [1]}})
