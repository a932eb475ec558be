"""Where estimates come from: somebody else's files, or what the node (or a replay) has recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.score import EstimatedFrame
from da3_ros.evaluation.stamped import stamp_of
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.truth import depth_from_image, scaled_intrinsics
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.bag import Bag

_DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff", ".exr")
_WINDOW = "da3_ros/msg/WindowEstimate"


@dataclass(frozen=True)
class WindowPose:
    """Where one network step has one view of its window. ``T_odom_cam`` (4, 4), None where it has no pose."""

    frame_id: str
    stamp_ns: int
    T_odom_cam: np.ndarray | None


def external_frames(
    folder: Path, scale: float, camera: str, calibration: CameraCalibration, poses: Trajectory | None, tolerance_ns: int
) -> Iterator[EstimatedFrame]:
    """Depth maps of ``camera`` from the files in ``folder``, in order of their stamps.

    A file is named after its stamp, in nanoseconds (1700000000123456789.png) or in seconds with a point
    (1700000000.123456.npy). PNG and TIFF hold whole numbers, of which ``scale`` make a metre (0: none), or floating
    point metres like .npy and .npz (its first array). The maps may be smaller or larger than the pictures of
    ``calibration``, whose distortion they do not have. ``poses``: of the camera, at stamps that differ by at most
    ``tolerance_ns``. Raises InputError for other files.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of depth files")
    files = sorted((_stamp_ns(file), file) for file in folder.iterdir() if file.suffix.lower() in _DEPTH_SUFFIXES)
    if not files:
        raise InputError(f"{folder} has no depth files ({', '.join(_DEPTH_SUFFIXES)})")
    for stamp_ns, file in files:
        depth = _read_depth(file, scale)
        K = scaled_intrinsics(calibration.K, calibration, *depth.shape)
        T = None if poses is None else poses.nearest(stamp_ns, tolerance_ns)
        yield EstimatedFrame(camera, stamp_ns, depth, K, None, T)


def recorded_estimates(
    bag: Bag, cameras: Sequence[str], namespace: str
) -> Iterator[EstimatedFrame | list[WindowPose]]:
    """Depth, confidence and poses of ``cameras`` from the topics of a node in ``namespace``, in order of the stamps,
    and where windows were recorded, the poses of their views.

    Raises InputError where there is no depth with intrinsics.
    """
    prefix = f"/{namespace.strip('/')}".rstrip("/")
    depths = {f"{prefix}/{camera}/depth/image_rect": camera for camera in cameras}
    infos = {f"{prefix}/{camera}/depth/camera_info": camera for camera in cameras}
    confidences = {f"{prefix}/{camera}/confidence": camera for camera in cameras}
    window = f"{prefix}/window"
    missing = [topic for topic in (*depths, *infos) if topic not in bag.topics]
    if missing:
        raise InputError(f"the recording of estimates has no topic {missing[0]}: record what the node publishes")
    parts: dict[tuple[str, int], dict[str, Any]] = {}
    wanted = {"depth", "K", *(["confidence"] if set(confidences) & set(bag.topics) else [])}
    if window in bag.topics and bag.topics[window].type == _WINDOW:
        wanted.add("T")
    else:
        window = ""
    for found in bag.messages({*depths, *infos, *confidences, window} & set(bag.topics)):
        message = found.message
        if found.topic == window:
            poses = []
            for view in message.views:
                pose = WindowPose(view.header.frame_id, stamp_of(view), _pose_matrix(view.pose))
                poses.append(pose)
                if view.newest:
                    parts.setdefault((view.camera, pose.stamp_ns), {})["T"] = pose.T_odom_cam
            yield poses
        elif found.topic in depths:
            key = depths[found.topic], stamp_of(message)
            parts.setdefault(key, {})["depth"] = depth_from_image(message, found.topic)
        elif found.topic in infos:
            parts.setdefault((infos[found.topic], stamp_of(message)), {})["K"] = np.array(message.k).reshape(3, 3)
        else:
            key = confidences[found.topic], stamp_of(message)
            parts.setdefault(key, {})["confidence"] = depth_from_image(message, found.topic)
        for key in [key for key, part in parts.items() if wanted <= part.keys()]:
            part = parts.pop(key)
            yield EstimatedFrame(*key, part["depth"], part["K"], part.get("confidence"), part.get("T"))
            # What never becomes complete (a message was lost) must not pile up.
            parts = {other: part for other, part in parts.items() if other[1] > key[1] - 10_000_000_000}


def _stamp_ns(file: Path) -> int:
    name = file.name.removesuffix(file.suffix)
    if re.fullmatch(r"\d+\.\d+", name):
        return int((Decimal(name) * 1_000_000_000).to_integral_value())
    if re.fullmatch(r"\d{16,}", name):
        return int(name)
    raise InputError(f"{file}: its name is no stamp: wanted nanoseconds, or seconds with a point, before {file.suffix}")


def _read_depth(file: Path, scale: float) -> np.ndarray:
    """(H, W) float32 metres, NaN where there is none."""
    try:
        if file.suffix in (".npy", ".npz"):
            values = np.load(file, allow_pickle=False)
            values = values if isinstance(values, np.ndarray) else values[values.files[0]]
        else:
            values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    except (OSError, ValueError, IndexError, cv2.error) as error:
        raise InputError(f"{file} cannot be read as depth: {error}") from error
    values = None if values is None else np.squeeze(values)
    if values is None or values.ndim != 2:
        raise InputError(f"{file} holds no depth map: wanted one value for each pixel")
    metres = values.astype(np.float32) / (np.float32(scale) if values.dtype.kind in "ui" else np.float32(1))
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)


def _pose_matrix(pose: Any) -> np.ndarray | None:
    """(4, 4); None for what is no pose."""
    place, turn = pose.position, pose.orientation
    try:
        R = matrix_from_quat_xyzw(np.array((turn.x, turn.y, turn.z, turn.w)))
    except InputError:
        return None
    T = T_from(R, np.array((place.x, place.y, place.z)))
    return T if np.isfinite(T).all() else None
