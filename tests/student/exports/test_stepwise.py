"""Steps with their credit: labels, numbers, and the layouts of PRM800K and Math-Shepherd, by hand."""

from tests.student.exports.lessons import explained, exported

STEPS = {"1 + 1 is 2.": 0.5, "So 2 + 1 is 4.": -0.3, "No, it is 3.": 0.05}
ROWS = [explained("3", 0, 0.5, STEPS), explained("4", 0, 0.5)]
TEXTS = list(STEPS)


def test_a_step_is_good_from_the_bound_on_and_carries_no_separator() -> None:
    (row,), exporter = exported("trl-stepwise", ROWS, columns=("id",))
    assert row == {"prompt": "What is 3?", "completions": TEXTS, "labels": [True, False, True], "rlt_id": "3-0"}
    assert exporter.counts.refused == {
        "no step credits in measures.steps (rlt score --measures.step-credit measures them)": 1
    }
    (row,), _ = exported("trl-stepwise", ROWS, step_bound=0.1)
    assert row["labels"] == [True, False, False]


def test_soft_labels_are_the_credits_themselves() -> None:
    (row,), _ = exported("stepwise-soft", ROWS)
    assert row["soft_labels"] == [0.5, -0.3, 0.05]
    assert "labels" not in row  # TRL would cut them to 0


def test_a_line_of_prm800k_rates_one_completion_a_step() -> None:
    (row,), _ = exported("prm800k", ROWS, columns=("none",), step_neutral=0.1)
    completions = [step["completions"] for step in row["label"]["steps"]]  # type: ignore[index]
    assert completions == [
        [{"text": text, "rating": rating, "flagged": False}] for text, rating in zip(TEXTS, (1, -1, 0), strict=True)
    ]
    assert {step["chosen_completion"] for step in row["label"]["steps"]} == {0}  # type: ignore[index]
    assert row["label"]["finish_reason"] == "found_error"  # type: ignore[index]
    assert row["question"] == {
        "problem": "What is 3?",
        "ground_truth_solution": "It is \\boxed{3}.",
        "ground_truth_answer": "3",
        "pre_generated_steps": TEXTS,
    }


def test_math_shepherds_own_form_has_a_mark_and_a_sign_in_the_same_places() -> None:
    (row,), _ = exported("math-shepherd", ROWS, columns=("none",))
    assert row["input"] == "What is 3? Step 1: 1 + 1 is 2. ки\nStep 2: So 2 + 1 is 4. ки\nStep 3: No, it is 3. ки"
    assert row["label"] == "What is 3? Step 1: 1 + 1 is 2. +\nStep 2: So 2 + 1 is 4. -\nStep 3: No, it is 3. +"
