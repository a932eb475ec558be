"""Regions: compiled once for all layers of a kind, and never unless that is asked for."""

import torch
from model_helpers import SHRUNKEN, make_images, make_network, scaled_error
from torch._dynamo.utils import counters

from da3_ros.model.regions import compiled_regions


def compiled(run, new=True):
    """What ``run`` gives with compiled regions, and how many artefacts were made."""
    before = counters["stats"]["unique_graphs"]
    with compiled_regions(new=new, backend="eager"):
        result = run()
    return result, counters["stats"]["unique_graphs"] - before


def test_layers_of_a_kind_share_what_is_compiled():
    """24 layers of three kinds (before the views meet, within and across), and everything around them."""
    torch._dynamo.reset()
    model, images = make_network(SHRUNKEN["large"]), make_images(3, 28, 42)
    model.prepare(28, 42)
    expected = model(images)
    found, made = compiled(lambda: model(images))
    assert scaled_error(found.depth, expected.depth) < 1e-6 and torch.equal(found.intrinsics, expected.intrinsics)
    assert made <= 12
    assert compiled(lambda: model(images))[1] == 0


def test_nothing_is_compiled_unless_asked_for():
    """Other shapes run as they are where compiling would keep somebody waiting."""
    torch._dynamo.reset()
    model = make_network(SHRUNKEN["base"])
    compiled(lambda: model(make_images(2, 28, 42)))
    images = make_images(4, 28, 42)
    found, made = compiled(lambda: model(images), new=False)
    assert made == 0
    assert torch.equal(found.depth, model(images).depth)
    before = counters["stats"]["unique_graphs"]
    model(make_images(5, 28, 42))
    assert counters["stats"]["unique_graphs"] == before
