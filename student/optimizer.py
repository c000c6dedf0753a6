"""Muon for the hidden matrices and AdamW for everything else, as one optimizer that saves and resumes; the schedule.

Muon (https://kellerjordan.github.io/posts/muon/) steps along the orthogonalised momentum of a matrix. A small model
learns the toy world's step table with it in 160 steps and with AdamW alone not in 600. Left out: sharded training.
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from student.configs import SftConfig


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trainable matrices inside `model`'s blocks: two axes, and neither embedding nor output head."""
    ends = {
        id(parameter)
        for module in (getattr(model, name)() for name in ("get_input_embeddings", "get_output_embeddings"))
        if module is not None
        for parameter in module.parameters()
    }
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in ends]


class MuonAdamW(Optimizer):
    """torch.optim.Muon over `matrices` and AdamW over `others`, with one state and one list of groups between them.

    The groups (Muon's; AdamW's tables, with weight decay; its vectors, without) are the two optimizers' own
    dictionaries, so a scheduler that sets `group["lr"]` reaches them.
    """

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter], config: SftConfig) -> None:
        self.muon = Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay)
        decay = {True: config.weight_decay, False: 0.0}
        self.adamw = AdamW(
            [{"params": [p for p in others if (p.ndim > 1) is big], "weight_decay": decay[big]} for big in decay],
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            fused=True,
        )
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self.muon.state = self.adamw.state = self.state

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both; gradients must be there already."""
        assert closure is None, "the trainer computes gradients before the step"
        self.muon.step()
        self.adamw.step()
        return None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Both optimizers as they were saved."""
        super().load_state_dict(state_dict)
        self._share()


def schedule_factor(step: int, steps: int, config: SftConfig) -> float:
    """What the peak learning rate is multiplied by in step `step` (from 0) of `steps`.

    It rises linearly over the first `warmup_fraction` of the steps, to 1 in the last of them; then, with p the share
    done of the rest: cosine (1 + cos pi p) / 2, linear 1 - p, constant 1, stable_decay min(1, share of all steps that
    is left / 0.4).

    >>> [schedule_factor(step, 10, SftConfig(schedule="linear", warmup_fraction=0.2)) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    >>> [schedule_factor(step, 10, SftConfig(schedule="stable_decay", warmup_fraction=0)) for step in (0, 6, 8)]
    [1.0, 1.0, 0.5]
    """
    warmup = math.ceil(config.warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    factors = {
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "linear": 1 - done,
        "constant": 1.0,
        "stable_decay": min(1.0, (steps - step) / (0.4 * steps)),
    }
    return max(0.0, factors[config.schedule])


def make_optimizer(model: nn.Module, config: SftConfig) -> MuonAdamW:
    """The optimizer of `optimizer = "muon"` for `model`."""
    matrices = hidden_matrices(model)
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    return MuonAdamW(matrices, others, config)
