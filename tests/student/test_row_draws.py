"""A row's draws are distributed as its scores say, and depend on its seed alone."""

import torch

from student.row_draws import RowDraws

CPU = torch.device("cpu")
P = torch.tensor([0.5, 0.3, 0.2, 0.0])


def draw(seeds: list[int], steps: int = 1) -> torch.Tensor:
    """The tokens drawn for a row a seed, shape (B, steps)."""
    draws, scores_BV = RowDraws(seeds, CPU), P.log().expand(len(seeds), -1)
    return torch.stack([draws(torch.zeros(len(seeds), 1), scores_BV).argmax(-1) for _ in range(steps)], dim=1)


def test_tokens_come_as_often_as_their_probability_says() -> None:
    drawn = torch.bincount(draw(list(range(100)), steps=100).flatten(), minlength=4) / 10_000
    # Four standard deviations of a share of 10,000 are 0.02 at most.
    assert (drawn - P).abs().max() < 0.02
    assert drawn[3] == 0


def test_what_a_row_draws_does_not_depend_on_the_rows_beside_it() -> None:
    together = draw([7, 8, 9], steps=20)
    assert torch.equal(together[1:], draw([8, 9], steps=20))
    assert not torch.equal(together[0], together[1])


def test_only_the_chosen_token_is_left() -> None:
    scores_BV = RowDraws([1, 2], CPU)(torch.zeros(2, 1), P.log().expand(2, -1))
    assert (scores_BV == 0).sum(dim=-1).tolist() == [1, 1]
    assert torch.isinf(scores_BV).sum(dim=-1).tolist() == [3, 3]
