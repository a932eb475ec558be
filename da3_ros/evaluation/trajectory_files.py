"""Trajectories in files: TUM, KITTI and EuRoC (ASL) poses. Stamps stay whole nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np

from da3_ros.errors import InputError
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.geometry.se3 import T_from, is_rigid, matrix_from_quat_xyzw, quat_xyzw_from_matrix

TrajectoryFormat = Literal["tum", "kitti", "euroc"]


def read_trajectory(file: Path, kind: TrajectoryFormat | None = None) -> Trajectory:
    """The poses in ``file``. ``kind`` None: told from the content.

    ``tum``: lines "stamp x y z qx qy qz qw", seconds. ``euroc``: comma separated "stamp, x, y, z, qw, qx, qy, qz, ...",
    nanoseconds. ``kitti``: 12 numbers a line, the rows of (3, 4); the stamps are in times.txt beside it, in seconds a
    line. Lines that start with # are comments. Raises InputError that names file and line.
    """
    lines = list(_lines(file))
    if not lines:
        raise InputError(f"{file} has no poses")
    kind = kind or _kind(file, lines[0][1])
    stamps: list[int] = []
    poses = []
    for number, values in lines:
        try:
            if kind == "kitti":
                T = np.vstack([np.array(values, dtype=np.float64).reshape(3, 4), (0.0, 0.0, 0.0, 1.0)])
                if not is_rigid(T, tolerance=1e-3):
                    raise InputError("its rows are no rotation and translation")
            else:
                x, y, z, *quaternion = (float(value) for value in values[1:8])
                xyzw = quaternion if kind == "tum" else [*quaternion[1:], quaternion[0]]
                T = T_from(matrix_from_quat_xyzw(np.array(xyzw)), np.array((x, y, z)))
                stamps.append(_to_ns(values[0]) if kind == "tum" else int(values[0]))
            if not np.isfinite(T).all():
                raise InputError("its place is not finite")
        except (ValueError, InvalidOperation, InputError) as error:
            raise InputError(f"{file}, line {number} is no pose of a {kind} file: {error}") from error
        poses.append(T)
    if kind == "kitti":
        stamps = _kitti_stamps(file, len(poses))
    order = np.argsort(stamps, kind="stable")
    try:
        return Trajectory(np.array(stamps, dtype=np.int64)[order], np.stack(poses)[order])
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def write_tum(file: Path, trajectory: Trajectory) -> None:
    """Write ``trajectory`` as a TUM file, stamps with nine decimals."""
    lines = []
    for stamp_ns, T in zip(trajectory.stamps_ns.tolist(), trajectory.T_world_body, strict=True):
        numbers = [*T[:3, 3], *quat_xyzw_from_matrix(T)]
        seconds, rest = divmod(stamp_ns, 1_000_000_000)
        lines.append(f"{seconds}.{rest:09d} " + " ".join(f"{number:.9f}" for number in numbers))
    file.write_text("\n".join(lines) + "\n")


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that is neither empty nor a comment."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as a text file of poses: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        values = line.replace(",", " ").split()
        if values and not values[0].startswith("#"):
            yield number, values


def _kind(file: Path, values: list[str]) -> TrajectoryFormat:
    if len(values) == 12:
        return "kitti"
    if len(values) >= 8 and "." not in values[0] and len(values[0]) > 15:
        return "euroc"
    if len(values) == 8:
        return "tum"
    raise InputError(
        f"{file} has lines of {len(values)} values: TUM files have 8, KITTI files 12, EuRoC files a stamp in "
        "nanoseconds and at least 7 more"
    )


def _kitti_stamps(file: Path, count: int) -> list[int]:
    times = file.with_name("times.txt")
    if not times.is_file():
        raise InputError(f"{file} has poses without stamps: put times.txt with one stamp in seconds a line beside it")
    try:
        stamps = [_to_ns(values[0]) for _, values in _lines(times)]
    except InvalidOperation as error:
        raise InputError(f"{times} has a line that is no number of seconds") from error
    if len(stamps) != count:
        raise InputError(f"{times} has {len(stamps)} stamps, but {file} {count} poses")
    return stamps


def _to_ns(seconds: str) -> int:
    return int((Decimal(seconds) * 1_000_000_000).to_integral_value())
