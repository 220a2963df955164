"""Muon for the decoder's matrices beside AdamW: one optimizer to schedulers and saved states."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from train.sft.muon import MuonWithAdamW
from train.sft.optimizer import Optimizer


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(Decoder())
    return model, Optimizer(lr=1e-2, muon_lr=2e-2).build(model.named_parameters())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    x = torch.linspace(-1, 1, 64 * 8).reshape(64, 8)
    wanted = x[:, :1]
    for _ in range(steps):
        loss = (model(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_matrices_of_layers_are_muons_and_everything_else_is_adamws():
    model, optimizer = made()
    assert isinstance(optimizer, MuonWithAdamW)
    assert [(len(group["params"]), group["lr"]) for group in optimizer.param_groups] == [
        (2, 2e-2),
        (3, 1e-2),
        (1, 1e-2),
    ]
    train(model, optimizer, 1)
    moments = [set(optimizer.state[weight]) for group in optimizer.param_groups for weight in group["params"]]
    assert moments[:2] == [{"momentum_buffer"}] * 2 and all("exp_avg" in names for names in moments[2:])


def test_it_learns_and_a_scheduler_sets_both_rates():
    model, optimizer = made()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 100) < first / 2
    scheduler.step()
    before = [weight.clone() for weight in model.parameters()]
    train(model, optimizer, 1)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_loaded_state_goes_on_as_if_nothing_had_been_interrupted():
    model, optimizer = made()
    train(model, optimizer, 5)
    weights, state = (
        {name: value.clone() for name, value in model.state_dict().items()},
        deepcopy(optimizer.state_dict()),
    )
    whole = train(model, optimizer, 5)
    again, other = made()
    again.load_state_dict(weights)
    other.load_state_dict(state)
    assert train(again, other, 5) == pytest.approx(whole, rel=1e-6)
