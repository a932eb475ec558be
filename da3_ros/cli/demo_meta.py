"""Reads ``meta.json``: recordings with ground truth whose frames are listed one by one.

``cameras``: name -> width, height, fx, fy, cx, cy (null: not calibrated), distortion_model, distortion, and T_rig_cam
(4x4) where there is a rig. ``frames``: camera, image, and as far as known step, time_s, depth or depth_sparse (uint16
PNG, metres = value / depth_scale, 0 = none) and c2w (4x4 camera-to-world, OpenCV axes).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from da3_ros.cli.demo_folder import NOMINAL_RATE_HZ, Picture, PictureFolder, parse_camera
from da3_ros.errors import InputError

# Names of distortion models in such files -> name here and number of coefficients.
_MODELS = {"plumb_bob_k1k2p1p2": ("plumb_bob", 5), "unknown": ("none", 0)}


def parse_meta(content: Mapping[str, Any], where: Path) -> PictureFolder:
    """What ``meta.json`` says, with paths relative to its folder.

    Raises InputError for missing entries. Moments at which a camera is missing are left out.
    """
    cameras = tuple(
        parse_camera(name, _camera_values(values), "T_rig_cam", where) for name, values in content["cameras"].items()
    )
    moments: dict[Any, dict[str, Picture]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    for number, frame in enumerate(content.get("frames", ())):
        name = frame.get("camera")
        if name not in content["cameras"] or "image" not in frame:
            raise InputError(f"{where}: frame {number} needs an 'image' and a 'camera' that is listed in 'cameras'")
        step = frame.get("step", counts[name])
        counts[name] += 1
        moments[step][name] = _picture(frame, where.parent, content.get("depth_scale"))
    complete = [moments[step] for step in sorted(moments) if len(moments[step]) == len(cameras)]
    if not complete:
        raise InputError(f"{where}: there is no moment with a picture of every camera")
    notes = []
    if len(complete) < len(moments):
        notes.append(f"{len(moments) - len(complete)} of {len(moments)} moments lack a camera and are left out")
    if content.get("pose_units") not in ("m", None):
        notes.append(f"the true poses are not in metres ({content['pose_units']})")
    return PictureFolder(
        title=str(content.get("name", where.parent.resolve().name)),
        cameras=cameras,
        pictures={camera.name: tuple(moment[camera.name] for moment in complete) for camera in cameras},
        rate_hz=NOMINAL_RATE_HZ,
        notes=tuple(notes),
    )


def _camera_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries as ``parse_camera`` takes them."""
    fx, fy, cx, cy = (values.get(key) for key in ("fx", "fy", "cx", "cy"))
    model = values.get("distortion_model", "none")
    D = list(values.get("distortion") or ())
    if model in _MODELS:
        model, count = _MODELS[model]
        D += [0.0] * (count - len(D))
    K = None if None in (fx, fy, cx, cy) else [fx, 0, cx, 0, fy, cy, 0, 0, 1]
    return {**values, "K": K, "distortion_model": model, "D": D}


def _picture(frame: Mapping[str, Any], folder: Path, depth_scale: float | None) -> Picture:
    depth = frame.get("depth") or frame.get("depth_sparse")
    time_s, T = frame.get("time_s"), frame.get("c2w")
    return Picture(
        file=folder / frame["image"],
        time_s=None if time_s is None else Decimal(str(time_s)),
        depth_file=folder / depth if depth and depth_scale else None,
        depth_scale=float(depth_scale or 1.0),
        T_world_cam=None if T is None else np.array(T, dtype=np.float64),
    )
