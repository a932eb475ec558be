"""How well a network does on scenes that it was never trained on: depth, cameras and fields of view, by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da3_ros.evaluation.depth import depth_errors, pair_depths
from da3_ros.evaluation.relative_pose import RelativePoseErrors, relative_pose_errors
from da3_ros.training.batch import SceneBatch
from da3_ros.training.data import FIRST_TRAINING_SEED

SEQUENCES, STEPS, CAMERAS, SIZE = 200, 4, 2, (168, 224)
AUC_DEG = 30
MOVED = 0.05            # of the mean depth: pairs of views that are at least so far apart
_AT_ONCE = {"cuda": 20, "cpu": 1}


@dataclass(frozen=True)
class Predicted:
    """What a network says of a batch: depth (B, N, H, W), T_cam_world (B, N, 4, 4) and K (B, N, 3, 3)."""

    depth: Tensor
    T_cam_world: Tensor
    K: Tensor


Predictor = Callable[[Tensor], Predicted]  # of images (B, N, 3, H, W) uint8


@dataclass(frozen=True)
class WindowScore:
    """Errors in one window. Depth is scaled by the ratio of the medians over all its views; NaN where nothing is known.

    ``auc30``: 0..1, of all pairs of views, as the Depth Anything 3 benchmark has it; ``auc30_moved`` of those that are
    at least MOVED of the window's mean depth apart, where a direction can be seen at all. ``rotation_deg`` and
    ``direction_deg``: medians over the pairs. ``fov_deg``: mean over the views of the error of the horizontal field
    of view.
    """

    abs_rel: float
    delta1: float
    auc30: float
    auc30_moved: float
    rotation_deg: float
    direction_deg: float
    fov_deg: float


@dataclass(frozen=True)
class Scores:
    """Over windows: medians, but of AUC the means, in percent; depth and delta1 also as means."""

    windows: int
    abs_rel: float
    abs_rel_mean: float
    delta1: float
    delta1_mean: float
    auc30: float
    auc30_moved: float
    rotation_deg: float
    direction_deg: float
    fov_deg: float

    @staticmethod
    def of(windows: Sequence[WindowScore]) -> Scores:
        """The scores of at least one window; what is unknown in a window counts in none."""

        def column(name: str) -> np.ndarray:
            values = np.array([getattr(window, name) for window in windows])
            known = values[np.isfinite(values)]
            return known if len(known) else np.array([np.nan])

        names = WindowScore.__dataclass_fields__
        medians = {name: float(np.median(column(name))) for name in names if not name.startswith("auc30")}
        return Scores(
            windows=len(windows),
            abs_rel_mean=float(column("abs_rel").mean()),
            delta1_mean=float(column("delta1").mean()),
            auc30=100.0 * float(column("auc30").mean()),
            auc30_moved=100.0 * float(column("auc30_moved").mean()),
            **medians,
        )


def held_out_sequences(source, count: int, size: tuple[int, int] = SIZE) -> Iterator[SceneBatch]:
    """The first ``count`` held-out sequences of ``source`` (a SceneSource): 4 steps of a 2-camera rig, in batches.

    Their seeds are 0 and up; training begins at FIRST_TRAINING_SEED.
    """
    assert count <= FIRST_TRAINING_SEED
    at_once = _AT_ONCE[source.device.type]
    for first in range(0, count, at_once):
        seeds = torch.arange(first, min(first + at_once, count), device=source.device)
        yield source.sequence(seeds, STEPS, CAMERAS, size)


def network_predictor(network) -> Predictor:
    """What a DepthAnything3 in evaluation mode says, all views of a window at once."""
    mean = torch.tensor((0.485, 0.456, 0.406), device=network.device).view(3, 1, 1)
    deviation = torch.tensor((0.229, 0.224, 0.225), device=network.device).view(3, 1, 1)

    @torch.no_grad()
    def predict(images: Tensor) -> Predicted:
        found = network((images.to(network.device).float() / 255.0 - mean) / deviation)
        T = torch.eye(4, device=network.device).expand(*found.extrinsics.shape[:2], 4, 4).clone()
        T[..., :3, :] = found.extrinsics
        return Predicted(found.depth.float(), T, found.intrinsics.float())

    return predict


def score(batch: SceneBatch, predicted: Predicted) -> list[WindowScore]:
    """One score for each window of ``batch``."""
    return [
        score_window(
            predicted.depth[i],
            torch.where(batch.valid[i], batch.depth[i], torch.nan),
            predicted.T_cam_world[i],
            batch.T_cam_world[i],
            horizontal_fov_deg(predicted.K[i], batch.size[1]),
            horizontal_fov_deg(batch.K[i], batch.size[1]),
        )
        for i in range(len(batch.depth))
    ]


def score_window(
    depth: Tensor, true_depth: Tensor, T: Tensor, true_T: Tensor, fov_deg: Tensor, true_fov_deg: Tensor
) -> WindowScore:
    """Score of N views: depth (N, H, W), true depth NaN where unknown; T_cam_world (N, 4, 4); fields of view (N,)."""
    errors = depth_errors(pair_depths(depth, true_depth.to(depth.device)), "median")
    nan = float("nan")
    auc, auc_moved, rotation, direction = nan, nan, nan, nan
    if len(T) > 1:
        pairs = relative_pose_errors(T.double().cpu().numpy(), true_T.double().cpu().numpy())
        moved = _baselines(true_T) >= MOVED * float(true_depth.nanmean())
        auc = pairs.auc(AUC_DEG)
        if moved.any():
            auc_moved = RelativePoseErrors(pairs.rotation[moved], pairs.translation[moved]).auc(AUC_DEG)
        rotation, direction = (float(np.median(values)) for values in (pairs.rotation, pairs.translation))
    fov = float((fov_deg.cpu() - true_fov_deg.cpu()).abs().mean())
    return WindowScore(errors.abs_rel, errors.delta1, auc, auc_moved, rotation, direction, fov)


def _baselines(T_cam_world: Tensor) -> np.ndarray:
    """Distances of the pairs i < j of cameras (N, 4, 4), in the order of relative_pose_errors."""
    centre = T_cam_world.double().cpu().inverse()[:, :3, 3]
    first, second = torch.triu_indices(len(centre), len(centre), 1)
    return (centre[first] - centre[second]).norm(dim=-1).numpy()


def horizontal_fov_deg(K: Tensor, width: int) -> Tensor:
    """(N,) degrees of pinhole cameras K (N, 3, 3)."""
    left, right = K[:, 0, 2] / K[:, 0, 0], (width - K[:, 0, 2]) / K[:, 0, 0]
    return torch.rad2deg(left.atan() + right.atan())


def evaluate(predict: Predictor, batches: Iterator[SceneBatch], progress: Callable[[int], None]) -> Scores:
    """Scores over all windows of ``batches``; ``progress`` is told how many were done."""
    windows: list[WindowScore] = []
    for batch in batches:
        windows += score(batch, predict(batch.images))
        progress(len(batch.depth))
    return Scores.of(windows)
