"""The single-view networks (da3metric-large, da3mono-large): each image to depth and sky by itself."""

import torch
from torch import Tensor, nn

from da3_ros.errors import InputError
from da3_ros.model.backbone import Backbone
from da3_ros.model.dense_head import SkyHead, SkyMaps, arrange_weights
from da3_ros.model.prediction import Prediction, check_images
from da3_ros.model.sky import fill_sky_as_published, sky_mask, without_sky
from da3_ros.model.variants import PATCH, Variant


class SingleViewDepth(nn.Module):
    """Depth and sky of every view on its own.

    da3metric-large predicts depth for a canonical focal length of 300 pixels, so that metres are depth * f / 300
    with f the mean focal length in pixels of the H x W image (see metric_scale.in_metres); da3mono-large predicts
    relative depth.
    """

    def __init__(self, variant: Variant):
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant)
        self.head = SkyHead(variant)

    @property
    def device(self) -> torch.device:
        """The device that the parameters are on."""
        return self.backbone.pretrained.cls_token.device

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        use_ray_pose: bool = False,
        ref_view: str = "saddle_balanced",
        *,
        as_published: bool = False,
    ) -> Prediction:
        """Depth and sky (B, N, H, W) of images (B, N, 3, H, W), normalised, H and W multiples of 14.

        Depth of sky is +Inf, or with ``as_published`` as in the published code: the 0.99 quantile of all other
        depths of the window. ``ref_view`` plays no part. Raises InputError for other images and for a request
        about cameras.
        """
        if extrinsics is not None or intrinsics is not None or use_ray_pose:
            raise InputError(f"{self.variant.name} sees each view alone: it takes no cameras and predicts none")
        maps = self.maps(images)
        treat = fill_sky_as_published if as_published else without_sky
        return Prediction(treat(maps.depth, sky_mask(maps.sky)), sky=maps.sky)

    def maps(self, images: Tensor) -> SkyMaps:
        """Depth and sky of images as for forward, as the network gives them: depth of sky has no meaning."""
        check_images(images, self.device)
        return self.head(self.backbone.encode_single(images), (images.shape[-2], images.shape[-1]), images)

    def prepare(self, height: int, width: int) -> None:
        """Makes the positional tables for H x W images, so that a compiled or captured forward only reads them."""
        arrange_weights(self.head)
        self.backbone.tables.get(height // PATCH, width // PATCH, self.device)
