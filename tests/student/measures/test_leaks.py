"""Each leak is found by itself, with its span and a score worked by hand; what derives the answer is none."""

import time

import pytest

from student.measures.leaks import find_leaks, leak_score
from student.measures.results import Leak, Step

QUESTION = "Natalia sold clips to 48 friends in April, and half as many in May. How many did she sell?"
WORK = "In May she sold 48 / 2 = 24 clips. Together that is 48 + 24 = 72 clips."
SOLUTION = (
    "The sum over both months follows from halving the first count. "
    "Adding the halved count to the first one gives the total that was sought."
)


def found(explanation: str, answer: str | None = "72", solution: str = "72", question: str = QUESTION) -> list[Leak]:
    return list(find_leaks(question, solution, answer, explanation))


def passages(explanation: str, answer: str | None = "72", solution: str = "72", question: str = QUESTION) -> list[str]:
    leaks = found(explanation, answer, solution, question)
    return [f"{leak.kind} {leak.score:.2f}: {explanation[leak.start : leak.stop]}" for leak in leaks]


def test_a_derivation_leaks_nothing_also_where_the_answer_is_told_after_it() -> None:
    assert passages(WORK) == []
    assert passages(f"{WORK} So the answer is \\boxed{{72}}. #### 72") == []
    assert leak_score(()) == 0


def test_an_answer_before_all_work_scores_one_and_ends_at_the_answer() -> None:
    [leak] = found(f"Well, the answer is **72**. {WORK}")
    assert leak == Leak(kind="early_answer", score=1.0, start=0, stop=len("Well, the answer is **72"))


def test_an_answer_amid_the_work_scores_the_share_that_is_still_to_come() -> None:
    # The work is / = + =: two of four are still to come where the answer stands.
    text = WORK.replace("clips. ", "clips. The answer is 72. ", 1)
    assert passages(text) == ["early_answer 0.50: The answer is 72"]
    assert passages(WORK.replace("clips. ", "clips. Mark 72 on the page. ", 1)) == ["early_answer 0.40: Mark 72"]


def test_only_its_first_place_counts_and_only_before_it_is_computed() -> None:
    assert len(found(f"It is 72. The answer is 72. {WORK}")) == 1
    assert passages("Since 24 + 48 = 72, it is 72. Then 72 - 48 = 24 and 48 / 2 = 24 show it.") == []


@pytest.mark.parametrize(
    "told",
    [
        "\\boxed{72}",
        "$\\boxed{\\text{72}}$",
        "#### 72",
        "It is 72.",
        "72 is the answer.",
        "Final result: 72",
        "Solution: 72",
    ],
)
def test_an_answer_is_told_in_many_ways(told: str) -> None:
    [leak] = found(f"{told}\n{WORK}")
    assert (leak.kind, leak.score) == ("early_answer", 1.0)


@pytest.mark.parametrize("text", ["There are 720 seats.", "The answer is 172.", "It is 7.2 or 72.5.", "It is -72."])
def test_a_number_within_another_is_not_the_answer(text: str) -> None:
    assert passages(f"{text}\n{WORK}") == []


def test_numbers_are_compared_by_value_and_not_as_they_are_written() -> None:
    assert passages("It is 1,200. Then 600 + 600 = 1200.", "1200.0") == ["early_answer 1.00: It is 1,200"]


def test_an_answer_that_the_question_names_is_a_leak_only_where_it_is_told() -> None:
    text = "She sold clips to 48 friends. Half is 48 / 2 = 24, and 24 * 2 = 48."
    assert passages(text, "48") == []
    assert passages(f"The answer is 48. {text}", "48") == ["early_answer 1.00: The answer is 48"]


def test_a_small_number_is_a_leak_only_where_it_is_told() -> None:
    text = "A week has 7 days. So 3 + 4 = 7."
    assert passages(text, "7") == []
    assert passages(f"It is 7. {text}", "7") == ["early_answer 1.00: It is 7"]


def test_without_any_work_an_answer_is_told_unless_words_reason_towards_it() -> None:
    assert passages("well it is 2", "2", "2", "9 +5 +5") == ["early_answer 1.00: well it is 2"]
    reasons = "Paris lies on the Seine and has been the seat of each government since the republic was founded. " * 3
    assert passages(f"{reasons}So it is Paris.", "Paris", "Paris", "Which town?") == []
    assert passages(f"It is Paris. {reasons}", "Paris", "Paris", "Which town?") == ["early_answer 1.00: It is Paris"]


