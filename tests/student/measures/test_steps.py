"""Steps joined are the text, tokens belong to the step they begin in, credits are differences of means."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from student.chat import encode
from student.measures.results import Step
from student.measures.steps import credited, lowest_credit, steps, tokens_before
from student.models import load_tokenizer
from teacher.demo.world import toy_tokenizer

TEXTS = st.text(alphabet="ab =1+.! \t\r\n", max_size=40)


@settings(max_examples=500, deadline=None)
@given(text=TEXTS, most=st.none() | st.integers(1, 5))
def test_steps_joined_are_the_text_and_each_holds_a_word_where_the_text_has_one(text: str, most: int | None) -> None:
    found = steps(text, most)
    assert "".join(found) == text
    assert all(step.strip() for step in found) or not text.strip()
    assert most is None or len(found) <= most


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n\nTwo,\nstill two. Yes.\n\nThree.", ["One.\n\n", "Two,\nstill two. Yes.\n\n", "Three."]),
        ("One. Still one.\nTwo.\n", ["One. Still one.\n", "Two.\n"]),
        ('One of 2.5 kg, e.g. this. "Two." Three', ["One of 2.5 kg, e.g. this.", ' "Two."', " Three"]),
        ("\u4e00\u3002\u4e8c\u3002", ["\u4e00\u3002", "\u4e8c\u3002"]),
        ("+1 = 4 -5 = 9 +8 = 7", ["+1 = 4", " -5 = 9", " +8 = 7"]),
        ("x = 3 + 4 = 7 and $7*2=14$, done", ["x = 3 + 4 = 7", " and $7*2=14$,", " done"]),
        ("well it is 7", ["well it is 7"]),
        (" \n \n", [" \n \n"]),
    ],
)
def test_the_coarsest_border_that_cuts_a_text_cuts_it(text: str, expected: list[str]) -> None:
    assert steps(text) == expected


def test_where_there_are_too_many_steps_neighbours_are_joined() -> None:
    assert steps("a\nb\nc\nd\ne", 2) == ["a\nb\nc\n", "d\ne"]
    assert len(steps("so\n" * 1000, 32)) == 32


def test_a_long_text_without_borders_is_cut_in_linear_time() -> None:
    for hostile in ("\n" * 200_000 + "x", "= " * 100_000, "=" + " " * 200_000, "=1" * 100_000, "." * 200_000):
        assert "".join(steps(hostile)) == hostile  # a quadratic pattern would take minutes


def test_a_token_belongs_to_the_step_in_which_its_first_word_is(tiny_model_folder: Path) -> None:
    toy = toy_tokenizer()
    text = "+1 = 4 +5 = 9"
    assert tokens_before(toy, encode(toy, text), text, steps(text)) == [0, 3, 6]
    text = "+1 = 4\n\n+5 = 9\n"  # space is a part of the token behind it here, and a border of steps stands behind it
    assert tokens_before(toy, encode(toy, text), text, steps(text)) == [0, 3, 6]
    bytes_ = load_tokenizer(str(tiny_model_folder))
    text = "caf\u00e9 \U0001f600.\n\nSo 5."
    ids = encode(bytes_, text)
    before, middle, after = tokens_before(bytes_, ids, text, steps(text))
    assert (before, after) == (0, len(ids))
    assert bytes_.decode(ids[:middle]) == steps(text)[0]
    assert tokens_before(bytes_, [], "", []) == [0]
    [word] = encode(bytes_, " apples")
    assert tokens_before(bytes_, [word, word], " apples apples", [" app", "les ap", "ples"]) == [0, 1, 2, 2]


def test_a_credit_is_what_the_mean_log_probability_rises_by() -> None:
    read = [torch.tensor(logps) for logps in ([-4.0, -2.0], [-1.0, -3.0], [-1.0, -1.0])]
    found = credited(["ab", "cde"], read)  # means -3, -2, -1
    assert found == (Step(start=0, stop=2, credit=1.0), Step(start=2, stop=5, credit=1.0))
    assert lowest_credit(found) == 1.0
    assert credited([], [read[0]]) == ()
    assert lowest_credit(()) is None
