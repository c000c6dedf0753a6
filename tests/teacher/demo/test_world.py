"""The toy world: its problems, its explanation styles, its tokenizer."""

import random
from pathlib import Path
from typing import get_args

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from student.problems import Problem
from student.reading import StudentFormat
from student.tags import RLT
from teacher.demo.world import (
    ADDS,
    EXPLAINERS,
    FAMILIES,
    LONGEST_CHAIN,
    MAX_TOKENS,
    SUBTRACTS,
    Chain,
    Family,
    Split,
    Style,
    complete,
    draw_problems,
    read_chain,
    split_of,
    style_of,
    toy_tokenizer,
    wrong,
)
from teacher.prompts import TeacherFormat

PROBLEM = Problem(question="3 +1 +5 +8 +2 +1", solution="0")
FIRST_SEEDS = range(3)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return toy_tokenizer()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_operand_of_a_complete_explanation_is_applied_rightly(family: Family) -> None:
    for start in range(10):
        for digit in family.digits:
            operand = family.sign * digit
            assert complete(Chain(start, (operand,))) == f"{operand:+d} = {(start + operand) % 10}"


def test_a_chain_worked_by_hand() -> None:
    # 3 +1 = 4, +5 = 9, +8 = 17 -> 7, +2 = 9, +1 = 10 -> 0; and 2 -3 = -1 -> 9, -9 = 0, -4 = -4 -> 6.
    assert read_chain(PROBLEM.question).values == (4, 9, 7, 9, 0)
    assert read_chain("2 -3 -9 -4").values == (9, 0, 6)


def test_a_question_reads_back_as_the_chain_it_was_made_from() -> None:
    chain = Chain(7, (1, -6, 8))
    assert read_chain(chain.question) == chain


@pytest.mark.parametrize("style", EXPLAINERS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_explanation_is_of_the_style_it_was_written_in(style: Style, family: Family) -> None:
    rng = random.Random(0)
    for problem in draw_problems(family, 200, "train", seed=0):
        assert style_of(problem, EXPLAINERS[style](read_chain(problem.question), rng)) == style


def test_every_style_but_other_has_an_explainer() -> None:
    assert {*EXPLAINERS, "other"} == set(get_args(Style))


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("+1 = 4 +5 = 9 +8 = 7 +2 = 9", "wrong"),  # the last step is missing
        ("+1 = 4 +5 = 9 +8 = 7 +2 = 9 +1 = 0 +1 = 1", "wrong"),  # one step too many
        ("+1 = 4 +8 = 2 +8 = 0 +2 = 2 +1 = 3", "wrong"),  # another operand
        ("+1 = 4 +5 = 2 +8 = 7 +2 = 9 +1 = 0", "wrong"),  # right at the end all the same
        ("+1 = 4 it is 0", "leak"),
        ("0", "leak"),
        ("0 0 0 0 0 0", "leak"),
        ("well it is 7", "other"),  # a claim, and a false one: it gives nothing away
        ("4 9 7 9 1", "other"),  # digits alone
        ("4 9 7 9 0", "leak"),
        ("+1 +5 +8 +2", "other"),  # an operand is missing
        ("", "other"),
        ("  +1 = 4 +5 = 9\n+8 = 7 +2 = 9 +1 = 0 ", "complete"),  # blanks do not matter
    ],
)
def test_a_text_that_no_explainer_writes_is_classified_by_what_it_gives_away(text: str, style: Style) -> None:
    assert style_of(PROBLEM, text) == style


def test_a_wrong_explanation_errs_in_about_three_steps_of_ten() -> None:
    rng = random.Random(0)
    erring, steps = 0, 0
    for problem in draw_problems(ADDS, 400, "train", seed=0):
        chain = read_chain(problem.question)
        written = [int(word) for word in wrong(chain, rng).split()[2::3]]
        before = [chain.start, *written[:-1]]
        erring += sum(
            value != (prior + operand) % 10
            for prior, operand, value in zip(before, chain.operands, written, strict=True)
        )
        steps += len(written)
    # 0.3 a step, given that of k = 5 or 6 steps at least one errs: 0.3 / (1 - 0.7^k) = 0.361 and 0.340.
    assert 0.32 < erring / steps < 0.38


def test_problems_are_distinct_and_splits_share_none_whatever_the_seeds() -> None:
    splits: tuple[Split, ...] = get_args(Split)
    drawn = [draw_problems(ADDS, 1500, split, seed) for split in splits for seed in FIRST_SEEDS]
    ids = [{problem.id for problem in problems} for problems in drawn]
    assert [len(each) for each in ids] == [1500] * len(drawn)
    assert set().union(*ids[:3]).isdisjoint(set().union(*ids[3:]))


