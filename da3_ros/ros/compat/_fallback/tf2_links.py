"""The links of the transform tree: the pose of one child frame in its parent, over time.

A pose is seven floats ``(x, y, z, qx, qy, qz, qw)`` with a unit quaternion. Plain floats, not arrays: for
single poses they are several times faster, and a busy /tf brings a thousand of them a second.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from da3_ros.ros.compat._fallback.tf2_errors import ExtrapolationException

Pose = tuple[float, float, float, float, float, float, float]

IDENTITY: Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def compose(a: Pose, b: Pose) -> Pose:
    """``T_x_z = compose(T_x_y, T_y_z)``."""
    x, y, z = _rotate(a, b[0], b[1], b[2])
    ax, ay, az, aw = a[3:]
    bx, by, bz, bw = b[3:]
    return (
        a[0] + x,
        a[1] + y,
        a[2] + z,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def invert(pose: Pose) -> Pose:
    """``T_y_x = invert(T_x_y)``."""
    x, y, z, qx, qy, qz, qw = pose
    back = (0.0, 0.0, 0.0, -qx, -qy, -qz, qw)
    x, y, z = _rotate(back, -x, -y, -z)
    return (x, y, z, -qx, -qy, -qz, qw)


def interpolate(a: Pose, b: Pose, ratio: float) -> Pose:
    """From ``a`` (ratio 0) to ``b`` (ratio 1): straight in translation, the shorter great arc in rotation."""
    x, y, z = (a[i] + (b[i] - a[i]) * ratio for i in range(3))
    cosine = sum(a[i] * b[i] for i in range(3, 7))
    angle = math.acos(min(1.0, abs(cosine)))
    weight_a, weight_b = 1.0 - ratio, ratio
    if angle > 1e-9:  # below, the arc is straight to double precision, and its sine is no divisor
        weight_a = math.sin(weight_a * angle) / math.sin(angle)
        weight_b = math.sin(weight_b * angle) / math.sin(angle)
    if cosine < 0.0:  # q and -q are one rotation: take the nearer
        weight_b = -weight_b
    qx, qy, qz, qw = (weight_a * a[i] + weight_b * b[i] for i in range(3, 7))
    return (x, y, z, qx, qy, qz, qw)


def _rotate(pose: Pose, x: float, y: float, z: float) -> tuple[float, float, float]:
    """The vector turned by the pose's rotation: v + 2 w (u x v) + 2 u x (u x v)."""
    qx, qy, qz, qw = pose[3:]
    tx = 2.0 * (qy * z - qz * y)
    ty = 2.0 * (qz * x - qx * z)
    tz = 2.0 * (qx * y - qy * x)
    return (
        x + qw * tx + qy * tz - qz * ty,
        y + qw * ty + qz * tx - qx * tz,
        z + qw * tz + qx * ty - qy * tx,
    )


class StaticLink:
    """A pose that holds at all times; a new one replaces it."""

    def __init__(self) -> None:
        self._parent = ""
        self._pose = IDENTITY

    def insert(self, stamp_ns: int, parent: str, pose: Pose) -> bool:
        """Replace the pose; ``stamp_ns`` does not matter."""
        self._parent, self._pose = parent, pose
        return True

    def at(self, time_ns: int) -> tuple[str, Pose]:
        """Parent and pose of the child in it."""
        return self._parent, self._pose

    def latest(self) -> tuple[int, str]:
        """Stamp 0, which is no bound on common times, and the parent."""
        return 0, self._parent

    def clear(self) -> None:
        """Nothing: what is static is so after a clock jump too, and its publisher will not repeat it."""


class MovingLink:
    """The poses of the last ``cache_ns`` nanoseconds before the newest one, interpolated in between."""

    def __init__(self, cache_ns: int) -> None:
        self._cache_ns = cache_ns
        self._stamps: list[int] = []  # ascending
        self._poses: list[tuple[str, Pose]] = []  # parent and pose at each stamp

    def insert(self, stamp_ns: int, parent: str, pose: Pose) -> bool:
        """Add a pose; False where it is older than what the cache keeps."""
        stamps, entry = self._stamps, (parent, pose)
        if stamps:
            oldest_ns = stamps[-1] - self._cache_ns
            expired = bisect_left(stamps, oldest_ns)
            del stamps[:expired], self._poses[:expired]
            if stamp_ns < oldest_ns:
                return False
        end = bisect_right(stamps, stamp_ns)
        if entry not in self._poses[bisect_left(stamps, stamp_ns) : end]:  # a repeated message adds nothing
            stamps.insert(end, stamp_ns)
            self._poses.insert(end, entry)
        return True

    def at(self, time_ns: int) -> tuple[str, Pose]:
        """Parent and pose at ``time_ns`` (0: the newest).

        Raises ExtrapolationException outside what is known.
        """
        stamps, poses = self._stamps, self._poses
        if not stamps:
            raise ExtrapolationException(f"there is no data at time {_seconds(time_ns)}, nor at any other")
        if time_ns in (0, stamps[-1]):
            return poses[-1]
        if time_ns == stamps[0]:
            return poses[0]
        if not stamps[0] < time_ns < stamps[-1]:
            where = "the future" if time_ns > stamps[-1] else "the past"
            raise ExtrapolationException(
                f"the lookup would require extrapolation into {where}: time {_seconds(time_ns)} was asked for, "
                f"and the data is from {_seconds(stamps[0])} to {_seconds(stamps[-1])}"
            )
        after = bisect_right(stamps, time_ns)
        (parent, pose), (next_parent, next_pose) = poses[after - 1], poses[after]
        if parent != next_parent:  # between two parents nothing can be interpolated: the older one holds
            return parent, pose
        span_ns = stamps[after] - stamps[after - 1]
        return parent, interpolate(pose, next_pose, (time_ns - stamps[after - 1]) / span_ns)

    def latest(self) -> tuple[int, str] | None:
        """Stamp of the newest pose and its parent; None while there is no pose."""
        return (self._stamps[-1], self._poses[-1][0]) if self._stamps else None

    def clear(self) -> None:
        """Forget every pose."""
        self._stamps.clear()
        self._poses.clear()


def _seconds(time_ns: int) -> str:
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"
