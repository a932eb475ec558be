"""Which sets of views stay in the window as anchors while new ones come in.

A window of the newest sets alone sees little of the way: neighbouring pictures look alike, and its pose errors add up
like a random walk. Sets that were seen longer ago, from elsewhere, hold the frame still as long as they show what the
newest set shows. So the set that leaves is the one that says least: one that no longer overlaps with the newest set,
else the one that stands closest to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from da3_ros.errors import ConfigError
from da3_ros.geometry.se3 import rotation_angle

# A turn of this much is as much of another view as a displacement by the median depth.
_TURN_LIKE_DEPTH_RAD = 1.0


@dataclass(frozen=True)
class SetGeometry:
    """What is known of one set of the window: where it stands and which surfaces it shows.

    ``T_odom_body`` (4, 4); ``points`` (K, 3) in odom, a coarse sample of its depth, NaN where there is none;
    ``T_odom_cam`` (C, 4, 4) and ``fov`` (C, 2), the tangents of half of each camera's horizontal and vertical field
    of view.
    """

    T_odom_body: np.ndarray
    points: np.ndarray
    T_odom_cam: np.ndarray
    fov: np.ndarray

    @cached_property
    def median_depth(self) -> float:
        """Median distance of its points from its body; NaN without points."""
        distance = np.linalg.norm(self.points - self.T_odom_body[:3, 3], axis=-1)
        distance = distance[np.isfinite(distance)]
        return float(np.median(distance)) if len(distance) else float("nan")


@dataclass(frozen=True)
class AnchorPolicy:
    """``min_motion``: displacement over median depth (or turn, see above) from which a set is another view;
    ``min_overlap``: share of an anchor's points that the newest set must see; ``recent``: sets, from the newest
    back and with the one that comes in, that always stay; as many as the window has make it a plain sliding window.
    """

    min_motion: float = 0.05
    min_overlap: float = 0.25
    recent: int = 2

    def __post_init__(self) -> None:
        if self.recent < 1 or not 0 <= self.min_overlap <= 1 or self.min_motion < 0:
            raise ConfigError(
                f"anchors with recent {self.recent}, min_overlap {self.min_overlap} and min_motion {self.min_motion} "
                "cannot be chosen: at least 1, 0 to 1, and not negative"
            )

    def elsewhere(self, keyframe: SetGeometry, other: SetGeometry) -> bool:
        """Whether ``other`` is another view of the scene than the last ``keyframe``, and so a keyframe itself."""
        return self._motion(keyframe, other) >= self.min_motion

    def ordinary(self, keyframes: Sequence[bool]) -> int | None:
        """Index of the oldest set that is no keyframe and not among the newest ones; None where there is none.

        ``keyframes``: which sets are some, oldest first and the newest last.
        """
        return next((index for index in self._old(keyframes) if not keyframes[index]), None)

    def leaving(self, sets: Sequence[SetGeometry], keyframes: Sequence[bool]) -> int:
        """Index into ``sets``, oldest first and the newest last, of the one that leaves a full window.

        The order of reasons: a set that is no keyframe and no longer among the newest ones (standing still must not
        push anchors out); an old set that shows too little of what the newest one sees; else the most redundant one.
        """
        if len(sets) == 1:
            return 0
        ordinary = self.ordinary(keyframes)
        if ordinary is not None:
            return ordinary
        old = self._old(sets)
        overlap = [overlap_share(sets[index], sets[-1]) for index in old]
        lost = [index for index in old if overlap[index] < self.min_overlap and index < len(sets) - 1]
        if lost:
            return min(lost, key=lambda index: overlap[index])
        return min(old, key=lambda index: self._distinctness(index, sets))

    def _old(self, sets: Sequence[object]) -> range:
        """Indices of ``sets``, oldest first, that are not among the newest: of those there are ``recent``, with the set
        that comes in."""
        return range(len(sets) - min(self.recent - 1, len(sets) - 1))

    def _distinctness(self, index: int, sets: Sequence[SetGeometry]) -> float:
        """How far the window's other sets are from this one, near ones counting most (after DSO, Engel 2018, 3.2)."""
        others = [self._motion(sets[index], other) for number, other in enumerate(sets) if number != index]
        to_newest = self._motion(sets[index], sets[-1])
        return 1.0 / sum(1.0 / (motion + 1e-3) for motion in others) / (1.0 + to_newest)

    def _motion(self, first: SetGeometry, second: SetGeometry) -> float:
        """Displacement over median depth, plus the turn likewise."""
        apart = np.linalg.norm(first.T_odom_body[:3, 3] - second.T_odom_body[:3, 3])
        turn = rotation_angle(first.T_odom_body[:3, :3].T @ second.T_odom_body[:3, :3])
        depth = next((one.median_depth for one in (second, first) if one.median_depth > 0), 1.0)
        return float(apart / max(depth, 1e-6) + turn / _TURN_LIKE_DEPTH_RAD)


def overlap_share(anchor: SetGeometry, newest: SetGeometry) -> float:
    """Share 0..1 of the anchor's points that lie in the view of any camera of the newest set; 0 without points."""
    points = anchor.points[np.isfinite(anchor.points).all(-1)]
    if not len(points):
        return 0.0
    seen = np.zeros(len(points), dtype=bool)
    for T_odom_cam, (tan_x, tan_y) in zip(newest.T_odom_cam, newest.fov, strict=True):
        x, y, z = ((points - T_odom_cam[:3, 3]) @ T_odom_cam[:3, :3]).T
        seen |= (z > 0) & (np.abs(x) <= tan_x * z) & (np.abs(y) <= tan_y * z)
    return float(seen.mean())
