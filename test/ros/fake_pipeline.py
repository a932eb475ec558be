"""A pipeline without a network: every value that it returns is known, so tests can follow it through the topics."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from da3_ros.config import Config, PointsConfig
from da3_ros.datatypes import (
    CameraOutput,
    Estimate,
    FrameSet,
    MapEstimate,
    MapReport,
    OutputRequest,
    PointBuffer,
    ScaleEstimate,
    ViewEstimate,
)

# Published size and intrinsics, whatever comes in.
HEIGHT, WIDTH = 6, 8
K = np.array([[5.0, 0.0, 3.5], [0.0, 6.0, 2.5], [0.0, 0.0, 1.0]])


def depth_of(index: int) -> np.ndarray:
    """(H, W) float32: depth of the camera with this index, with one invalid and one far pixel."""
    depth = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH) + 100 * (index + 1)
    depth[0, 0], depth[0, 1] = np.nan, np.inf
    return depth


class FakePending:
    """A result that is there."""

    def __init__(self, estimate: Estimate):
        self._estimate = estimate

    def wait(self):
        pass

    def result(self) -> Estimate:
        return self._estimate


class FakePipeline:
    """Records its calls and the threads they came from. ``delay_s``: how long a step takes."""

    skipped = 0
    warms_up = False

    def __init__(self, config: Config):
        self.config = config
        self.description = {"variant": config.model.variant, "weights_trained": True, "device": "fake"}
        self.delay_s = 0.0
        self.pose_offset = 0.0
        self.warnings: dict[str, str] = {}
        self.error: BaseException | None = None
        self.calls: list[tuple] = []
        self.threads = {threading.current_thread().name}
        self.steps = 0
        self.map_points = None  # (n, 3); None: there is no map
        self.T_map_odom = np.eye(4)

    def _note(self, *call):
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def called(self, name: str) -> list[tuple]:
        """Arguments of the calls of ``name``, oldest first."""
        return [call[1:] for call in self.calls if call[0] == name]

    def set_rig(self, T_base_cam):
        self._note("set_rig", dict(T_base_cam))

    def warm_up(self, calibrations):
        self._note("warm_up", dict(calibrations))

    def update_points(self, points: PointsConfig):
        self._note("update_points", points)

    def reset(self):
        self.steps = 0
        self._note("reset")

    def map_snapshot(self):
        if self.map_points is None:
            return None
        from da3_ros.tracking.voxel_map import VoxelMap  # torch: seconds to import

        points = VoxelMap(0.1, 1000)
        points.add(self.map_points, np.full((len(self.map_points), 3), 200, np.uint8), np.ones(len(self.map_points)))
        coming = Future()
        coming.set_result(points)
        return coming

    def close(self):
        self._note("close")

    def submit(self, frame_set: FrameSet, request: OutputRequest) -> FakePending:
        self._note("step", frame_set, request)
        time.sleep(self.delay_s)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.steps += 1
        cameras = self.config.cameras
        views, outputs = [], []
        for frame in frame_set.frames:
            index = cameras.index(frame.camera)
            T = np.eye(4)
            T[:3, 3] = index + 1.0 + self.pose_offset, 2.0, 3.0
            T[:3, :3] = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
            view = ViewEstimate(
                frame.camera, frame.stamp_ns, frame.frame_id, True, index == 0, T, (HEIGHT, WIDTH), K, K * 2.0, 1.5
            )
            if not self.config.model.has_poses:
                view = replace(view, T_odom_cam=None, K_predicted=None, median_confidence=float("nan"))
            views.append(view)
            cloud = np.arange(HEIGHT * WIDTH * 16, dtype=np.uint32).astype(np.uint8).reshape(HEIGHT, WIDTH, 16)
            outputs.append(
                CameraOutput(
                    frame.camera,
                    frame.stamp_ns,
                    frame.frame_id,
                    K,
                    (HEIGHT, WIDTH),
                    depth_of(index) if frame.camera in request.depth else None,
                    np.ones((HEIGHT, WIDTH), np.float32) if frame.camera in request.confidence else None,
                    PointBuffer(cloud, frame.frame_id, False) if frame.camera in request.points else None,
                    np.isinf(depth_of(index)).astype(np.uint8) * 255 if frame.camera in request.sky else None,
                    np.full((HEIGHT, WIDTH), 255, np.uint8) if frame.camera in request.dynamic else None,
                )
            )
        merged = np.zeros((1, 5, 16), np.uint8) if request.merged_points else None
        estimate = Estimate(
            stamp_ns=frame_set.stamp_ns,
            step=self.steps,
            views=tuple(views),
            outputs=tuple(outputs),
            T_odom_base=None,
            scale=ScaleEstimate(),
            mapping=MapEstimate(
                self.T_map_odom,
                MapReport(keyframes=3, loops=1),
                PointBuffer(np.zeros((1, 7, 16), np.uint8), "map", True) if request.map_points else None,
            ),
            merged_points=None if merged is None else PointBuffer(merged, "odom", True),
            warnings=self.warnings,
            timings_ms={"network": 1.0},
        )
        return FakePending(estimate)
