"""Windows of views from recordings, with the depth that was measured where the recording has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.errors import InputError
from da3_ros.geometry.image import ImagePreparer, plan_views
from da3_ros.geometry.views import Resampling, ViewPlan
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import IMAGE
from da3_ros.ingest.from_msg import as_bytes, stamp_from_header
from da3_ros.replay.config import replay_config
from da3_ros.replay.estimates import BagReplay, Boundary

_DEPTH_ENCODINGS = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 1e-3), "mono16": (np.uint16, 1e-3)}
_SAME_MOMENT_NS = 20_000_000    # most between a picture and its measured depth


@dataclass(frozen=True)
class Window:
    """N views of H x W pixels on the CPU. ``measured`` is z-depth in metres where ``known``."""

    images: Tensor          # (N, 3, H, W) uint8
    content: Tensor         # (N, H, W) bool: picture and not padding
    measured: Tensor        # (N, H, W)
    known: Tensor           # (N, H, W) bool
    K: Tensor               # (N, 3, 3), pixels from the corner; NaN for a camera without calibration


def read_windows(path: Path, topics: Sequence[str], sets: int, process_res: int) -> Iterator[Window]:
    """Consecutive windows of ``sets`` moments of all cameras of a recording, none of which share a picture.

    ``topics``: image topics; empty: all with pictures. A camera's measured depth is the depth topic that lies nearest
    to its image topic; it must be registered to the picture and have its size. Raises InputError for a recording
    without pictures, and for depth that is not usable.
    """
    bag = Bag([path])
    config = replay_config(bag, None, topics, {})
    images = {camera: config.image_topic(camera) for camera in config.cameras}
    depths = {camera: _Depths(bag, camera, topic) for camera, topic in _depth_topics(bag, images).items()}
    collector = _Collector()
    replay = BagReplay(bag, config, collector)
    maker: _WindowMaker | None = None
    moments: list[FrameSet] = []
    steps = replay.run(OutputRequest(), boundary=1)
    while (step := next(steps, None)) is not None or collector.sets:
        complete = [one for one in collector.sets if len(one.frames) == len(config.cameras)]
        collector.sets.clear()
        if step is not None and not isinstance(step, Boundary):
            moments.clear()         # time went back
        for one in complete:
            moments.append(one)
            if len(moments) == sets:
                frames = [frame for moment in moments for frame in moment.frames]
                maker = maker or _WindowMaker(frames, process_res)
                yield maker.make(frames, depths)
                moments.clear()


class _Collector:
    """Takes frame sets where replay expects the pipeline."""

    def __init__(self) -> None:
        self.sets: list[FrameSet] = []

    def submit(self, frame_set: FrameSet, request: OutputRequest) -> None:
        self.sets.append(frame_set)

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Of no use here."""

    def reset(self) -> None:
        """Nothing is kept."""


class _WindowMaker:
    """Frames to windows, all on one canvas."""

    def __init__(self, frames: Sequence[Frame], process_res: int):
        cameras = {frame.camera: (frame.size_hw, frame.calibration) for frame in frames}
        self._plans = plan_views(cameras, process_res, {})
        self._preparer = ImagePreparer(self._plans, "cpu")

    def make(self, frames: Sequence[Frame], depths: Mapping[str, _Depths]) -> Window:
        views = [self._plans[frame.camera].view for frame in frames]
        content = torch.zeros(len(frames), *views[0].canvas_hw, dtype=torch.bool)
        measured = torch.zeros(content.shape)
        for i, frame in enumerate(frames):
            top, left, height, width = views[i].content
            content[i, top : top + height, left : left + width] = True
            depth = depths[frame.camera].at(frame.stamp_ns) if frame.camera in depths else None
            if depth is not None:
                measured[i, top : top + height, left : left + width] = _on_view(depth, self._plans[frame.camera])
        K = torch.from_numpy(np.stack([view.K for view in views])).float()
        K[:, :2, 2] += 0.5          # from the first pixel's centre to the image's corner
        known = measured.isfinite() & (measured > 0)
        return Window(self._preparer.prepare(frames)[1].clone(), content, torch.where(known, measured, 0.0), known, K)


def _on_view(depth: np.ndarray, plan: ViewPlan) -> Tensor:
    """The measurements (h, w) nearest to the pixels of a view's content; mixing them would invent some."""
    if depth.shape != tuple(plan.input_hw) or not isinstance(plan.recipe, Resampling):
        raise InputError(
            f"depth of camera '{plan.view.camera}' is {depth.shape[1]}x{depth.shape[0]} and its picture "
            f"{plan.input_hw[1]}x{plan.input_hw[0]}{', distorted' if not isinstance(plan.recipe, Resampling) else ''}: "
            "record depth registered to the rectified picture"
        )
    top, left, height, width = plan.box
    rows = (top + (np.arange(plan.view.content[2]) + 0.5) * height / plan.view.content[2]).astype(int)
    columns = (left + (np.arange(plan.view.content[3]) + 0.5) * width / plan.view.content[3]).astype(int)
    rows, columns = rows.clip(0, depth.shape[0] - 1), columns.clip(0, depth.shape[1] - 1)
    return torch.from_numpy(depth[rows[:, None], columns])


class _Depths:
    """Measured depth of one camera by stamp, read along with its pictures."""

    def __init__(self, bag: Bag, camera: str, topic: str):
        self._camera = camera
        self._stream = bag.messages([topic])
        self._near: dict[int, Any] = {}

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Metres (H, W) at the moment nearest to ``stamp_ns``, NaN where unknown; None where there is none near it."""
        while not self._near or max(self._near) < stamp_ns + _SAME_MOMENT_NS:
            message = next(self._stream, None)
            if message is None:
                break
            self._near[stamp_from_header(message.message.header, self._camera)] = message.message
        self._near = {stamp: one for stamp, one in self._near.items() if stamp >= stamp_ns - _SAME_MOMENT_NS}
        best = min(self._near, key=lambda stamp: abs(stamp - stamp_ns), default=None)
        if best is None or abs(best - stamp_ns) > _SAME_MOMENT_NS:
            return None
        return self._metres(self._near[best])

    def _metres(self, message: Any) -> np.ndarray:
        kind, unit = _DEPTH_ENCODINGS[message.encoding]
        dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
        rows = as_bytes(message.data)[: message.height * message.step].reshape(message.height, message.step)
        values = np.ascontiguousarray(rows[:, : message.width * dtype.itemsize]).view(dtype).astype(np.float32)
        return np.where(np.isfinite(values) & (values > 0), values * unit, np.nan).astype(np.float32)


def _depth_topics(bag: Bag, images: Mapping[str, str]) -> dict[str, str]:
    """The depth topic of each camera that has one: that which shares the longest beginning with its image topic."""
    found: dict[str, str] = {}
    for name, topic in sorted(bag.topics.items()):
        if topic.type != IMAGE or name in images.values():
            continue
        first = next(iter(bag.messages([name])), None)
        if first is None or first.message.encoding not in _DEPTH_ENCODINGS:
            continue
        shared = {camera: _shared_levels(name, image) for camera, image in images.items()}
        camera = max(shared, key=shared.__getitem__)
        if shared[camera] and list(shared.values()).count(shared[camera]) == 1:
            found.setdefault(camera, name)
    return found


def _shared_levels(one: str, two: str) -> int:
    """Leading parts that two topic names have in common."""
    levels = zip(one.strip("/").split("/")[:-1], two.strip("/").split("/")[:-1], strict=False)
    count = 0
    for a, b in levels:
        if a != b:
            break
        count += 1
    return count
