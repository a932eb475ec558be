"""Modules of the published package, which imports more than its numbers need."""

import importlib
import os
import sys
import types

import numpy as np
import pytest
import torch


def published(name: str) -> types.ModuleType:
    """Module ``name`` of depth_anything_3; skips the test where the package is absent.

    What it imports for video, export and image files alone need not be installed.
    """
    pytest.importorskip("depth_anything_3", reason="parity needs the package depth-anything-3")
    os.environ["DA3_LOG_LEVEL"] = "ERROR"  # it prints at every call
    with pytest.MonkeyPatch.context() as patch:
        for stand_in in (*_torchvision(), types.ModuleType("imageio"), _export()):
            try:
                importlib.import_module(stand_in.__name__)
            except ImportError:
                patch.setitem(sys.modules, stand_in.__name__, stand_in)
        return importlib.import_module(name)


def _export() -> types.ModuleType:
    module = types.ModuleType("depth_anything_3.utils.export")
    module.export = None
    return module


class _Normalize:
    def __init__(self, mean: list[float], std: list[float]):
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std


def _torchvision() -> tuple[types.ModuleType, types.ModuleType]:
    """The two transforms that the preprocessing of equally large images takes from torchvision."""
    transforms = types.ModuleType("torchvision.transforms")
    transforms.ToTensor = lambda: lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    transforms.Normalize = _Normalize
    package = types.ModuleType("torchvision")
    package.transforms = transforms
    return package, transforms
