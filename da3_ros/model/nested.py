"""An any-view network and the metric network side by side: depth and cameras of a window in metres, and sky."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from da3_ros.errors import ConfigError, InputError
from da3_ros.model.dense_head import SkyMaps
from da3_ros.model.metric_scale import Scale, in_metres, mean_focal, published_scale, robust_scale
from da3_ros.model.network import DepthAnything3
from da3_ros.model.prediction import Prediction
from da3_ros.model.single_view import SingleViewDepth
from da3_ros.model.sky import far_depth, sky_mask, without_sky

_FARTHEST_SKY = 200.0       # metres; the published code puts sky at this depth or nearer


class NestedDepthAnything3(nn.Module):
    """Any any-view network, made metric by da3metric-large; da3nested-giant-large is the published pair.

    The two networks see the same images independently. Raises ConfigError for a second network that is not metric.
    """

    def __init__(self, da3: DepthAnything3, da3_metric: SingleViewDepth):
        super().__init__()
        if da3_metric.variant.canonical_focal is None:
            raise ConfigError(
                f"{da3_metric.variant.name} predicts relative depth and cannot make {da3.variant.name} metric: take "
                "da3metric-large"
            )
        self.variant = replace(da3.variant, metric=da3_metric.variant)
        self.canonical_focal = da3_metric.variant.canonical_focal
        self.da3 = da3
        self.da3_metric = da3_metric

    @property
    def device(self) -> torch.device:
        """The device that the parameters are on."""
        return self.da3.device

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        use_ray_pose: bool = False,
        ref_view: str = "saddle_balanced",
        *,
        return_ray: bool = False,
        return_gaussians: bool = False,
        focal: Tensor | None = None,
        valid: Tensor | None = None,
        as_published: bool = False,
    ) -> Prediction:
        """Depth, translations, rays and Gaussians in metres, with sky; the first seven arguments as in DepthAnything3.

        ``focal`` (B, N) is the calibrated focal length of each view, the mean of fx and fy in pixels of the H x W
        image, NaN where it is not known; where neither it nor ``intrinsics`` tells, the predicted one is used.
        ``valid`` (B, N, H, W) bool marks the pixels that show the scene where others are padding. Depth of sky is
        +Inf and its confidence the network's own. A window without enough pixels to take the scale from (nothing
        but sky, or nothing farther than a centimetre, as when ray poses give a focal length of next to nothing) has
        NaN for scale, translations, ray origins, Gaussians and all depth but sky.

        ``as_published`` gives the published code's numbers instead: focal lengths as predicted, ``focal`` and
        ``valid`` play no part; one least-squares scale over all pixels; sky at the 0.99 quantile of the other
        depths or 200 m, with confidence 1, the lowest; rays and Gaussians in the any-view network's own unit and
        not in metres. Random samples of the published code are exact here.
        """
        metric = self.da3_metric.maps(images)
        ours = self.da3(
            images, extrinsics, intrinsics, use_ray_pose, ref_view,
            return_ray=return_ray, return_gaussians=return_gaussians, as_published=as_published,
        )
        if as_published:
            return self._as_published(ours, metric)
        if focal is None and intrinsics is not None:
            focal = mean_focal(intrinsics)
        _check_views("focal", focal, images.shape[:2])
        _check_views("valid", valid, (*images.shape[:2], *images.shape[-2:]))
        is_sky = sky_mask(metric.sky)
        scale = self.scale(ours.depth, ours.depth_conf, ours.intrinsics, metric.depth, is_sky, focal, valid)
        return replace(
            ours,
            depth=without_sky(ours.depth * _per_view(scale.metres), is_sky),
            extrinsics=scale_extrinsics(ours.extrinsics, scale.metres),
            ray=None if ours.ray is None else _scale_rays(ours.ray, scale.metres),
            gaussians=None if ours.gaussians is None else ours.gaussians.scaled(scale.metres),
            sky=metric.sky,
            scale=scale.metres,
            scale_stddev=scale.stddev,
        )

    def prepare(self, height: int, width: int) -> None:
        """Makes the positional tables for H x W images, so that a compiled or captured forward only reads them."""
        self.da3.prepare(height, width)
        self.da3_metric.prepare(height, width)

    def scale(
        self,
        depth: Tensor,
        confidence: Tensor,
        intrinsics: Tensor,
        canonical_depth: Tensor,
        is_sky: Tensor,
        focal: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Scale:
        """Metres per unit of the any-view network, from all views of each window (see robust_scale).

        ``depth``, ``confidence`` and ``intrinsics`` (B, N, 3, 3) are the any-view network's, ``canonical_depth``
        and ``is_sky`` (bool) the metric one's, maps (B, N, H, W); ``focal`` and ``valid`` as in forward.
        """
        predicted = mean_focal(intrinsics)
        focal = predicted if focal is None else torch.where(focal.isnan(), predicted, focal)
        usable = ~is_sky if valid is None else ~is_sky & valid
        return robust_scale(in_metres(canonical_depth, focal, self.canonical_focal), depth, confidence, usable)

    def _as_published(self, ours: Prediction, metric: SkyMaps) -> Prediction:
        assert ours.depth_conf is not None and ours.extrinsics is not None and ours.intrinsics is not None
        is_sky = sky_mask(metric.sky)
        metres = in_metres(metric.depth, mean_focal(ours.intrinsics), self.canonical_focal)
        scale = published_scale(metres, ours.depth, ours.depth_conf, is_sky)
        depth = ours.depth * _per_view(scale)
        return replace(
            ours,
            depth=torch.where(is_sky, far_depth(depth, is_sky).clamp(max=_FARTHEST_SKY), depth),
            depth_conf=torch.where(is_sky, 1.0, ours.depth_conf),
            extrinsics=scale_extrinsics(ours.extrinsics, scale),
            sky=metric.sky,
            scale=scale,
        )


def scale_extrinsics(extrinsics: Tensor, scale: Tensor) -> Tensor:
    """World-to-camera (B, N, 3 or 4, 4) with its unit of length multiplied by ``scale`` (B,)."""
    factor = torch.ones_like(extrinsics)
    factor[..., :3, 3] = scale[:, None, None]
    return extrinsics * factor


def _scale_rays(ray: Tensor, scale: Tensor) -> Tensor:
    """Rays (B, N, h, w, 6), direction and origin, with the origins' unit of length multiplied by ``scale`` (B,)."""
    directions, origins = ray.split(3, dim=-1)
    return torch.cat([directions, origins * _per_view(scale)[..., None]], dim=-1)


def _per_view(scale: Tensor) -> Tensor:
    return scale[:, None, None, None]


def _check_views(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is not None and tuple(value.shape) != tuple(shape):
        raise InputError(f"{name} has shape {tuple(value.shape)} but must be {tuple(shape)}")
