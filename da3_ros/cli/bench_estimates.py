"""Estimates for benchmarks of what is made of them."""

from __future__ import annotations

import numpy as np
import torch

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import (
    CameraOutput,
    Estimate,
    PointBuffer,
    ScaleEstimate,
    TrackingEstimate,
    ViewEstimate,
)
from da3_ros.streaming.transfer import pack, unpack

FIRST_NS = 10**18  # stamp of the first set
_POINT_BYTES = 16
_STEP_NS = 33_333_333


class EstimatesOfSets:
    """Estimates one after the other, all outputs of all cameras among them, as they come from a GPU.

    ``names`` of the cameras, ``sets`` of images in the window, ``size_hw`` of depth. As many as ``memories`` in a row
    lie in memory of their own: new values are in no cache of the processor.
    """

    def __init__(self, names: tuple[str, ...], sets: int, size_hw: tuple[int, int], memories: int = 1):
        self.config = from_flat({"cameras": names}, Config)
        self._names, self._sets, self._size_hw = names, sets, size_hw
        height, width = size_hw
        cloud = torch.zeros((height, width, _POINT_BYTES), dtype=torch.uint8)
        tensors = {"points": cloud.view(1, -1, _POINT_BYTES).repeat(1, len(names), 1)}
        for name in names:
            tensors |= {f"depth/{name}": torch.ones(size_hw), f"confidence/{name}": torch.ones(size_hw)}
            tensors |= {f"points/{name}": cloud, f"dynamic/{name}": torch.zeros(size_hw, dtype=torch.uint8)}
        packed, places = pack(tensors)
        self._arrays = [unpack(packed.numpy().copy(), places) for _ in range(memories)]

    def estimate(self, number: int) -> Estimate:
        """That of the set with this number."""
        newest_ns, K = FIRST_NS + number * _STEP_NS, np.eye(3)
        arrays = self._arrays[number % len(self._arrays)]
        views: list[ViewEstimate] = []
        outputs = []
        for age in reversed(range(self._sets)):
            for name in self._names:
                place = name, newest_ns - age * _STEP_NS, f"{name}_optical_frame"
                views.append(ViewEstimate(*place, age == 0, not views, np.eye(4), self._size_hw, K, K, 2.0))
                if age == 0:
                    points = PointBuffer(arrays[f"points/{name}"], place[2], dense=False)
                    maps = arrays[f"depth/{name}"], arrays[f"confidence/{name}"]
                    outputs.append(
                        CameraOutput(*place, K, self._size_hw, *maps, points, dynamic=arrays[f"dynamic/{name}"])
                    )
        off = dict.fromkeys(self._names, 0.01)
        return Estimate(
            newest_ns, number, tuple(views), tuple(outputs), np.eye(4), ScaleEstimate("rig", 1.0, 0.01),
            PointBuffer(arrays["points"], self.config.frames.odom, dense=True),
            tracking=TrackingEstimate("tracking", False, np.eye(6), misfit_rad=off, misfit_m=off),
        )  # fmt: skip
