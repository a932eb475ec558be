"""Depth that another program has written to files, and which pictures files without stamps belong to."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.score import EstimatedFrame
from da3_ros.evaluation.stamped import stamp_of
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.truth import scaled_intrinsics
from da3_ros.ingest.bag import Bag
from da3_ros.replay.progress import watched_messages

_DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff")


class PictureStamps:
    """Stamps of the pictures on ``topic`` of ``bag``, for programs that number their output; read where needed.

    ``notes``: a sentence for each use, since nothing but their number says that they belong together.
    """

    def __init__(self, bag: Bag, topic: str):
        self._bag, self._topic = bag, topic
        self.notes: list[str] = []

    @cached_property
    def _stamps(self) -> list[int]:
        there = [self._topic] if self._topic in self._bag.topics else []
        return sorted(stamp_of(found.message) for found in watched_messages(self._bag, there, "stamps of pictures"))

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self._stamps)

    def of(self, count: int, what: str) -> list[int] | None:
        """The stamps (ns), oldest first, for ``count`` things ``what``; None where there are not as many pictures."""
        if count != self.count:
            return None
        self.notes.append(f"the {count} {what} have no stamps: they are taken to be of the pictures in order")
        return self._stamps


def external_frames(
    folder: Path,
    scale: float,
    camera: str,
    calibration: CameraCalibration,
    poses: Trajectory | None,
    tolerance_ns: int,
    pictures: PictureStamps,
) -> Iterator[EstimatedFrame]:
    """Depth maps of ``camera`` from the files in ``folder``, in order of their stamps.

    A file is named after its stamp, in nanoseconds (1700000000123456789.png) or in seconds with a point
    (1700000000.123456.npy); else there are as many files as ``pictures``, in the order of their numbers. PNG and TIFF
    hold whole numbers, of which ``scale`` make a metre (0: none), or floating point metres like .npy and .npz (its
    array ``depth``, or the first one). The maps may be smaller or larger than the pictures of ``calibration``, whose
    distortion they do not have. ``poses``: of the camera, at stamps that differ by at most ``tolerance_ns``. Raises
    InputError for other files.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of depth files")
    files = [file for file in folder.iterdir() if file.suffix.lower() in _DEPTH_SUFFIXES]
    if not files:
        raise InputError(f"{folder} has no depth files ({', '.join(_DEPTH_SUFFIXES)})")
    stamped = sorted(_stamped(files, pictures))
    for stamp_ns, file in tqdm(stamped, unit="picture", leave=None, disable=not sys.stderr.isatty()):
        depth = _read_depth(file, scale)
        K = scaled_intrinsics(calibration.K, calibration, *depth.shape)
        T = None if poses is None else poses.nearest(stamp_ns, tolerance_ns)
        yield EstimatedFrame(camera, stamp_ns, depth, K, None, T)


def _stamped(files: Sequence[Path], pictures: PictureStamps) -> list[tuple[int, Path]]:
    """The files with their stamps: those of their names, or where none has one those of the pictures."""
    stamps = [_stamp_ns(file) for file in files]
    known = [(stamp, file) for stamp, file in zip(stamps, files, strict=True) if stamp is not None]
    if len(known) == len(files):
        return known
    unnamed = sorted((file for stamp, file in zip(stamps, files, strict=True) if stamp is None), key=_numbers)
    if not known and all(map(_numbers, unnamed)):
        of_pictures = pictures.of(len(unnamed), f"depth files in {unnamed[0].parent.name}")
        if of_pictures is not None:
            return list(zip(of_pictures, unnamed, strict=True))
    file = unnamed[0]
    raise InputError(
        f"{file}: its name is no stamp: wanted nanoseconds, or seconds with a point, before {file.suffix}, or numbered "
        f"files, one for each picture of the camera ({pictures.count} pictures, {len(files)} files)"
    )


def _numbers(file: Path) -> list[int]:
    """The numbers in its name: frame_10 comes after frame_9."""
    return [int(digits) for digits in re.findall(r"\d+", file.stem)]


def _stamp_ns(file: Path) -> int | None:
    name = file.name.removesuffix(file.suffix)
    if re.fullmatch(r"\d+\.\d+", name):
        return int((Decimal(name) * 1_000_000_000).to_integral_value())
    if re.fullmatch(r"\d{16,}", name):
        return int(name)
    return None


def _read_depth(file: Path, scale: float) -> np.ndarray:
    """(H, W) float32 metres, NaN where there is none."""
    try:
        if file.suffix in (".npy", ".npz"):
            values = np.load(file, allow_pickle=False)
            if not isinstance(values, np.ndarray):
                values = values["depth" if "depth" in values.files else values.files[0]]
        else:
            values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, IndexError, cv2.error) as error:
        raise InputError(f"{file} cannot be read as depth: {error}") from error
    values = None if values is None else np.squeeze(values)
    if values is None or values.ndim != 2:
        raise InputError(f"{file} holds no depth map: wanted one value for each pixel")
    metres = values.astype(np.float32) / (np.float32(scale) if values.dtype.kind in "ui" else np.float32(1))
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)
