"""How much likelier the solution becomes by the explanation, to a student.

    gain = mean over solution tokens s of ( log p(s | question, explanation) - log p(s | question) )

Nats a token at temperature 1, so that the figures of two runs compare whatever temperature their rewards have. The
reward sees only the first term: a solution that the student finds easy anyway scores well after any text, and gains
nothing. Below 0 the explanation did harm. Left out: what a single piece of the explanation adds, see steps.py.
"""

from torch import Tensor

from student.errors import ScoringError


def solution_gain(informed_S: Tensor, blind_S: Tensor) -> float:
    """Nats a solution token that the explanation saves the student.

    Both hold log p(token | prefix), natural log; place s is the same solution token in each. Mean, not sum: the
    data set chose the solution's length. Raises ScoringError where there is no token: its mean would be 0/0.

    >>> import torch
    >>> solution_gain(torch.tensor([-1.0, -2.0]), torch.tensor([-4.0, -1.0]))
    1.0
    """
    assert len(informed_S) == len(blind_S), "one solution, read twice"
    if not len(informed_S):
        raise ScoringError("the solution has no tokens, so nothing can be gained; leave the row out")
    return (informed_S.double() - blind_S.double()).mean().item()
