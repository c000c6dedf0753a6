"""Test questions in the rows: whole, rewritten, inside other text, short ones; and what looks like one but is none."""

import json
from pathlib import Path

import pytest

from student.curation.contamination import HeldOut, Question, contamination_verdict, read_questions
from student.curation.settings import Contamination
from student.errors import ProblemError
from student.explanations import Explanation

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "aime24").is_dir(), reason="the data sets are not beside the checkout")
WALK = (
    "Every morning Aya goes for a $9$-kilometer-long walk and stops at a coffee shop afterwards. When she walks at a "
    "constant speed of $s$ kilometers per hour, the walk takes her 4 hours. Find $s+\\frac{1}{2}$."
)
SHORT = "How many primes are there between 10 and 50?"
TINY = "What is $2+3$?"


def held_out(*texts: str) -> HeldOut:
    return HeldOut([Question(f"tests.jsonl:{line}", text) for line, text in enumerate(texts, start=1)])


@pytest.mark.parametrize(
    "text",
    [
        WALK,
        WALK.upper(),
        WALK.replace("$", "").replace(".", " ;").replace("-", " - ").replace("frac", "dfrac"),
        f"Solve this: {WALK} Give the answer as an integer.",
        "She said that every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop.",
    ],
)
def test_a_passage_of_a_test_question_is_found_however_it_is_written(text: str) -> None:
    passage = held_out("Something else entirely.", WALK).passage(text)
    assert passage is not None
    assert passage.question.place == "tests.jsonl:2"
    assert passage.words.startswith("every morning aya goes for a 9 kilometer long walk")


def test_twelve_words_in_common_are_no_passage() -> None:
    tests = held_out(WALK)
    words = ["every", "morning", "aya", "goes", "for", "a", "9", "kilometer", "long", "walk", "and", "stops"]
    assert len(words) == 12
    assert tests.passage(" ".join(["today", *words, "somewhere"])) is None
    assert tests.passage(" ".join(["today", *words, "at"])) is not None


def test_a_short_test_question_is_matched_whole() -> None:
    tests = held_out(SHORT)
    assert tests.passage("Tell me: how many primes are there between 10 and 50, please") is not None
    assert tests.passage("How many primes are there between 10 and 60?") is None


def test_a_short_question_that_is_a_passage_of_a_test_question_is_found() -> None:
    tests = held_out(WALK)
    assert tests.passage("She walks at a constant speed of s kilometers per hour") is not None
    assert tests.passage("A man walks at a constant speed of s kilometers per hour") is None
    assert tests.passage("constant speed of s kilometers") is None


def test_a_tiny_test_question_betrays_only_the_same_text() -> None:
    tests = held_out(TINY)
    assert tests.passage("what is 2 + 3") is not None
    assert tests.passage("What is 2+3, and what is 4+5?") is None


def test_what_different_test_questions_have_in_common_betrays_none_of_them() -> None:
    tail = "can be written as m/n, where m and n are relatively prime positive integers. Find m + n."
    one = f"The area of the red triangle inside the circle of radius seven with centre O {tail}"
    other = f"The probability that a fair coin shows heads more often than tails in twelve throws {tail}"
    assert held_out(one).passage(f"The length of the shortest path {tail}") is not None
    tests = held_out(one, other)
    assert tests.passage(f"The length of the shortest path {tail}") is None
    assert tests.passage(one) is not None
    assert tests.passage(f"Now: {other}") is not None


def test_two_versions_of_one_test_question_both_betray_it() -> None:
    other = WALK.replace("Aya", "Ben").replace("coffee", "tea")
    assert held_out(WALK, other).passage(f"Well, {WALK[60:]}") is not None


def row(question: str, explanation: str = "So.") -> Explanation:
    return Explanation(
        problem_id="p", sample=0, question=question, solution="2", explanation=explanation, closed=True, finished=True
    )


def test_the_verdict_names_file_line_and_passage_and_explanations_are_searched_when_asked() -> None:
    tests = held_out(SHORT)
    assert contamination_verdict(row(SHORT), tests).detail == (
        "its question holds a passage of tests.jsonl:1: 'how many primes are there between 10 and 50'"
    )
    assert contamination_verdict(row("Why?", f"As in: {SHORT}"), tests).kept
    told = contamination_verdict(row("Why?", f"As in: {SHORT}"), tests, explanations=True)
    assert (told.kept, told.detail) == (
        False,
        "its explanation holds a passage of tests.jsonl:1: 'how many primes are there between 10 and 50'",
    )


def test_test_sets_are_read_as_problems_are_and_a_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tests.jsonl"
    path.write_text(json.dumps({"problem": SHORT, "answer": 11.0, "url": "x"}) + "\n")
    [question] = read_questions(str(path))
    assert (question.place, question.text) == (f"{path}:1", SHORT)
    assert len(HeldOut.read(Contamination(files=(str(path), str(path))))) == 1
    path.write_text("{}\n")
    with pytest.raises(ProblemError, match=r"tests\.jsonl:1: .*mend this test set"):
        list(read_questions(str(path)))


@needs_data
def test_every_question_of_aime24_and_amc23_is_found_rewritten_and_none_in_gsm8k() -> None:
    files = tuple(str(DATA / name / "test.jsonl") for name in ("aime24", "amc23"))
    tests = HeldOut.read(Contamination(files=files))
    questions = [question.text for file in files for question in read_questions(file)]
    assert len(questions) == 70
    rewritten = [text.swapcase().replace("$", " ").replace(".", " ;").replace("frac", "dfrac") for text in questions]
    assert [
        text for text in [*questions, *rewritten] if tests.passage(f"Solve: {text} Answer at the end.") is None
    ] == []
    with (DATA / "gsm8k" / "train.jsonl").open(encoding="utf-8") as rows:
        assert [text for row in rows if tests.passage(text := json.loads(row)["question"]) is not None] == []
