"""Fixtures of the tests of da3_ros.model."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

# For model_helpers and fake_hub, under any import mode of pytest.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model_helpers import Reference, build_reference, make_network

from da3_ros.model import Variant
from da3_ros.model.weights import Network


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)        # the networks are small, and a second thread waits badly on a busy machine
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def reference_net() -> Callable[..., nn.Module]:
    """Function that builds the reference's network of a variant on a device, "meta" included."""
    pytest.importorskip("depth_anything_3", reason="parity needs the package depth-anything-3")
    return build_reference


@pytest.fixture(scope="session")
def pair(reference_net: Callable[..., nn.Module]) -> Callable[[Variant], tuple[Network, Reference]]:
    """Function that gives our network of a variant and the reference's with the same random weights."""

    @functools.cache
    def make(variant: Variant) -> tuple[Network, Reference]:
        model = make_network(variant)
        return model, Reference(reference_net(variant), model)

    return make
