"""The robot's own odometry in a recording: where the base was at any stamp, as the node asks tf2 for it."""

from __future__ import annotations

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw, quat_xyzw_from_matrix
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, TransformTree, matrix_from_transform


class OdometryHistory:
    """All transforms odom -> base of ``bag``, or odom -> a frame to which ``static`` connects the base.

    Read at once, for those of an image's stamp may come after it: some 100 bytes each.
    """

    def __init__(self, bag: Bag, frames: FramesConfig, static: TransformTree):
        self._frames = frames
        found: dict[str, dict[int, np.ndarray]] = {}
        for name, topic in bag.topics.items():
            if topic.type not in TRANSFORM_TYPES or name.rpartition("/")[2] == STATIC_TOPIC:
                continue
            for entry in bag.messages([name]):
                for stamped in entry.message.transforms:
                    if stamped.header.frame_id.lstrip("/") == frames.odom:
                        stamp = stamped.header.stamp
                        T = matrix_from_transform(stamped.transform)
                        pose = np.concatenate([T[:3, 3], quat_xyzw_from_matrix(T)])
                        child = stamped.child_frame_id.lstrip("/")
                        found.setdefault(child, {})[stamp.sec * 1_000_000_000 + stamp.nanosec] = pose
        self._T_child_base = np.eye(4)
        self._stamps = np.empty(0, dtype=np.int64)
        self._poses = np.empty((0, 7))
        for child, poses in found.items():
            T_child_base = static.lookup(child, frames.base)
            if T_child_base is not None:
                self._T_child_base = T_child_base
                self._stamps = np.array(sorted(poses), dtype=np.int64)
                self._poses = np.stack([poses[stamp] for stamp in self._stamps.tolist()])

    def at(self, stamp_ns: int) -> np.ndarray | str:
        """T_odom_base (4, 4) at ``stamp_ns``, interpolated and never extrapolated, or why it is not known."""
        if not len(self._stamps):
            return f"the recording has no transform {self._frames.odom} -> {self._frames.base}"
        after = int(np.searchsorted(self._stamps, stamp_ns))
        if after == len(self._stamps) or (after == 0 and self._stamps[0] != stamp_ns):
            first, last = self._stamps[0] / 1e9, self._stamps[-1] / 1e9
            return f"the recording has it from {first:.3f} to {last:.3f} s, and asked for is {stamp_ns / 1e9:.3f} s"
        before = max(after - 1, 0)
        length = int(self._stamps[after] - self._stamps[before])
        share = (stamp_ns - int(self._stamps[before])) / length if length else 1.0
        a, b = self._poses[before], self._poses[after]
        rotation = matrix_from_quat_xyzw(_slerp(a[3:], b[3:], share))
        return T_from(rotation, (1 - share) * a[:3] + share * b[:3]) @ self._T_child_base


def _slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """The quaternion ``share`` of the way from ``a`` to ``b`` along the shorter arc."""
    cosine = float(a @ b)
    b, cosine = (-b, -cosine) if cosine < 0 else (b, cosine)
    angle = np.arctan2(np.linalg.norm(b - cosine * a), cosine)
    if angle < 1e-9:
        return b
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
