"""Which axis of a world points up, so that a view from above is one: z in ROS, -y where a camera's frame became it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SURE = 0.8  # of a unit vector along an axis: within 37 degrees of it, turns included
_FLAT = 3.0  # who moves this much more along an axis than along z does not take it for up


@dataclass(frozen=True)
class UpAxis:
    """``axis`` 0, 1 or 2 is up, or down with ``sign`` -1."""

    axis: int = 2
    sign: int = 1

    @staticmethod
    def parse(text: str) -> UpAxis:
        """Of what str() gives, such as -y."""
        return UpAxis("xyz".index(text[-1]), -1 if text.startswith("-") else 1)

    def __str__(self) -> str:
        return f"{'-' if self.sign < 0 else ''}{'xyz'[self.axis]}"

    @property
    def level(self) -> tuple[int, int]:
        """The other axes, the first to the right and the second upwards on a map that is seen from above."""
        first, second = (self.axis + 1) % 3, (self.axis + 2) % 3
        return (first, second) if self.sign > 0 else (second, first)

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) to a world with z up."""
        R = np.zeros((3, 3))
        R[0, self.level[0]] = R[1, self.level[1]] = 1.0
        R[2, self.axis] = self.sign
        return R


def up_of_cameras(up: np.ndarray, positions: np.ndarray) -> UpAxis:
    """The axis of the world nearest to ``up`` (3,), the mean of the directions that are up in the pictures.

    ``positions`` (n, 3) of the cameras: cameras that look down have no up in their pictures, but who carries them moves
    along what would seem to be. z where pictures say nothing.
    """
    axis = int(np.abs(up).argmax())
    if abs(up[axis]) < _SURE:
        return UpAxis()
    extent = np.ptp(positions, axis=0) if len(positions) else np.zeros(3)
    if axis != 2 and extent[axis] > _FLAT * extent[2]:
        return UpAxis()
    return UpAxis(axis, 1 if up[axis] > 0 else -1)


def up_of_way(T_world_body: np.ndarray) -> UpAxis:
    """The same from poses (n, 4, 4) of nobody knows what: who moves forward along its z axis is a camera (x right, y
    down), along x a robot (z up; REP 103). z where it is neither."""
    R, positions = T_world_body[:, :3, :3], T_world_body[:, :3, 3]
    steps = np.einsum("nji,nj->ni", R[:-1], np.diff(positions, axis=0))
    way = np.linalg.norm(steps, axis=1).sum()
    forward = steps.sum(axis=0) / way if way > 0 else np.zeros(3)
    if forward[2] > _SURE:
        return up_of_cameras(-R[:, :, 1].mean(axis=0), positions)
    if forward[0] > _SURE:
        return up_of_cameras(R[:, :, 2].mean(axis=0), positions)
    return UpAxis()
