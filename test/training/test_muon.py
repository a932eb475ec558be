"""Muon against the one that torch has, and what it leaves alone."""

import pytest
import torch
from torch import nn

from da3_ros.training.muon import Muon, orthogonal
from da3_ros.training.optim import Stepper, make_optimizers


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_steps_are_those_of_torch():
    torch.manual_seed(0)
    start = [torch.randn(8, 12), torch.randn(8, 12), torch.randn(20, 5)]
    ours, theirs = ([nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    one = Muon([{"params": ours, "lr": torch.tensor(0.02), "weight_decay": 0.1}])
    other = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b - before).norm()
        assert moved > 0.05
        assert (a - b).norm() < 0.05 * moved      # the iterations run in bfloat16


def test_updates_turn_all_directions_alike():
    """A matrix with singular values over four orders of magnitude comes out with all of them near one."""
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(16, 16)).Q for _ in range(2))
    values = torch.linalg.svdvals(orthogonal((u * torch.logspace(0, -1.5, 16)) @ v.mT).float())
    assert 0.3 < values.min() and values.max() < 1.3


def test_a_broken_batch_changes_no_matrix():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Module()
            self.backbone.pretrained = nn.Module()
            self.backbone.pretrained.blocks = nn.ModuleList([nn.Linear(6, 6)])

    network = Layers()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    stepper = Stepper(make_optimizers(network, 0.1), clip=1.0)
    assert {type(one).__name__ for one in stepper.optimizers} == {"Muon", "AdamW"}
    stepper.gradient[3] = torch.inf
    stepper.step(0.1)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    stepper.gradient.normal_()
    stepper.step(0.1)
    assert not any(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert not stepper.gradient.any()