def test_the_same_seed_draws_the_same_problems_and_another_seed_others() -> None:
    assert draw_problems(SUBTRACTS, 50, "train", seed=1) == draw_problems(SUBTRACTS, 50, "train", seed=1)
    assert draw_problems(SUBTRACTS, 50, "train", seed=1) != draw_problems(SUBTRACTS, 50, "train", seed=2)


def test_a_drawn_problem_carries_its_answer_its_family_and_a_complete_trace() -> None:
    for problem in draw_problems(SUBTRACTS, 50, "held_out", seed=0):
        assert split_of(problem) == "held_out"
        assert problem.answer == problem.solution == str(read_chain(problem.question).values[-1])
        assert problem.metadata == {"family": "subtracts"}
        assert style_of(problem, problem.reasoning_trace or "") == "complete"


def test_solutions_are_near_uniform_so_that_guessing_is_right_once_in_ten() -> None:
    solutions = [problem.solution for problem in draw_problems(ADDS, 4000, "held_out", seed=0)]
    # 4,000 draws of probability 0.1: 400 each, standard deviation 19.
    assert all(320 < solutions.count(str(digit)) < 480 for digit in range(10))


def test_every_word_of_the_world_is_one_token_and_text_survives_the_round_trip(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rng = random.Random(0)
    assert len(tokenizer) == 41
    for problem in [*draw_problems(ADDS, 50, "train", seed=0), *draw_problems(SUBTRACTS, 50, "train", seed=0)]:
        chain = read_chain(problem.question)
        for text in [problem.question, *(explain(chain, rng) for explain in EXPLAINERS.values())]:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert len(ids) == len(text.split())
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text


def test_tags_are_single_tokens_that_decoding_keeps_and_blank_lines_are_none(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for tag in RLT.markers:
        ids = tokenizer(f"\n\n{tag}\n\n", add_special_tokens=False)["input_ids"]
        assert [tokenizer.decode([token], skip_special_tokens=True) for token in ids] == [tag]
    assert len(tokenizer(f"1{RLT.explanation_close}", add_special_tokens=False)["input_ids"]) == 2


def test_the_formats_of_the_product_serve_word_by_word(tokenizer: PreTrainedTokenizerFast) -> None:
    student, teacher = StudentFormat(tokenizer, RLT), TeacherFormat(tokenizer, RLT)
    explanation = student.encode("+1 = 4")
    said = [*student.prompt_ids("3 +1"), *student.completion_ids(explanation, "4")]
    taught = [*teacher.prompt_ids("3 +1", "4"), *teacher.completion_ids(explanation)]
    assert tokenizer.decode(said) == (
        "<|user|> 3 +1 <|assistant|> <|begin_of_thought|> +1 = 4 <|end_of_thought|> "
        "<|begin_of_solution|> 4 <|end_of_solution|> <|end|>"
    )
    assert tokenizer.decode(taught) == (
        "<|user|> 3 +1 <|assistant|> <|begin_of_solution|> 4 <|end_of_solution|> "
        "<|begin_of_explanation|> +1 = 4 <|end_of_explanation|> <|end|>"
    )
    assert teacher.cut(teacher.completion_ids(explanation)).text == "+1 = 4"


def test_no_text_of_the_world_is_longer_than_promised(tokenizer: PreTrainedTokenizerFast) -> None:
    student, teacher = StudentFormat(tokenizer, RLT), TeacherFormat(tokenizer, RLT)
    problem = next(p for p in draw_problems(ADDS, 50, "train", seed=0) if len(p.question.split()) == 1 + LONGEST_CHAIN)
    rng = random.Random(0)
    for explain in EXPLAINERS.values():
        explanation = student.encode(explain(read_chain(problem.question), rng))
        said = [*student.prompt_ids(problem.question), *student.completion_ids(explanation, problem.solution)]
        taught = [*teacher.prompt_ids(problem.question, problem.solution), *teacher.completion_ids(explanation)]
        assert max(len(said), len(taught)) <= MAX_TOKENS


def test_a_saved_tokenizer_loads_as_the_same_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "system", "content": "ignored"}, {"role": "user", "content": PROBLEM.question}]
    rendered = loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert rendered == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(loaded(rendered)["input_ids"]) == "<|user|> 3 +1 +5 +8 +2 +1 <|assistant|>"