@pytest.mark.parametrize("answer", ["\\frac{3}{7}", "3/7", "x^2 + 1", "(3, \\frac{\\pi}{2})"])
def test_an_answer_in_latex_is_found_as_it_is_written_and_its_own_marks_are_no_work(answer: str) -> None:
    early = f"The answer is ${answer}$. We add 1 + 2 = 3."
    assert passages(early, answer) == [f"early_answer 1.00: The answer is ${answer.removesuffix(')')}"]
    assert passages(f"We add 1 + 2 = 3. The answer is ${answer}$.", answer) == []


def test_the_boxed_answer_of_a_solution_is_looked_for_where_none_is_given() -> None:
    solution = "Half of 48 is 24, so it is $\\boxed{72}$."
    assert passages(f"The answer is 72. {WORK}", None, solution) == ["early_answer 1.00: The answer is 72"]


def test_a_copied_solution_is_found_with_its_span_and_counts_half_at_the_very_end() -> None:
    own = "Take April first. Take May then. Both are counts. "
    [leak] = found(f"{SOLUTION} {own}", None, SOLUTION)
    assert leak == Leak(kind="verbatim", score=1.0, start=0, stop=len(SOLUTION))
    # 240 words and marks of one's own, then the 27 of the solution: place = 240 / 267.
    [late] = found(own * 20 + SOLUTION, None, SOLUTION)
    assert late.score == pytest.approx(1 - 240 / 267 / 2)


def test_half_a_solution_counts_as_one_and_a_few_words_of_it_do_not() -> None:
    [half] = found(SOLUTION[: len(SOLUTION) // 2 + 5], None, SOLUTION)
    assert half.score == pytest.approx(1.0, abs=0.2)
    assert found("The sum over both months follows.", None, SOLUTION) == []


def test_what_the_question_says_as_well_is_not_copied_from_the_solution() -> None:
    assert found(SOLUTION, None, SOLUTION, f"Explain this: {SOLUTION}") == []


def test_equal_arithmetic_is_no_copy() -> None:
    work = "48 / 2 = 24\n48 + 24 = 72\n72 - 24 = 48"
    assert found(work, "72", work) == []


def test_a_reference_is_found_wherever_it_stands() -> None:
    text = f"{WORK} As the solution says, both months count."
    assert passages(text) == ["reference 0.90: the solution says"]


def test_a_reference_counts_less_where_the_question_speaks_of_a_solution_itself() -> None:
    acid = "How much salt does the solution hold?"
    assert passages("The solution holds 3 + 4 = 7 grams.", "7", "7", acid) == ["reference 0.24: The solution holds"]


def step(text: str, part: str, credit: float) -> Step:
    start = text.index(part)
    return Step(start=start, stop=start + len(part), credit=credit)


def test_a_step_that_brings_the_gain_and_derives_nothing_is_a_jump() -> None:
    text = "Look at the months.\nMagic happens here.\nThen 48 / 2 = 24.\nAnd 48 + 24 = 72."
    lines = text.split("\n")
    credits = (0.0, 1.5, 0.2, 0.3)
    steps = [step(text, line, credit) for line, credit in zip(lines, credits, strict=True)]
    [leak] = find_leaks(QUESTION, "72", "72", text, steps)
    assert leak == Leak(kind="jump", score=0.75, start=20, stop=39)  # 1.5 of 2.0 nats
    honest = [step(text, line, credit) for line, credit in zip(lines, (0.0, 0.2, 0.3, 1.5), strict=True)]
    assert find_leaks(QUESTION, "72", "72", text, honest) == ()


@pytest.mark.parametrize("text", ["", " \n\t", "...", "\U0001f9ee", "\ud800", "\x00", "答案是72。", "Ответ: 72", "٧٢"])
def test_no_text_is_refused(text: str) -> None:
    for leaks in (found(text), found(WORK, text or None, text or "72"), found(WORK, question=text)):
        assert all(0 <= leak.start < leak.stop for leak in leaks)


def test_spans_are_characters_also_after_others_than_ascii() -> None:
    text = f"\U0001f9ee Überlegung: the answer is 72.\n{WORK}"
    [leak] = found(text)
    assert text[leak.start : leak.stop].endswith("the answer is 72")


@pytest.mark.parametrize(
    "piece", ["the ", "the solution ", "1,", "$\\frac{", "the given given given answer already ", "= 1 "]
)
def test_a_long_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    found(text, "72", text)
    assert time.process_time() - started < 5
