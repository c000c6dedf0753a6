"""A row beside the same row made again: equal or not, where they part, and what the rows say may have caused it."""

from typing import Any

import pytest

from student.errors import ConfigError
from student.explanations import Explanation
from student.problems import content_id
from student.provenance import Provenance
from student.replays import NOTHING_NAMED, compared, how_sampled

MADE = Provenance(
    engine="vllm", software="torch 2.12.0, vllm 0.31.0", precision="float32", prompt_digest="p", top_p=1, max_tokens=9
)


def row(text: str = "She has 3 + 4 = 7.", ids: tuple[int, ...] = (5, 6, 7), **changes: Any) -> Explanation:
    values: dict[str, Any] = {
        "problem_id": content_id("q", "s"),
        "sample": 2,
        "question": "q",
        "solution": "s",
        "explanation": text,
        "token_ids": ids,
        "closed": True,
        "finished": True,
        "teacher_digest": "w",
        "seed": 11,
        "temperature": 0.5,
        "tags": "rlt",
        "provenance": MADE,
    }
    return Explanation.model_validate(values | changes)


def made(**changes: Any) -> Provenance:
    return MADE.model_copy(update=changes)


def test_equal_tokens_match_whoever_calls_the_teacher_what_and_whatever_scored_it() -> None:
    replay = compared(row(teacher="a", student="b"), row(teacher="c", finished=False))
    assert (replay.matches, replay.difference, replay.causes, replay.tokens_now) == (True, None, (), 3)


def test_the_first_difference_is_named_with_the_text_around_it() -> None:
    replay = compared(row(), row("She has 3 + 4 = 8.", (5, 6, 8)))
    assert not replay.matches
    found = replay.difference
    assert found is not None
    assert (found.token, found.character) == (2, 16)  # "She has 3 + 4 = " are 16 characters
    assert (found.then, found.now) == ("She has 3 + 4 = 7.", "She has 3 + 4 = 8.")
    assert replay.causes == (NOTHING_NAMED,)


def test_one_that_goes_on_where_the_other_ends_differs_there() -> None:
    found = compared(row(), row("She has 3 + 4 = 7. So", (5, 6, 7, 9))).difference
    assert found is not None
    assert (found.token, found.character, found.now[-3:]) == (3, 18, " So")


def test_the_same_text_in_other_tokens_and_another_end_are_no_match() -> None:
    other = compared(row(), row(ids=(5, 9)))
    assert other.difference is not None
    assert (other.matches, other.difference.token, other.difference.character) == (False, 1, 18)
    assert not compared(row(), row(closed=False)).matches


@pytest.mark.parametrize(
    ("then", "now", "cause"),
    [
        ({"question": "q2"}, {}, "problem: question or solution was changed since"),
        ({}, {"teacher_digest": "x"}, "weights: w then, x now"),
        ({}, {"provenance": made(prompt_digest="y")}, "prompt: p then, y now"),
        ({}, {"provenance": made(engine="transformers")}, "engine: vllm then, transformers now"),
        ({}, {"provenance": made(precision="bfloat16")}, "precision: float32 then, bfloat16 now"),
        ({}, {"provenance": made(software="torch 2.13.0, vllm 0.31.0")}, "torch: 2.12.0 then, 2.13.0 now"),
    ],
)
def test_what_differs_in_the_making_is_told_as_a_cause(then: dict[str, Any], now: dict[str, Any], cause: str) -> None:
    [told] = compared(row(**then), row("other", (1,), **now)).causes
    assert told.startswith(cause)


def test_what_only_one_row_says_is_no_cause() -> None:
    service = made(precision=None, software="vllm 0.31.0")
    assert compared(row(provenance=service, teacher_digest=None), row()).causes == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"error": "too long"}, "holds no explanation to make again, only why there is none: too long"),
        ({"seed": None, "provenance": None}, r"\(no seed, engine, top_p, max_tokens\)"),
        ({"provenance": made(max_tokens=None)}, r"\(no max_tokens\)"),
        ({"token_ids": None}, r"\(no token_ids\)"),
    ],
)
def test_a_row_that_does_not_say_how_it_was_sampled_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        how_sampled(row(**changes))
    assert how_sampled(row()).max_tokens == 9
