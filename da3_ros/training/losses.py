"""The training objective of Depth Anything 3 (arXiv 2511.10647, section 3.3), term by term.

Each term is a mean over what is known in the batch of an L1 error in the sample's own unit (see targets). Where the
paper leaves a choice open or we differ from it, docs/training.md says how and why.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.training.targets import Targets, at_rays

_GRADIENT_STRIDES = (1, 2, 4, 8)        # pixels between the two ends of a depth difference
_STILL = 0.01           # of the unit: errors of shorter ways count no more than this one's
_SKY_ERROR = 1.0                        # error that a sky pixel counts with, whatever depth is predicted there


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; ``confidence`` is lambda in c |error| - lambda log c.

    ``relative`` and ``match`` are not the paper's: of relative_loss, and of matching.match_loss.
    ``log_depth``: depth and its gradient are compared as logarithms, so that an error counts relative to its distance.
    """

    depth: float = 1.0
    ray: float = 1.0
    point: float = 1.0
    camera: float = 1.0
    gradient: float = 1.0
    relative: float = 0.0
    match: float = 0.0
    confidence: float = 0.2
    log_depth: bool = False


@dataclass(frozen=True)
class Answer:
    """What the network says of some views, in the layout of Targets."""

    depth: Tensor           # (..., H, W)
    depth_conf: Tensor      # (..., H, W), > 1
    ray: Tensor             # (..., 8h, 8w, 6)
    ray_conf: Tensor        # (..., 8h, 8w), > 1
    centre: Tensor          # (..., 3)
    quat_xyzw: Tensor       # (..., 4), camera to world
    fov: Tensor             # (..., 2) radians, vertical and horizontal


def objective(answer: Answer, targets: Targets, weights: LossWeights, views: int = 1) -> dict[str, Tensor]:
    """Every term, unweighted, and their weighted sum ``loss``; scalars. ``views`` of a sample are next to each other in
    the row of cameras."""
    found, wanted = answer.depth, targets.depth
    if weights.log_depth:
        found, wanted = found.log(), torch.where(targets.valid, wanted, 1.0).log()
    terms = {
        "depth": depth_loss(found, wanted, answer.depth_conf, targets, weights.confidence),
        "ray": ray_loss(answer, targets, weights.confidence),
        "point": point_loss(answer, targets),
        "camera": camera_loss(answer, targets),
        "gradient": gradient_loss(found, wanted, targets.valid),
    }
    if weights.relative and views > 1:
        centres = (centre.unflatten(0, (-1, views)) for centre in (answer.centre, targets.camera[..., :3]))
        terms["relative"] = relative_loss(*centres)
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return {"loss": total, **terms}


def depth_loss(found: Tensor, wanted: Tensor, conf: Tensor, targets: Targets, confidence: float) -> Tensor:
    """Confidence-weighted L1 error of depth (B, N, H, W), or of its logarithm.

    In the sky only confidence learns, towards its minimum.
    """
    error = torch.where(targets.valid, (found - wanted).abs(), _SKY_ERROR)
    return masked_mean(weigh(error, conf, confidence), targets.valid | targets.sky)


def ray_loss(answer: Answer, targets: Targets, confidence: float) -> Tensor:
    """Confidence-weighted L1 error of ray directions and origins; known at every pixel, also in the sky."""
    error = (answer.ray - targets.ray).abs().mean(-1)
    return weigh(error, answer.ray_conf, confidence).mean()


def point_loss(answer: Answer, targets: Targets) -> Tensor:
    """L1 error of the points that depth and ray map make together, at the ray map's cells."""
    found = points(at_rays(answer.depth), answer.ray)
    wanted = points(at_rays(targets.depth), targets.ray)
    return masked_mean((found - wanted).abs().mean(-1), at_rays(targets.valid))


def camera_loss(answer: Answer, targets: Targets) -> Tensor:
    """L1 error of camera centre, quaternion and field of view, each the mean over its numbers.

    A quaternion and its negative are the same rotation: the nearer one counts. Unit length is learned with it.
    """
    centre, quaternion, fov = targets.camera.split((3, 4, 2), dim=-1)
    same = (answer.quat_xyzw - quaternion).abs().mean(-1)
    opposite = (answer.quat_xyzw + quaternion).abs().mean(-1)
    rotation = torch.minimum(same, opposite).mean()
    return (answer.centre - centre).abs().mean() + rotation + (answer.fov - fov).abs().mean()


def relative_loss(centre: Tensor, wanted: Tensor) -> Tensor:
    """Error e of the way from each view to each other one, relative to its length, as log(1 + e); (B, N, 3), N > 1.

    Alone, the camera term leaves the direction of a short way open, as there is little that it could win there. The
    logarithm keeps ways too short to be seen from outweighing those that can be.
    """
    found, true = (c[:, None] - c[:, :, None] for c in (centre, wanted))        # (B, N, N, 3)
    square = (found - true).square().sum(-1) + 1e-12                            # the root has no slope at zero
    error = (square.sqrt() / (true.norm(dim=-1) + _STILL)).log1p()
    views = centre.shape[1]
    return error.sum((1, 2)).mean() / (views * (views - 1))


def gradient_loss(depth: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
    """L1 error of the differences of depth along rows and along columns, the mean over several distances.

    All (..., H, W). A difference counts where both of its ends are known.
    """
    error = torch.where(valid, depth - wanted, 0.0)
    terms = []
    for stride in _GRADIENT_STRIDES:
        e, known = error[..., ::stride, ::stride], valid[..., ::stride, ::stride]
        along_x = masked_mean((e[..., 1:] - e[..., :-1]).abs(), known[..., 1:] & known[..., :-1])
        along_y = masked_mean((e[..., 1:, :] - e[..., :-1, :]).abs(), known[..., 1:, :] & known[..., :-1, :])
        terms.append(along_x + along_y)
    return torch.stack(terms).mean()


def weigh(error: Tensor, conf: Tensor, confidence: float) -> Tensor:
    """c |error| - lambda log c: smallest for c = lambda / |error|."""
    return conf * error - confidence * conf.log()


def points(depth: Tensor, ray: Tensor) -> Tensor:
    """Points (..., 3) at ``depth`` (...) along rays (..., 6)."""
    return ray[..., 3:] + depth[..., None] * ray[..., :3]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values where mask; zero where the mask is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
