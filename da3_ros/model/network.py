"""The any-view Depth Anything 3 network: images of one window to depth, confidence and cameras."""

import torch
from torch import Tensor, nn

from da3_ros.errors import InputError
from da3_ros.model.backbone import Backbone, Features, ViewState
from da3_ros.model.camera import CameraDecoder, CameraEncoder
from da3_ros.model.dense_head import DenseMaps, DualHead, arrange_weights
from da3_ros.model.gaussian_head import GaussianHead
from da3_ros.model.gaussians import Gaussians, world_gaussians
from da3_ros.model.prediction import Prediction, check_cameras, check_images
from da3_ros.model.ray_pose import cameras_from_rays, make_ray_tables
from da3_ros.model.reference_view import check_strategy, select_reference
from da3_ros.model.tables import TableCache
from da3_ros.model.variants import PATCH, Variant


class DepthAnything3(nn.Module):
    """Depth Anything 3 (arXiv 2511.10647) for any number of views.

    ``forward`` is the composition of the stages below it; a streaming caller may run the stages itself, keep
    ``ViewState`` of old views and decode only the views that it needs. No stage waits for the device, branches on
    data or makes tensors elsewhere, so each can be compiled and captured; call ``prepare`` once before.

    Shapes: B windows, N views, H x W pixels, h x w = H/14 x W/14 patches, P = h w, D = variant.dim.
    """

    def __init__(self, variant: Variant):
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant)
        self.head = DualHead(variant)
        self.cam_dec = CameraDecoder(variant.feature_dim)
        self.cam_enc = CameraEncoder(variant.dim)
        if variant.gaussians:
            self.gs_head = GaussianHead(variant)
        self.ray_tables = TableCache(make_ray_tables)

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
        return_ray: bool = False,
        return_gaussians: bool = False,
        as_published: bool = False,
    ) -> Prediction:
        """Depth, confidence and cameras of all views of each window.

        ``images`` (B, N, 3, H, W): RGB in [0, 1], normalised with the ImageNet mean and deviation, H and W
        multiples of 14. ``extrinsics`` (B, N, 3 or 4, 4) world to camera and ``intrinsics`` (B, N, 3, 3) in pixels
        are known cameras to condition on, with view 0 at the origin (see CameraEncoder; predict_with_cameras takes
        any cameras and puts the result among them); then ``ref_view``, the strategy that chooses the reference
        view, plays no part. ``intrinsics`` alone do not condition the network, which has no place for them, and are
        returned as they are with depth and poses as predicted. ``use_ray_pose`` takes the returned cameras from
        the ray maps instead of the camera decoder. The maps themselves are returned only with ``return_ray``, and
        computed only where one of the two asks for them. ``return_gaussians`` adds one 3D Gaussian for every pixel,
        in the frame and unit of the returned cameras (variants with a Gaussian head only). ``as_published`` gives the
        published code's numbers where ours differ: it factorises ray poses otherwise (see cameras_from_rays), turns
        Gaussians otherwise (see world_gaussians) and takes no notice of intrinsics alone. Raises InputError for
        arguments that do not fit.
        """
        check_images(images, self.device)
        check_cameras(extrinsics, intrinsics, images)
        check_strategy(ref_view)
        if return_gaussians:
            self._check_gaussians()

        state = self.encode_views(images)
        known_intrinsics = intrinsics if extrinsics is None and not as_published else None
        if extrinsics is None or intrinsics is None:
            camera_tokens = self.role_tokens(self.select_reference(state, ref_view), images.shape[1])
        else:
            camera_tokens = self.encode_cameras(extrinsics, intrinsics, state.size)
        features = self.mix_views(state, camera_tokens)
        maps = self.decode_dense(features, ray=return_ray or use_ray_pose, images=images)
        if use_ray_pose:
            extrinsics, intrinsics = self.decode_ray_cameras(maps, state.size, as_published)
        else:
            extrinsics, intrinsics = self.decode_cameras(features)
        if known_intrinsics is not None:
            intrinsics = known_intrinsics.float()
        rays = (maps.ray, maps.ray_conf) if return_ray else (None, None)
        gaussians = None
        if return_gaussians:
            gaussians = self.decode_gaussians(features, images, maps.depth, extrinsics, intrinsics, as_published)
        return Prediction(maps.depth, maps.depth_conf, extrinsics, intrinsics, *rays, gaussians=gaussians)

    def prepare(self, height: int, width: int) -> None:
        """Makes the positional tables for H x W images, so that a compiled or captured forward only reads them."""
        arrange_weights(self.head)
        self.backbone.tables.get(height // PATCH, width // PATCH, self.device)
        self.head.tables.get(height, width, self.device)
        self.ray_tables.get(height // PATCH * 8, width // PATCH * 8, self.device)
        if self.variant.gaussians:
            self.gs_head.tables.get(height, width, self.device)

    def encode_views(self, images: Tensor) -> ViewState:
        """What depends on each image alone; images (B, N, 3, H, W)."""
        return self.backbone.encode_views(images)

    def select_reference(self, state: ViewState, ref_view: str = "saddle_balanced") -> Tensor:
        """Index of the reference view of each window, (B,) int64 on the device."""
        return select_reference(state.summary, ref_view)

    def role_tokens(self, reference: Tensor, views: int) -> Tensor:
        """Camera tokens (B, N, D) of views whose cameras are unknown; reference (B,) as from select_reference."""
        return self.backbone.role_tokens(reference, views)

    def encode_cameras(self, extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
        """Camera tokens (B, N, D) of known cameras (B, N, 3 or 4, 4) and (B, N, 3, 3), images of size (H, W)."""
        return self.cam_enc(extrinsics, intrinsics, size)

    def mix_views(self, state: ViewState, camera_tokens: Tensor, wanted: Tensor | None = None) -> Features:
        """Relates all views of a window; camera_tokens (B, N, D) from role_tokens or encode_cameras.

        ``wanted`` (n,) int64 on the device: the views that the features are to be for, all if None.
        """
        return self.backbone.mix_views(state, camera_tokens, wanted)

    def decode_dense(self, features: Features, ray: bool = False, images: Tensor | None = None) -> DenseMaps:
        """Depth and confidence (B, n, H, W), and rays if asked, of the n views in ``features`` (see its views()).

        ``images`` (B, n, 3, H, W) are theirs, and needed only where the head enlarges depth with them as a guide.
        """
        return self.head(features.levels, features.size, ray, images)

    def decode_cameras(self, features: Features) -> tuple[Tensor, Tensor]:
        """Extrinsics (B, n, 3, 4) world to camera and intrinsics (B, n, 3, 3) of the n views in ``features``."""
        return self.cam_dec(features.camera, features.size)

    def decode_ray_cameras(
        self, maps: DenseMaps, size: tuple[int, int], published_factorisation: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The same from ray maps that decode_dense was asked for, of images of ``size`` (H, W).

        ``published_factorisation`` as in cameras_from_rays: the published code's numbers, wrong where the
        principal point is off the image centre.
        """
        if maps.ray is None or maps.ray_conf is None:
            raise InputError("cameras from rays need ray maps; call decode_dense with ray=True")
        h, w = maps.ray.shape[2:4]
        tables = self.ray_tables.get(h, w, maps.ray.device)
        return cameras_from_rays(maps.ray, maps.ray_conf, size, tables, published_factorisation)

    def decode_gaussians(
        self,
        features: Features,
        images: Tensor,
        depth: Tensor,
        extrinsics: Tensor,
        intrinsics: Tensor,
        published_rotations: bool = False,
    ) -> Gaussians:
        """3D Gaussians (B, n H W) in the world frame of the n views in ``features``.

        ``images`` (B, n, 3, H, W) are theirs, ``depth`` (B, n, H, W) is from decode_dense, ``extrinsics`` (B, n, 3, 4)
        and ``intrinsics`` (B, n, 3, 3) from decode_cameras or decode_ray_cameras: predicted cameras also where known
        ones condition the network, because depth is in their unit. ``published_rotations`` as in world_gaussians.
        Raises InputError for a variant without Gaussian head.
        """
        self._check_gaussians()
        parameters, opacity = self.gs_head(features.levels, images, features.size)
        return world_gaussians(parameters, opacity, depth, extrinsics, intrinsics, published_rotations)

    def _check_gaussians(self) -> None:
        if not self.variant.gaussians:
            raise InputError(f"{self.variant.name} has no Gaussian head: take da3-giant for Gaussians")
