"""The node without a network, for measurements: ``python -m da3_ros.ros.idle_node --ros-args ...``.

It answers every set at once with outputs of the size that the network would have, so that what it costs is transport:
taking images, matching them, copying them once as an upload does, making messages and publishing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from da3_ros.config import Config, PointsConfig
from da3_ros.datatypes import (
    CameraCalibration,
    CameraOutput,
    Estimate,
    FrameSet,
    OutputRequest,
    PointBuffer,
    ScaleEstimate,
    ViewEstimate,
)
from da3_ros.geometry.staging import UploadRing
from da3_ros.geometry.views import plan_views
from da3_ros.ros.node import Da3Node
from da3_ros.ros.process import end_process, run
from da3_ros.streaming.transfer import pack, unpack


class _Answer:
    """An estimate that is there."""

    def __init__(self, estimate: Estimate):
        self._estimate = estimate

    def wait(self) -> None:
        """Nothing to wait for."""

    def result(self) -> Estimate:
        """The estimate."""
        return self._estimate


class IdlePipeline:
    """An ``engine.StepPipeline`` that computes nothing; its depth is 1 and its poses are the identity."""

    skipped = 0
    warms_up = False

    def __init__(self, config: Config):
        self._config = config
        self._ring = UploadRing(torch.device("cpu"))
        self._steps = 0
        self._size_hw: tuple[int, int] | None = None
        self.description: Mapping[str, Any] = {
            "variant": "none",
            "weights_trained": False,
            "device": "none",
        }

    def warm_up(self, calibrations: Mapping[str, CameraCalibration]) -> None:
        """There is nothing to compile."""

    def submit(self, frame_set: FrameSet, request: OutputRequest) -> _Answer:
        """Copy the images, and answer with what is requested."""
        with self._ring.upload([frame.image for frame in frame_set.frames]):
            pass
        if self._size_hw is None:
            self._allocate(frame_set)
        assert self._size_hw is not None
        self._steps += 1
        arrays = self._arrays
        views, outputs = [], []
        for index, frame in enumerate(frame_set.frames):
            place = frame.camera, frame.stamp_ns, frame.frame_id
            views.append(ViewEstimate(*place, True, index == 0, np.eye(4), self._size_hw, np.eye(3), np.eye(3), 1.0))
            outputs.append(
                CameraOutput(
                    *place,
                    np.eye(3),
                    self._size_hw,
                    arrays[f"depth/{frame.camera}"] if frame.camera in request.depth else None,
                    arrays[f"confidence/{frame.camera}"] if frame.camera in request.confidence else None,
                    PointBuffer(arrays[f"points/{frame.camera}"], frame.frame_id, False)
                    if frame.camera in request.points
                    else None,
                    dynamic=arrays[f"dynamic/{frame.camera}"] if frame.camera in request.dynamic else None,
                )
            )
        merged = PointBuffer(arrays["points"], self._config.frames.odom, True) if request.merged_points else None
        return _Answer(
            Estimate(frame_set.stamp_ns, self._steps, tuple(views), tuple(outputs), None, ScaleEstimate(), merged)
        )

    def _allocate(self, frame_set: FrameSet) -> None:
        """Outputs of the size that the network's would have, cameras without calibration assumed."""
        model = self._config.model
        sizes = {frame.camera: (frame.size_hw, None) for frame in frame_set.frames}
        plan = next(iter(plan_views(sizes, model.process_res, {}, model.process_res_method).values()))
        _, _, height, width = plan.view.content
        self._size_hw = height, width
        cameras = self._config.cameras
        outputs = {"points": torch.ones((1, height * width * len(cameras), 16), dtype=torch.uint8)}
        for camera in cameras:
            outputs[f"depth/{camera}"] = outputs[f"confidence/{camera}"] = torch.ones((height, width))
            outputs[f"dynamic/{camera}"] = torch.zeros((height, width), dtype=torch.uint8)
            outputs[f"points/{camera}"] = torch.ones((height, width, 16), dtype=torch.uint8)
        # As they come from a GPU, with room for what messages have about them.
        packed, places = pack(outputs)
        self._arrays = unpack(packed.numpy(), places)

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Poses do not matter here."""

    def map_snapshot(self) -> None:
        """There is no map."""

    def update_points(self, points: PointsConfig) -> None:
        """Nor do settings of clouds."""

    def reset(self) -> None:
        """There is no window."""

    def close(self) -> None:
        """There is nothing to release."""


if __name__ == "__main__":
    end_process(run(lambda: Da3Node(IdlePipeline)))
