"""Gain is the mean of the differences, summed in float64; without a token there is none."""

import pytest
import torch

from student.errors import ScoringError
from student.measures.gain import solution_gain


def test_gain_is_the_mean_difference_a_token() -> None:
    # (-0.5 + 2) + (-3 + 1) + (-0.25 + 0.25) = -0.5; over 3 tokens
    gain = solution_gain(torch.tensor([-0.5, -3.0, -0.25]), torch.tensor([-2.0, -1.0, -0.25]))
    assert gain == pytest.approx(-0.5 / 3, abs=1e-12)


def test_a_solution_without_tokens_gains_nothing_that_could_be_named() -> None:
    with pytest.raises(ScoringError, match="no tokens"):
        solution_gain(torch.empty(0), torch.empty(0))
