"""Trajectories in files: TUM, KITTI and EuRoC (ASL) poses. Stamps stay whole nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np

from da3_ros.errors import InputError
from da3_ros.evaluation.external import PictureStamps
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.geometry.se3 import T_from, is_rigid, matrix_from_quat_xyzw, quat_xyzw_from_matrix

TrajectoryFormat = Literal["tum", "kitti", "euroc", "matrices"]
_LAST_S = 1e11
# Of a line; in EuRoC's files velocities follow.
_VALUES: dict[TrajectoryFormat, int] = {"tum": 8, "kitti": 12, "euroc": 8, "matrices": 16}


@dataclass(frozen=True)
class PosesFile:
    """What a file holds. ``unusable``: how many more lines have a pose that is not finite or no rotation, as trackers
    write when they are lost; ``first_unusable``: the number of the first of them, from 1."""

    trajectory: Trajectory
    unusable: int = 0
    first_unusable: int = 0

    def notes(self, file: Path) -> list[str]:
        """What a reader of the numbers must know of ``file``, a sentence."""
        if not self.unusable:
            return []
        lines, first = self.unusable + len(self.trajectory), self.first_unusable
        return [
            f"{self.unusable} of {lines} poses in {file.name} are no rotation and finite place (the first in line "
            f"{first}): left out"
        ]


def read_trajectory(
    file: Path, kind: TrajectoryFormat | None = None, pictures: PictureStamps | None = None
) -> PosesFile:
    """The poses in ``file``. ``kind`` None: told from the content.

    ``tum``: lines "stamp x y z qx qy qz qw", seconds, or nanoseconds where that would be after the year 5000, as
    ORB-SLAM3 writes for EuRoC's sequences. ``euroc``: comma separated "stamp, x, y, z, qw, qx, qy, qz, ...",
    nanoseconds. ``kitti``: 12 numbers a line, the rows of (3, 4), and ``matrices`` 16, of (4, 4), whose rotation may
    have a scale: the stamps are in times.txt beside it, in seconds a line, or those of ``pictures`` where there are as
    many. Lines that start with # are comments; lines with NaN, infinity or a quaternion of zeros are left out and
    counted. Raises InputError that names file and line for one with other words or too few of them, and for a file
    that has no pose.
    """
    lines = list(_lines(file))
    if not lines:
        raise InputError(f"{file} has no poses")
    kind = kind or _kind(file, *lines[0][1:])
    unstamped = kind in ("kitti", "matrices")
    times = _stamps_beside(file, len(lines), pictures) if unstamped else [None] * len(lines)
    stamps: list[int] = []
    poses: list[np.ndarray] = []
    unusable: list[int] = []
    for (number, values, _), time in zip(lines, times, strict=True):
        try:
            found = _pose(values, kind, time)
        except (ValueError, InvalidOperation, InputError) as error:
            raise InputError(f"{file}, line {number} is no pose of a {kind} file: {error}") from error
        if found is None:
            unusable.append(number)
        else:
            stamps.append(found[0])
            poses.append(found[1])
    if not poses:
        raise InputError(f"{file}: none of its {len(lines)} lines is a rotation and finite place")
    order = np.argsort(stamps, kind="stable")
    try:
        trajectory = Trajectory(np.array(stamps, dtype=np.int64)[order], np.stack(poses)[order])
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return PosesFile(trajectory, len(unusable), unusable[0] if unusable else 0)


def write_tum(file: Path, trajectory: Trajectory) -> None:
    """Write ``trajectory`` as a TUM file, stamps with nine decimals."""
    lines = []
    for stamp_ns, T in zip(trajectory.stamps_ns.tolist(), trajectory.T_world_body, strict=True):
        numbers = [*T[:3, 3], *quat_xyzw_from_matrix(T)]
        seconds, rest = divmod(stamp_ns, 1_000_000_000)
        lines.append(f"{seconds}.{rest:09d} " + " ".join(f"{number:.9f}" for number in numbers))
    file.write_text("\n".join(lines) + "\n")


def _lines(file: Path) -> Iterator[tuple[int, list[str], bool]]:
    """Number and values of each line that is neither empty nor a comment, and whether commas are between them."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as a text file of poses: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        values = line.replace(",", " ").split()
        if values and not values[0].startswith("#"):
            yield number, values, "," in line


def _pose(values: list[str], kind: TrajectoryFormat, time_ns: int | None) -> tuple[int, np.ndarray] | None:
    """Stamp and (4, 4) of one line; None where its numbers are no pose. ``time_ns``: of a line without a stamp.

    Raises ValueError, InvalidOperation or InputError where they are not the numbers of such a file.
    """
    wanted = _VALUES[kind]
    if len(values) < wanted or (len(values) > wanted and kind != "euroc"):
        raise InputError(f"it has {len(values)} values, wanted {'at least ' if kind == 'euroc' else ''}{wanted}")
    numbers = np.array([float(value) for value in values[:wanted]])
    if not np.isfinite(numbers).all():
        return None
    if time_ns is not None:
        T = np.vstack([numbers[:12].reshape(3, 4), numbers[12:] if kind == "matrices" else (0.0, 0.0, 0.0, 1.0)])
        if kind == "matrices":  # a similarity before its camera's pose, as of chunks that were joined
            T[:3, :3] /= max(np.cbrt(np.linalg.det(T[:3, :3])), 1e-9)
        if not is_rigid(T, tolerance=1e-3):
            raise InputError("its rows are no rotation and translation")
        return time_ns, T
    turn = numbers[4:] if kind == "tum" else np.roll(numbers[4:], -1)
    if not turn.any():
        return None
    T = T_from(matrix_from_quat_xyzw(turn), numbers[1:4])
    stamp_ns = _to_ns(values[0]) if kind == "tum" and numbers[0] < _LAST_S else int(Decimal(values[0]))
    if abs(stamp_ns) >= 2**63:
        raise InputError(f"{values[0]} is no time")
    return stamp_ns, T


def _kind(file: Path, values: list[str], commas: bool) -> TrajectoryFormat:
    if len(values) in (12, 16):
        return "kitti" if len(values) == 12 else "matrices"
    if len(values) >= 8 and commas:
        return "euroc"
    if len(values) == 8:
        return "tum"
    raise InputError(
        f"{file} has lines of {len(values)} values: TUM files have 8, KITTI files 12, matrices 16, EuRoC files a "
        "stamp in nanoseconds and at least 7 more, with commas"
    )


def _stamps_beside(file: Path, count: int, pictures: PictureStamps | None) -> list[int]:
    times = file.with_name("times.txt")
    if not times.is_file():
        stamps = None if pictures is None else pictures.of(count, f"poses in {file.name}")
        if stamps is None:
            there = "" if pictures is None else f" ({count}, and the camera has {pictures.count} pictures)"
            raise InputError(
                f"{file} has poses without stamps{there}: put times.txt with one stamp in seconds a line beside it"
            )
        return stamps
    try:
        stamps = [_to_ns(values[0]) for _, values, _ in _lines(times)]
    except (InvalidOperation, ValueError, OverflowError) as error:  # NaN and infinity too
        raise InputError(f"{times} has a line that is no number of seconds") from error
    if len(stamps) != count:
        raise InputError(f"{times} has {len(stamps)} stamps, but {file} {count} poses")
    return stamps


def _to_ns(seconds: str) -> int:
    return int((Decimal(seconds) * 1_000_000_000).to_integral_value())
