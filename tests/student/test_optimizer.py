import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from student.configs import ModelSettings, SftConfig
from student.models import load_model
from student.optimizer import MuonAdamW, hidden_matrices, make_optimizer, schedule_factor


class Net(nn.Module):
    """An embedding, one hidden matrix with a bias, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def loss(self) -> torch.Tensor:
        tokens = torch.arange(5)
        return nn.functional.cross_entropy(self.head(torch.tanh(self.hidden(self.embedding(tokens)))), tokens.flip(0))


CONFIG = SftConfig(optimizer="muon", learning_rate=1e-2, muon_learning_rate=0.02, weight_decay=0.1, adam_beta2=0.95)


def take_steps(net: Net, optimizers: list[torch.optim.Optimizer], steps: int) -> None:
    for _ in range(steps):
        net.zero_grad()
        net.loss().backward()
        for optimizer in optimizers:
            optimizer.step()


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in net.parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_step_is_muons_on_hidden_matrices_and_adamws_on_the_rest() -> None:
    ours, theirs = Net(), Net()
    take_steps(ours, [make_optimizer(ours, CONFIG)], 3)
    tables = [theirs.embedding.weight, theirs.head.weight]
    by_hand = [
        Muon([theirs.hidden.weight], lr=0.02, weight_decay=0.1),
        AdamW(tables, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
        AdamW([theirs.hidden.bias], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    take_steps(theirs, by_hand, 3)
    assert equal(weights(ours), weights(theirs))
    assert not equal(weights(ours), weights(Net()))


def test_a_tied_head_is_no_hidden_matrix(tiny_model_folder: object) -> None:
    model = load_model(str(tiny_model_folder), ModelSettings(device="cpu"))
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)].split(".", 3)[-1] for weight in hidden_matrices(model)}
    projections = {f"self_attn.{letter}_proj.weight" for letter in "qkvo"}
    assert found == projections | {f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


def test_a_frozen_weight_is_in_no_group() -> None:
    net = Net()
    net.hidden.bias.requires_grad_(False)
    grouped = [weight for group in make_optimizer(net, CONFIG).param_groups for weight in group["params"]]
    assert len(grouped) == 3
    assert all(weight is not net.hidden.bias for weight in grouped)


def test_saved_and_loaded_it_goes_on_with_the_same_bits() -> None:
    whole, first = Net(), Net()
    take_steps(whole, [make_optimizer(whole, CONFIG)], 5)
    optimizer = make_optimizer(first, CONFIG)
    take_steps(first, [optimizer], 2)
    second = Net()
    second.load_state_dict(first.state_dict())
    resumed = make_optimizer(second, CONFIG)
    resumed.load_state_dict(optimizer.state_dict())
    take_steps(second, [resumed], 3)
    assert equal(weights(second), weights(whole))


def test_a_scheduler_reaches_both_before_and_after_loading() -> None:
    net = Net()
    optimizer = make_optimizer(net, CONFIG)
    restored = make_optimizer(net, CONFIG)
    restored.load_state_dict(optimizer.state_dict())
    for each in (optimizer, restored):
        assert isinstance(each, MuonAdamW)
        before = weights(net)
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: 0.0)
        take_steps(net, [each], 1)
        assert equal(weights(net), before)


def factors(steps: int, **settings: object) -> list[float]:
    config = SftConfig.model_validate(settings)
    return [round(schedule_factor(step, steps, config), 4) for step in range(steps)]


def test_schedules_by_hand() -> None:
    # 5 steps, 1 of warm-up (ceil .1 * 5), then p = 0, 1/4, 2/4, 3/4 of the way.
    assert factors(5, schedule="constant", warmup_fraction=0.1) == [1.0] * 5
    assert factors(5, schedule="linear", warmup_fraction=0.1) == [1.0, 1.0, 0.75, 0.5, 0.25]
    half = math.cos(math.pi / 4)
    cosine = [1.0, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert factors(5, schedule="cosine", warmup_fraction=0.1) == pytest.approx(cosine, abs=1e-4)
    # The last 4 of 10 steps fall from 1 by a quarter each.
    assert factors(10, schedule="stable_decay", warmup_fraction=0.0) == [1.0] * 7 + [0.75, 0.5, 0.25]
    assert factors(10, schedule="stable_decay", warmup_fraction=0.3)[:4] == [0.3333, 0.6667, 1.0, 1.0]


def test_after_the_last_step_the_factor_is_zero_not_negative() -> None:
    for schedule in ("linear", "cosine", "stable_decay"):
        for step in (10, 11):
            config = SftConfig.model_validate({"schedule": schedule})
            assert 0 <= schedule_factor(step, 10, config) < 0.05
