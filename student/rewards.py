"""The reward of one explanation, from log-probabilities alone (method.md 3; arXiv 2506.08388, equations 2 to 5).

    r    = ss_weight * rSS - kl_weight * rKL - unclosed_penalty * [no end tag]
    rSS  = mean_s log pi_S(s | q, t) + ss_min_weight * min_s log pi_S(s | q, t)
    rKL  = mean_t KL_t               + kl_max_weight * max_t KL_t
    KL_t ~ KL( pi_T(. | q, s, t_<j) || pi_S(. | q, t_<j) )

Pure functions of 1-D tensors: S solution tokens, E explanation tokens, natural logarithms, fp32. Where the
log-probabilities come from is scoring/'s and the trainer's business. Every degenerate input has a stated reward:

    no end tag            scored as if closed, and unclosed_penalty is taken off (the reference's 1.0)
    empty explanation     mean and max KL count as 1 nat each, as in the reference: 3.03 with the paper's weights
    empty solution        mean and min log-probability count as -1 nat each
    cut to fit            scored as far as it fits, and charged like a missing end tag
    no teacher            rKL is left out (None) and the reward is that of rSS
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from student.configs import KlEstimator, RewardConfig
from student.errors import ScoringError
from student.explanations import Score

EMPTY_SPAN_NATS = 1.0
"""What each statistic of an empty span costs: the reference counts every NaN as one."""


def sampled_kl(teacher_E: Tensor, student_E: Tensor) -> Tensor:
    """k1, nats, shape (E,): log pi_T(t) - log pi_S(t). Unbiased; a single token may be negative. The paper's choice.

    >>> sampled_kl(torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -1.0]))
    tensor([ 2., -1.])
    """
    return teacher_E - student_E


def positive_kl(teacher_E: Tensor, student_E: Tensor) -> Tensor:
    """k3, nats, shape (E,): k - 1 + exp(-k) with k the sampled log ratio. Never negative (Schulman, 2020).

    >>> positive_kl(torch.tensor([-1.0]), torch.tensor([-1.0]))
    tensor([0.])
    """
    ratio_E = teacher_E - student_E
    return ratio_E + torch.expm1(-ratio_E)


ESTIMATORS: dict[KlEstimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": sampled_kl, "k3": positive_kl}
"""Per-token KL from the sampled tokens' log-probabilities; `exact` is scoring.scorer.logps_and_exact_kl's."""


def understanding(solution_logp_S: Tensor) -> tuple[float, float]:
    """Mean and minimum log-probability of the solution, nats: how well, and how badly at worst, it is understood.

    >>> understanding(torch.tensor([-1.0, -3.0]))
    (-2.0, -3.0)
    >>> understanding(torch.tensor([]))
    (-1.0, -1.0)
    """
    if not solution_logp_S.numel():
        return -EMPTY_SPAN_NATS, -EMPTY_SPAN_NATS
    logp_S = _finite(solution_logp_S, "the student's log-probabilities of the solution")
    return logp_S.mean().item(), logp_S.min().item()


def implausibility(kl_E: Tensor) -> tuple[float, float]:
    """Mean and maximum KL of the explanation's tokens, nats: how far it strays from what a student would write.

    >>> implausibility(torch.tensor([0.5, 1.5]))
    (1.0, 1.5)
    >>> implausibility(torch.tensor([]))
    (1.0, 1.0)
    """
    if not kl_E.numel():
        return EMPTY_SPAN_NATS, EMPTY_SPAN_NATS
    nats_E = _finite(kl_E, "the KL between teacher and student")
    return nats_E.mean().item(), nats_E.max().item()


def _finite(values: Tensor, name: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise ScoringError(f"{name} are not finite; a model is broken, or overflows in float16: load it in bfloat16")
    return values.double()


def score_explanation(
    solution_logp_S: Tensor, kl_E: Tensor | None, config: RewardConfig, *, closed: bool = True, cut_tokens: int = 0
) -> Score:
    """The reward and its parts; `kl_E` is None where there is no teacher to compare with.

    >>> paper = RewardConfig()
    >>> score = score_explanation(torch.tensor([-1.0]), torch.tensor([0.5]), paper)
    >>> round(score.reward, 4)  # -(1 + 0.01) - 3 (0.5 + 0.005)
    -2.525
    >>> empty = score_explanation(torch.tensor([-1.0]), torch.tensor([]), paper, closed=False)
    >>> round(empty.reward, 4), empty.notes  # -1.01 - 3.03 - 1
    (-5.04, ('empty explanation', 'no end tag'))
    """
    ss_mean, ss_min = understanding(solution_logp_S)
    rss = ss_mean + config.ss_min_weight * ss_min
    kl_mean, kl_max = (None, None) if kl_E is None else implausibility(kl_E)
    rkl = None if kl_mean is None or kl_max is None else kl_mean + config.kl_max_weight * kl_max
    penalty = config.unclosed_penalty * (not closed or cut_tokens > 0)
    return Score(
        reward=config.ss_weight * rss - (0.0 if rkl is None else config.kl_weight * rkl) - penalty,
        rss=rss,
        ss_mean=ss_mean,
        ss_min=ss_min,
        rkl=rkl,
        kl_mean=kl_mean,
        kl_max=kl_max,
        unclosed_penalty=penalty,
        notes=_notes(solution_logp_S, kl_E, closed, cut_tokens),
    )


def _notes(solution_logp_S: Tensor, kl_E: Tensor | None, closed: bool, cut_tokens: int) -> tuple[str, ...]:
    found = {
        "empty solution": not solution_logp_S.numel(),
        "empty explanation": kl_E is not None and not kl_E.numel(),
        "no end tag": not closed,
        f"cut by {cut_tokens} tokens to fit the student": cut_tokens > 0,
    }
    return tuple(note for note, holds in found.items() if holds)


def group_spread(rewards: Sequence[float], group_size: int) -> list[float]:
    """Standard deviation of the reward inside each group of explanations of one problem (unbiased; 0 for groups of 1).

    >>> group_spread([1.0, 3.0, 2.0, 2.0], 2)
    [1.4142135623730951, 0.0]
    """
    groups = [rewards[start : start + group_size] for start in range(0, len(rewards), group_size)]
    return [_deviation(group) for group in groups]


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
