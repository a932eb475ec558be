"""Learning rate, clipping, and the running mean."""

import math

import pytest
import torch
from torch import nn

from da3_ros.model import VARIANTS
from da3_ros.training.initial import initial_network
from da3_ros.training.muon import Muon
from da3_ros.training.optim import RunningMean, Schedule, Stepper, make_optimizers


def test_schedule():
    rate = Schedule(peak=1.0, warmup=10, decay_start=50, steps=90, final=0.1)
    assert [rate(0), rate(4), rate(9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate(10) == rate(49) == 1.0
    assert rate(70) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert rate(90) == pytest.approx(0.1) == rate(1000)
    assert all(rate(step) >= rate(step + 1) for step in range(10, 90))


def stepper(clip=1.0, **options):
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(1.0)
    return layer, Stepper(make_optimizers(layer, **{"weight_decay": 0.0, **options}), clip)


def give(layer, weight, bias):
    layer.weight.grad.copy_(torch.tensor([weight]))
    layer.bias.grad.copy_(torch.tensor([bias]))


def test_gradients_are_clipped_together():
    """Norm 5 clipped to 1: Adam's first moment is 0.1 of the clipped gradient."""
    layer, one = stepper()
    give(layer, [3.0, 0.0], 4.0)
    assert one.step(0.01).item() == pytest.approx(5.0)
    assert one.optimizers[0].state[layer.weight]["exp_avg"][0, 0].item() == pytest.approx(0.1 * 0.6)
    assert one.optimizers[0].state[layer.bias]["exp_avg"].item() == pytest.approx(0.1 * 0.8)
    small, two = stepper()
    give(small, [0.3, 0.0], 0.4)
    two.step(0.01)
    assert two.optimizers[0].state[small.weight]["exp_avg"][0, 0].item() == pytest.approx(0.1 * 0.3)


def test_a_broken_batch_changes_nothing():
    layer, one = stepper()
    give(layer, [math.nan, 0.0], 1.0)
    assert math.isnan(one.step(0.01).item())
    assert layer.weight.tolist() == [[1.0, 1.0]] and layer.bias.tolist() == [1.0]
    give(layer, [1.0, 0.0], 0.0)
    one.step(0.01)
    assert layer.weight[0, 0].item() == pytest.approx(0.99, abs=1e-5)


def test_weight_decay_spares_biases():
    layer, one = stepper(weight_decay=0.5)
    give(layer, [0.0, 0.0], 0.0)
    one.step(0.1)
    assert layer.weight[0].tolist() == pytest.approx([0.95, 0.95]) and layer.bias.tolist() == [1.0]


def test_the_camera_decoder_learns_at_a_pace_of_its_own():
    network = initial_network(VARIANTS["da3-nano"], 0, torch.device("cpu"))
    one = Stepper(make_optimizers(network, 0.05), clip=1.0)
    paces = {id(p): group["pace"] for each in one.optimizers for group in each.param_groups for p in group["params"]}
    slow = {name for name, p in network.named_parameters() if paces[id(p)] < 1}
    assert slow == {name for name, _ in network.named_parameters() if name.startswith("cam_dec.")}
    muon = next(each for each in one.optimizers if isinstance(each, Muon))
    turned = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in turned and name.startswith("cam_dec.")}
    assert names == {"cam_dec.backbone.0.weight", "cam_dec.backbone.2.weight"}


def test_running_mean():
    layer, _ = stepper()
    mean = RunningMean(layer, 0.5)
    with torch.no_grad():
        layer.bias.fill_(2.0)
    mean.update(0)                              # at first over few steps: (1 + 0) / (10 + 0) of the old
    assert mean.weights["bias"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    mean.update(1000)
    assert mean.weights["bias"].item() == pytest.approx(0.5 * 1.9 + 0.5 * 2)
