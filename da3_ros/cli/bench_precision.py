"""How far reduced precision moves the result: every dtype against float32 on the same real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.datatypes import Frame
from da3_ros.errors import InputError
from da3_ros.geometry.image import ImagePreparer, plan_views
from da3_ros.model import DepthAnything3, Prediction, load_model
from da3_ros.tracking import invert_rigid

DTYPES = ("float32", "bfloat16", "float16")
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class PrecisionRow:
    """Differences from float32 over all pixels and views, and the time of the forward (median milliseconds).

    Depth: relative difference in percent, after the median ratio is taken out for ``scaled_depth_percent`` (the scale
    of a window is arbitrary). Rotation in degrees and translation in percent of the longest baseline: the largest
    among relative poses to the first view. ``fov_deg``: largest difference of the horizontal field of view.
    """

    variant: str
    dtype: str
    views: int
    height: int
    width: int
    forward_ms: float
    depth_percent: float
    scaled_depth_percent: float
    rotation_deg: float
    translation_percent: float
    fov_deg: float


def read_pictures(folder: Path, count: int) -> list[np.ndarray]:
    """The first ``count`` pictures of ``folder`` by name, (H, W, 3) uint8 RGB; raises InputError if there are fewer."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURES)
    if len(paths) < count:
        raise InputError(f"{folder} has {len(paths)} pictures (png, jpg), but {count} views are wanted")
    pictures = []
    for path in paths[:count]:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"{path} is not a picture that can be read")
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return pictures


def measure_precision(
    variant: str,
    checkpoint: str | None,
    pictures: list[np.ndarray],
    process_res: int,
    device: torch.device,
    repeats: Repeats,
    accept_noncommercial: bool,
) -> list[PrecisionRow]:
    """Rows for float32 and each reduced precision, for one window of all ``pictures``; None: random weights.

    The reference view is the first one in all of them: a near-tie that rounding decides otherwise is another
    question than precision. The float32 run does not use TF32.
    """
    plans = plan_views({"camera": (pictures[0].shape[:2], None)}, process_res, {})
    preparer = ImagePreparer(plans, device)
    frames = [Frame("camera", index, picture) for index, picture in enumerate(pictures)]
    images = preparer.prepare(frames)[0][None]
    rows: list[PrecisionRow] = []
    exact: Prediction | None = None
    for name in DTYPES:
        model = load_model(
            variant, checkpoint, device=device, dtype=getattr(torch, name), accept_noncommercial=accept_noncommercial
        )
        assert isinstance(model, DepthAnything3)
        with torch.inference_mode():
            prediction = model(images, ref_view="first")
            elapsed = median_ms(lambda model=model: model(images, ref_view="first"), device, repeats)  # type: ignore[misc]
        exact = exact or prediction
        rows.append(_compare(variant, name, prediction, exact, elapsed))
        del model
    return rows


def _compare(variant: str, dtype: str, got: Prediction, exact: Prediction, forward_ms: float) -> PrecisionRow:
    assert got.extrinsics is not None and exact.extrinsics is not None
    assert got.intrinsics is not None and exact.intrinsics is not None
    ratio = (got.depth / exact.depth).double()
    rotation, translation = pose_difference(got.extrinsics[0].double(), exact.extrinsics[0].double())
    width = got.depth.shape[-1]
    fov = [torch.rad2deg(2 * torch.atan(width / 2 / K[..., 0, 0])) for K in (got.intrinsics, exact.intrinsics)]
    return PrecisionRow(
        variant=variant,
        dtype=dtype,
        views=got.depth.shape[1],
        height=got.depth.shape[2],
        width=width,
        forward_ms=forward_ms,
        depth_percent=100 * float((ratio - 1).abs().median()),
        scaled_depth_percent=100 * float((ratio / ratio.median() - 1).abs().median()),
        rotation_deg=rotation,
        translation_percent=translation,
        fov_deg=float((fov[0] - fov[1]).abs().max()),
    )


def pose_difference(got: torch.Tensor, exact: torch.Tensor) -> tuple[float, float]:
    """Largest rotation (degrees) and translation (percent of the longest baseline) between poses (N, 3, 4)."""
    relative = []
    for T_cam_world in (got, exact):
        T = torch.eye(4, dtype=T_cam_world.dtype, device=T_cam_world.device).repeat(len(T_cam_world), 1, 1)
        T[:, :3] = T_cam_world
        relative.append(T[0] @ invert_rigid(T))
    R = relative[0][:, :3, :3].transpose(1, 2) @ relative[1][:, :3, :3]
    angle = torch.rad2deg(2 * torch.asin(((R - torch.eye(3).to(R)).norm(dim=(1, 2)) / 8**0.5).clamp(max=1)))
    baseline = relative[1][:, :3, 3].norm(dim=1).max()
    moved = (relative[0][:, :3, 3] - relative[1][:, :3, 3]).norm(dim=1).max()
    return float(angle.max()), 100 * float(moved / baseline)
