"""The harder toy world: its problems, its explanations, and that they fit its model."""

import random
from collections import Counter

import pytest

from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT
from teacher.demo.bundles import (
    LABELS,
    MAX_TOKENS,
    SHARES,
    Bundle,
    bundle_tokenizer,
    draw_bundles,
    parts_of,
    read_bundle,
    style_shares,
    styled,
    styles_of,
)
from teacher.demo.settings import read_recipe
from teacher.demo.world import STYLES, Chain, Style, split_of
from teacher.prompts import TeacherFormat

QUESTION = "a 3 +1 +5 b 7 +2 +8 c 0 +5 +5 d 9 +1 +1 e 4 +8 +2"
"""3 + 1 + 5 = 9; 7 + 2 + 8 = 17; 0 + 5 + 5 = 10; 9 + 1 + 1 = 11; 4 + 8 + 2 = 14."""
SOLUTION = "a 9 b 7 c 0 d 1 e 4"


def test_a_bundle_worked_by_hand() -> None:
    bundle = read_bundle(QUESTION)
    assert (bundle.question, bundle.solution) == (QUESTION, SOLUTION)
    assert bundle.explained(["complete", "terse", "leak", "complete", "terse"], random.Random()) == (
        "a 3 +1 = 4 +5 = 9 b 7 +2 +8 c well it is 0 d 9 +1 = 0 +1 = 1 e 4 +8 +2"
    )


@pytest.mark.parametrize("style", [style for style in STYLES if style != "other"])
def test_what_a_style_writes_is_found_to_be_of_that_style(style: Style) -> None:
    rng, bundle = random.Random(0), read_bundle(QUESTION)
    for _ in range(50):
        assert styles_of(QUESTION, bundle.explained([style] * len(LABELS), rng)) == [style] * len(LABELS)


@pytest.mark.parametrize(
    ("part", "style"),
    [
        ("4 +1 = 5 +5 = 0", "wrong"),
        ("3 +1 = 4", "wrong"),
        ("+1 = 4 +5 = 9", "complete"),
        ("it is 8", "other"),
        ("", "other"),
    ],
)
def test_what_no_style_writes(part: str, style: Style) -> None:
    assert styles_of(QUESTION, f"a {part} b well see this again")[:3] == [style, "chatter", "other"]


def test_parts_stand_under_their_labels_as_far_as_these_come_in_order() -> None:
    assert parts_of(SOLUTION) == ["9", "7", "0", "1", "4"]
    assert parts_of("a 9 c 7") == ["9 c 7"]
    assert parts_of("b 7 a 9") == ["9"]


def test_problems_are_solved_explained_and_in_one_split() -> None:
    for split in ("train", "held_out"):
        problems = draw_bundles(50, split, seed=0)
        assert len({problem.id for problem in problems}) == 50
        for problem in problems:
            assert split_of(problem) == split
            assert problem.answer == problem.solution == read_bundle(problem.question).solution
            assert problem.reasoning_trace is not None
            assert styles_of(problem.question, problem.reasoning_trace) == ["complete"] * len(LABELS)


def test_styles_stand_in_the_ratio_of_their_shares_and_are_mixed_within_a_question() -> None:
    problems = styled(draw_bundles(200, "train", seed=0), SHARES, seed=0)
    shares = style_shares([(problem.question, problem.reasoning_trace or "") for problem in problems])
    assert shares == pytest.approx({**SHARES, "other": 0.0}, abs=0.002)
    complete = Counter(
        styles_of(problem.question, problem.reasoning_trace or "").count("complete") for problem in problems
    )
    assert {0, 1, 2} <= complete.keys()


def test_the_longest_texts_are_sampled_whole_and_fit_the_model() -> None:
    tokenizer, recipe = bundle_tokenizer(), read_recipe("toy-bundles")
    student, teacher = StudentFormat(tokenizer, RLT), TeacherFormat(tokenizer, RLT)
    problem = Problem(question=QUESTION, solution=SOLUTION)
    longest = student.encode(read_bundle(QUESTION).explained(["complete"] * len(LABELS), random.Random()))
    assert tokenizer.unk_token_id not in longest
    solved, explained = student.completion_ids(longest, SOLUTION), teacher.completion_ids(longest)
    asked, told = student.prompt_ids(QUESTION), teacher.prompt_ids(problem.question, problem.solution)
    assert len(solved) < recipe.evaluate.sampling.max_tokens
    assert len(explained) < recipe.train.rollout.max_tokens == recipe.explain.sampling.max_tokens
    assert len(told) <= recipe.train.rollout.max_prompt_tokens
    longest_row = max(len(told) + recipe.train.rollout.max_tokens, len(asked) + recipe.evaluate.sampling.max_tokens)
    assert longest_row <= MAX_TOKENS


def test_a_bundle_of_one_chain_is_that_chain() -> None:
    assert Bundle((Chain(3, (1, 5)),)).question == "a 3 +1 +5"
