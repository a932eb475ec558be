"""Poses over time: where something was at any moment between two that are known."""

from __future__ import annotations

import bisect

import numpy as np

from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw, quat_xyzw_from_matrix


class PoseHistory:
    """Poses (4, 4) by stamp, interpolated and never extrapolated; of the newest ``limit`` if given."""

    def __init__(self, limit: int | None = None):
        self._limit = limit
        self._stamps: list[int] = []
        self._poses: list[np.ndarray] = []  # x, y, z and the quaternion

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def span_ns(self) -> tuple[int, int]:
        """Stamps of the first and the last pose."""
        return self._stamps[0], self._stamps[-1]

    def add(self, stamp_ns: int, T: np.ndarray) -> None:
        """Another pose; one of the same stamp is replaced."""
        pose = np.concatenate([T[:3, 3], quat_xyzw_from_matrix(T)])
        index = bisect.bisect_left(self._stamps, stamp_ns)
        if index < len(self._stamps) and self._stamps[index] == stamp_ns:
            self._poses[index] = pose
            return
        self._stamps.insert(index, stamp_ns)
        self._poses.insert(index, pose)
        if self._limit is not None and len(self._stamps) > self._limit:
            del self._stamps[0], self._poses[0]

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """The pose (4, 4) at ``stamp_ns``; None before the first and after the last one."""
        after = bisect.bisect_left(self._stamps, stamp_ns)
        if after == len(self._stamps) or (after == 0 and self._stamps[0] != stamp_ns):
            return None
        before = max(after - 1, 0)
        length = self._stamps[after] - self._stamps[before]
        share = (stamp_ns - self._stamps[before]) / length if length else 1.0
        a, b = self._poses[before], self._poses[after]
        rotation = matrix_from_quat_xyzw(_slerp(a[3:], b[3:], share))
        return T_from(rotation, (1 - share) * a[:3] + share * b[:3])


def _slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """The quaternion ``share`` of the way from ``a`` to ``b`` along the shorter arc."""
    cosine = float(a @ b)
    b, cosine = (-b, -cosine) if cosine < 0 else (b, cosine)
    angle = np.arctan2(np.linalg.norm(b - cosine * a), cosine)
    if angle < 1e-9:
        return b
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
