"""The reward equals the formulas of method.md 3, by hand and by a float64 oracle, also where input degenerates."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from student.configs import RewardConfig
from student.errors import ScoringError
from student.rewards import ESTIMATORS, group_spread, positive_kl, sampled_kl, score_explanation

PAPER = RewardConfig()
logps = st.lists(st.floats(-20, 0, width=32), max_size=40)


def reward(
    solution: list[float], teacher: list[float], student: list[float], config: RewardConfig, closed: bool
) -> float:
    kl_E = ESTIMATORS[config.kl_estimator](tensor(teacher), tensor(student))
    return score_explanation(tensor(solution), kl_E, config, closed=closed).reward


def test_the_paper_s_reward_by_hand() -> None:
    # rSS = (-1 - 3) / 2 + .01 x -3 = -2.03; KL = [2, -1]: rKL = .5 + .01 x 2 = .52; r = -2.03 - 3 x .52 = -3.59
    assert reward([-1, -3], [-1, -2], [-3, -1], PAPER, closed=True) == pytest.approx(-3.59, abs=1e-6)


def test_a_missing_end_tag_costs_one_more() -> None:
    assert reward([-1, -3], [-1, -2], [-3, -1], PAPER, closed=False) == pytest.approx(-4.59, abs=1e-6)


def test_an_empty_explanation_costs_3_03_on_the_kl_term() -> None:
    assert reward([-1], [], [], PAPER, closed=True) == pytest.approx(-1.01 - 3.03, abs=1e-6)


def test_an_empty_solution_counts_one_nat_a_statistic_and_is_noted() -> None:
    score = score_explanation(tensor([]), tensor([0.0]), PAPER)
    assert score.reward == pytest.approx(-1.01, abs=1e-6)
    assert score.notes == ("empty solution",)


def test_a_cut_explanation_is_charged_like_an_unclosed_one_and_noted() -> None:
    score = score_explanation(tensor([-1.0]), tensor([0.0]), PAPER, cut_tokens=7)
    assert score.reward == pytest.approx(-2.01, abs=1e-6)
    assert score.unclosed_penalty == 1.0
    assert "7 tokens" in score.notes[0]


def test_without_a_teacher_the_reward_is_rss_and_rkl_is_absent() -> None:
    score = score_explanation(tensor([-1.0, -3.0]), None, PAPER)
    assert (score.reward, score.rkl, score.kl_mean, score.kl_max) == (pytest.approx(-2.03), None, None, None)


def test_a_kl_weight_of_zero_leaves_rss_alone() -> None:
    assert reward([-1, -3], [-1], [-9], RewardConfig(kl_weight=0), closed=True) == pytest.approx(-2.03, abs=1e-6)


def test_the_second_shipped_default_weighs_both_terms_alike() -> None:
    lambda_one = RewardConfig(ss_weight=5, kl_weight=5)  # [5, .05] / [5, .05]
    assert reward([-1, -3], [-1, -2], [-3, -1], lambda_one, closed=True) == pytest.approx(
        5 * -2.03 - 5 * 0.52, abs=1e-5
    )


@given(logps, st.lists(st.tuples(st.floats(-20, 0, width=32), st.floats(-20, 0, width=32)), max_size=40), st.booleans())
def test_the_reward_equals_a_float64_oracle(
    solution: list[float], pairs: list[tuple[float, float]], closed: bool
) -> None:
    for estimator in ESTIMATORS:
        config = RewardConfig(kl_estimator=estimator, ss_min_weight=0.05, kl_max_weight=0.02, ss_weight=0.5)
        ratios = [teacher - student for teacher, student in pairs]
        kl = ratios if estimator == "k1" else [ratio - 1 + math.exp(-ratio) for ratio in ratios]
        ss = (math.fsum(solution) / len(solution) + 0.05 * min(solution)) if solution else -1.05
        strays = (math.fsum(kl) / len(kl) + 0.02 * max(kl)) if kl else 1.02
        expected = 0.5 * ss - 3 * strays - (0 if closed else 1)
        ours = reward(solution, [teacher for teacher, _ in pairs], [student for _, student in pairs], config, closed)
        assert ours == pytest.approx(expected, abs=1e-5, rel=1e-6)


def test_k3_is_never_negative_and_both_estimators_agree_with_the_exact_kl_in_expectation() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher_V = torch.randn(11, generator=generator).log_softmax(-1)
    student_V = torch.randn(11, generator=generator).log_softmax(-1)
    exact = (teacher_V.exp() * (teacher_V - student_V)).sum()
    assert (positive_kl(teacher_V, student_V) >= 0).all()
    for estimate in (sampled_kl, positive_kl):  # expectation over the teacher's own tokens, summed exactly
        torch.testing.assert_close((teacher_V.exp() * estimate(teacher_V, student_V)).sum(), exact, atol=1e-6, rtol=0)


def test_log_probs_that_are_not_finite_are_refused_by_name() -> None:
    with pytest.raises(ScoringError, match="solution are not finite"):
        score_explanation(tensor([math.nan]), None, PAPER)
    with pytest.raises(ScoringError, match="KL between teacher and student"):
        score_explanation(tensor([-1.0]), tensor([math.inf]), PAPER)


def test_the_spread_of_a_group_is_its_standard_deviation() -> None:
    rewards = [random.Random(0).gauss(0, 1) for _ in range(12)]
    expected = tensor(rewards, dtype=torch.float64).view(3, 4).std(dim=1).tolist()
    assert group_spread(rewards, 4) == pytest.approx(expected)
    assert group_spread([5.0], 1) == [0.0]
