"""Majority voting, against cases worked by hand and every draw counted."""

import itertools
import random

import pytest

from student.votes import candidates, majority_at, majority_right


def test_equal_answers_have_one_candidate_and_none_has_no_vote() -> None:
    assert candidates([r"\boxed{\frac12}", "0.5", "so 1/3", None, "", "0.50"], "math") == [0, 0, 1, None, None, 0]


def test_a_box_is_the_vote_of_a_longer_solution() -> None:
    assert candidates([r"First 3, then \boxed{7}.", "7"], "exact") == [0, 0]


def test_the_commonest_answer_wins_and_a_tie_is_decided_by_chance() -> None:
    # 7 7 7 5 5: of all 5 drawn 7 wins. Of 2 drawn: {7,7} 3 of 10 right, {5,5} 1 wrong, {7,5} 6 ties: (3 + 3) / 10
    votes, right = [0, 0, 0, 1, 1], [True, True, True, False, False]
    assert majority_right(votes, right, 5) == 1
    assert majority_right(votes, right, 2) == pytest.approx(0.6)
    assert majority_right(votes, right, 1) == pytest.approx(0.6)


def test_who_states_nothing_does_not_vote_and_where_nobody_does_it_is_wrong() -> None:
    assert majority_right([None, None, None, 0], [False, False, False, True], 4) == 1
    assert majority_right([None, None, 0, 0], [False, False, True, True], 2) == pytest.approx(5 / 6)
    assert majority_right([None, None], [False, False], 2) == 0


def test_it_is_the_share_of_all_draws_in_which_the_winner_is_right() -> None:
    rng = random.Random(0)
    for _ in range(30):
        votes = [rng.randrange(3) for _ in range(6)]
        right = [vote == 0 for vote in votes]
        for k in range(1, 7):
            shares = []
            for draw in itertools.combinations(votes, k):
                most = max(draw.count(vote) for vote in draw)
                winners = {vote for vote in draw if draw.count(vote) == most}
                shares.append((0 in winners) / len(winners))
            assert majority_right(votes, right, k) == pytest.approx(sum(shares) / len(shares))


def test_many_draws_are_sampled_close_to_the_truth_and_the_same_twice() -> None:
    votes = [0] * 20 + [1] * 12
    right = [True] * 20 + [False] * 12
    sampled = majority_right(votes, right, 9)
    assert sampled == majority_right(votes, right, 9)
    # hypergeometric: P(at least 5 of 9 from 20 of 32) = 0.8174
    assert sampled == pytest.approx(0.8174, abs=0.03)


def test_figures_are_means_over_problems() -> None:
    groups = [["4", "4", "5"], ["1", "2", None]]
    grades = [[True, True, False], [False, True, False]]
    # 3 of 3: first right; second a tie of one right and one wrong
    assert majority_at(groups, grades, [1, 3], "exact") == {
        1: pytest.approx((2 / 3 + 1 / 3) / 2),
        3: pytest.approx(0.75),
    }
