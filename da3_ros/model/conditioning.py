"""Known cameras in, a prediction among them out: normalisation before the network, alignment after it.

``model()`` is the network alone: it takes cameras as it was trained on them and answers in a world of its own.
``predict_with_cameras`` is for cameras as a rig or odometry gives them, in any world and unit.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from da3_ros.errors import InputError
from da3_ros.geometry.align import (
    Alignment,
    align_cameras,
    align_centres,
    align_centres_robustly,
    camera_centres,
)
from da3_ros.model.camera import normalise_cameras
from da3_ros.model.nested import NestedDepthAnything3
from da3_ros.model.network import DepthAnything3
from da3_ros.model.prediction import Prediction, check_cameras, check_images

_ROBUST_FROM = 10       # views from which the published code looks for outliers


def predict_with_cameras(
    model: DepthAnything3 | NestedDepthAnything3,
    images: Tensor,
    extrinsics: Tensor | None = None,
    intrinsics: Tensor | None = None,
    *,
    as_published: bool = False,
    to_input_scale: bool = True,
    known_scale: Tensor | float | None = None,
    prior_scale: Tensor | float | None = None,
    condition_on_intrinsics: bool = False,
    use_ray_pose: bool = False,
    ref_view: str = "saddle_balanced",
) -> tuple[Prediction, Alignment | None]:
    """Prediction of ``images`` (B, N, 3, H, W) with known cameras, and how its world lies to theirs.

    ``extrinsics`` (B, N, 3 or 4, 4) world to camera in any world and unit, with ``intrinsics`` (B, N, 3, 3) in
    pixels of the H x W images, condition the network. The returned prediction has the given cameras, and depth in
    their unit of length; or, without ``to_input_scale``, depth as predicted, the given cameras moved into the
    predicted world, and the given intrinsics. The alignment takes the given world to the predicted one, by
    ``align_cameras``, which explains ``known_scale`` and ``prior_scale`` (predicted units per given unit; 1 where
    both are metres): any number of views will do, but where ``scale_determined`` is false depth has that prior
    scale, or without one the unit of the network.

    Intrinsics alone are returned, and tell a nested network its focal lengths; depth and poses keep their common
    scale, so that points stay on the known rays at the predicted depths. The network can use them only together
    with poses: with ``condition_on_intrinsics`` it predicts poses first (without decoding depth) and is then
    conditioned on those and the known intrinsics. It then trusts its own first poses, which were made for other
    focal lengths, as if they were measured: whether that helps depends on the weights. One view has no pose to err
    about and needs one pass.

    ``as_published`` gives the numbers of the published code: its unit for the poses (see normalise_cameras) and
    its alignment by centres only, from 10 views on with its random search for outliers. That is defined for three
    views and more that are not on a line.

    Raises InputError for arguments that do not fit, and without intrinsics for extrinsics.
    """
    check_images(images, model.device)
    check_cameras(extrinsics, intrinsics, images)
    if as_published and (extrinsics is None or images.shape[1] < 3):
        raise InputError(
            f"the published alignment needs extrinsics of three views or more, not {images.shape[1]}: leave "
            "as_published out"
        )
    options: dict[str, Any] = {"use_ray_pose": use_ray_pose, "ref_view": ref_view}
    if intrinsics is None:
        return model(images, **options), None
    if extrinsics is None:
        return _with_intrinsics(model, images, intrinsics, condition_on_intrinsics, options), None

    options["as_published"] = as_published
    prediction = model(images, normalise_cameras(extrinsics, as_published), intrinsics, **options)
    if as_published:
        alignment = _published_alignment(extrinsics, prediction.extrinsics)
    else:
        alignment = align_cameras(
            extrinsics, prediction.extrinsics, known_scale=known_scale, prior_scale=prior_scale
        )
    prediction = replace(prediction, intrinsics=intrinsics.float())
    if not to_input_scale:
        cameras = alignment.similarity.cameras(extrinsics.double())[..., :3, :].float()
        return replace(prediction, extrinsics=cameras), alignment
    depth = prediction.depth / alignment.similarity.scale.to(prediction.depth)[:, None, None, None]
    # The unit is the given one now, whatever the network's own was.
    cameras = extrinsics[..., :3, :].float()
    return replace(prediction, depth=depth, extrinsics=cameras, scale=None, scale_stddev=None), alignment


def _published_alignment(extrinsics: Tensor, predicted: Tensor) -> Alignment:
    align = align_centres_robustly if extrinsics.shape[1] >= _ROBUST_FROM else align_centres
    return align(camera_centres(extrinsics.double()), camera_centres(predicted.double()))


def _with_intrinsics(
    model: DepthAnything3 | NestedDepthAnything3,
    images: Tensor,
    intrinsics: Tensor,
    condition: bool,
    options: dict[str, Any],
) -> Prediction:
    if not condition:
        return model(images, None, intrinsics, **options)
    network = model.da3 if isinstance(model, NestedDepthAnything3) else model
    if images.shape[1] == 1:
        poses = torch.eye(4, device=images.device).expand(images.shape[0], 1, 4, 4)
    else:
        state = network.encode_views(images)
        roles = network.role_tokens(network.select_reference(state, options["ref_view"]), images.shape[1])
        poses = normalise_cameras(network.decode_cameras(network.mix_views(state, roles))[0])
    return replace(model(images, poses, intrinsics, **options), intrinsics=intrinsics.float())
