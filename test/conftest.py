"""What holds for every test."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers of this folder, under any import mode of pytest

# The tests' networks are small, and processes that share the cores waste more on each other's spinning threads than
# a second thread gains: one thread here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip what needs a package that is not there, before any fixture of it does work."""
    for mark in item.iter_markers("optional"):
        pytest.importorskip(mark.args[0], reason=f"needs the package {mark.args[0]}: make test-optional")


@pytest.fixture
def exact_products():
    """fp32 convolutions on CUDA without the shorter mantissa of TF32, for comparison with other runs."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def thin(monkeypatch):
    """da3-small with the layers that it has, but a sixth of its channels: for tests of what surrounds it."""
    from da3_ros.model import VARIANTS

    small = replace(VARIANTS["da3-small"], dim=64, features=16, out_channels=(8, 8, 16, 16))
    monkeypatch.setitem(VARIANTS, "da3-small", small)
