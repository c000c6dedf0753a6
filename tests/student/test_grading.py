"""What counts as the right answer, and that grading always comes back."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from student.grading import TEXT_LIMIT, gold_answer, grade, last_boxed, solution_section, stated_answer
from student.problems import Problem
from student.tags import RLT, THINK
from tests.student.grading_pairs import RIGHT, WRONG


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("72", "72"),
        ("She sold 72 clips altogether.", "72"),
        ("#### 72", "72"),
        ("**72**", "72"),
        ("27.0", "27"),
        (r"\boxed{33}", "033"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac12", "1/2"),
        (r"3 \frac{1}{2}", "3.5"),
        ("0.333333", r"\frac{1}{3}"),
        ("1,234", "1234"),
        (r"1\,000", "1000"),
        ("$1{,}000$", "1000"),
        (r"\$1,000", "1000"),
        ("€5", "5"),
        (r"50\%", "0.5"),
        ("50%", "50"),
        ("5 cm", r"5\text{ cm}"),
        ("12", "12 apples"),
        (r"90^\circ", "90"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x = 5", "5"),
        ("1 + x", "x+1"),
        (r"The roots are $1, 2$.", "2, 1"),
        (r"\boxed{(1,2)}", "(1, 2)"),
        (r"first \boxed{5}, so again \boxed{5}", "5"),
        (r"\text{east}", "east"),
    ],
)
def test_equal_answers_in_other_words_are_right(text: str, answer: str) -> None:
    assert grade(text, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "5"),
        ("no idea", "5"),
        ("-5", "5"),
        ("1234567", "1234568"),
        (r"2\pi", "2"),
        ("x+1", "1"),
        ("2 3", "6"),
        ("2**3", "23"),
        ("1, 2", "2"),
        ("30", "2 hours 30 minutes"),
        (r"\boxed{3} or \boxed{5}", "5"),
        ("5", ""),
    ],
)
def test_other_answers_are_wrong_and_so_is_hedging(text: str, answer: str) -> None:
    assert not grade(text, answer)


def test_at_least_99_of_100_answers_of_every_kind_get_the_verdict_that_was_given_by_hand() -> None:
    pairs = [
        (pair, verdict)
        for table, verdict in ((RIGHT, True), (WRONG, False))
        for kind in table.values()
        for pair in kind
    ]
    missed = [pair for pair, verdict in pairs if grade(*pair) != verdict]
    assert len(pairs) >= 200
    assert len(missed) <= len(pairs) / 100, missed


def test_exact_grading_ignores_space_and_nothing_else() -> None:
    assert grade(" 4\n2 ", "42", "exact")
    assert not grade("42.0", "42", "exact")


def test_a_text_that_would_take_for_ever_is_wrong_and_its_siblings_are_graded() -> None:
    start = time.monotonic()
    assert not grade(r"9^{9^{9^9}}", "5")
    assert time.monotonic() - start < 60
    assert grade("the answer is 5", "5")


@pytest.mark.parametrize("text", [r"\boxed{" * 3000, "${" * 5000, "\ud800 \0 5 \r\n", "1" * 20_000, r"\frac{" * 400])
def test_nonsense_is_wrong_and_does_not_crash(text: str) -> None:
    assert not grade(text, "77")


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("0123456789\\{}$^_/%,.()-+=ab \n")), max_size=12))
def test_any_text_gets_a_grade(text: str) -> None:
    assert grade(text, "1234567890123") in (True, False)


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert grade("so " * TEXT_LIMIT + "it is 5", "5")


def test_grading_works_in_any_thread() -> None:
    pairs = [(f"It is {number}.", str(number + number % 2)) for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        grades = list(pool.map(lambda pair: grade(*pair), pairs))
    assert grades == [number % 2 == 0 for number in range(24)]


def test_a_fork_grades_with_a_process_of_its_own() -> None:
    assert grade("It is 5.", "5")
    child = os.fork()
    if child == 0:
        os._exit(0 if grade("It is 5.", "5") and not grade("It is 6.", "5") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert grade("It is 6.", "6")


def test_the_side_process_ends_with_us_and_says_nothing() -> None:
    code = (
        "from student import grading; assert grading.grade('It is 5.', '5'); print(grading._GRADER._process.pid)"
        "; import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert _ends(int(done.stdout))


def _ends(process: int) -> bool:
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{ 2 }", "2"),
        (r"\fbox{7}", "7"),
        (r"\boxed 5.", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{never closed", None),
        (r"\boxed{}", None),
        ("no box", None),
    ],
)
def test_the_last_box_is_found_with_its_braces_balanced(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


def test_many_open_boxes_take_no_time() -> None:
    start = time.monotonic()
    assert last_boxed(r"\boxed{" * 200_000) is None
    assert time.monotonic() - start < 10


def test_the_gold_answer_is_the_answer_else_the_stated_one_else_the_solution() -> None:
    assert gold_answer(Problem(question="q", solution=r"\boxed{3}", answer="4")) == "4"
    assert gold_answer(Problem(question="q", solution=r"\boxed{3}")) == "3"
    assert gold_answer(Problem(question="q", solution="1 + 2\n#### 3")) == "3"
    assert gold_answer(Problem(question="q", solution="3")) == "3"
    assert stated_answer("nothing ####  ") is None


THOUGHT = "<|begin_of_thought|>\n\nHm.\n\n<|end_of_thought|>\n\n"


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (THOUGHT + "<|begin_of_solution|>\n\n42\n\n<|end_of_solution|>", "42"),
        (THOUGHT + "<|begin_of_solution|>42<|end_of_solution|> and <|begin_of_solution|>7<|end_of_solution|>", "42"),
        ("<|begin_of_solution|>1<|end_of_solution|>" + THOUGHT + "<|begin_of_solution|>42<|end_of_solution|>", "42"),
        ("<|begin_of_solution|>42<|end_of_solution|>", "42"),
        (THOUGHT + "<|begin_of_solution|>\n\n<|end_of_solution|>", ""),
        (THOUGHT + "<|begin_of_solution|>42", None),
        (THOUGHT + "42", None),
        ("", None),
    ],
)
def test_the_solution_section_stands_between_its_tags(text: str, section: str | None) -> None:
    assert solution_section(text, RLT) == section


@pytest.mark.parametrize(
    ("text", "section"),
    [("<think>\nHm.\n</think>\n\n42\n", "42"), ("Hm.</think>42", "42"), ("<think>Hm. 42", None)],
)
def test_in_think_style_the_solution_is_what_follows_the_thought(text: str, section: str | None) -> None:
    assert solution_section(text, THINK) == section


def test_no_answer_of_the_training_data_is_wrong_for_itself_boxed() -> None:
    for answer in ("72", "1,000", "3/4", "-2.5", "12.50", "0"):
        assert grade(rf"Hence \boxed{{{answer}}}.", answer)


@pytest.mark.parametrize(
    "text", ["B", "(B)", "The answer is B because A is wrong.", r"\boxed{\text{B}}", "B) 4", "**B**"]
)
def test_the_letter_of_an_option_is_found_however_it_is_wrapped(text: str) -> None:
    assert grade(text, "B", "choice")


@pytest.mark.parametrize("text", ["", "A", "A fine day", "I think so", "The answer is A, not B", "B or, no: answer: C"])
def test_another_letter_or_none_is_wrong(text: str) -> None:
    assert not grade(text, "B", "choice")
