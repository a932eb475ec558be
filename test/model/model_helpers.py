"""Small networks, pictures, error measures and the reference package's network, for the tests of da3_ros.model."""

import functools
import os
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model import VARIANTS, Variant
from da3_ros.model.weights import Network, build, fill_random

os.environ["DA3_LOG_LEVEL"] = "ERROR"       # the reference prints at every call

_SMALL_HEAD = {"features": 32, "out_channels": (16, 24, 32, 48)}
SHRUNKEN = {
    "base": replace(VARIANTS["da3-base"], dim=192, **_SMALL_HEAD),
    "large": replace(VARIANTS["da3-large"], dim=128, **_SMALL_HEAD),
    "giant": replace(VARIANTS["da3-giant"], dim=192, gaussians=False, **_SMALL_HEAD),
    "metric": replace(VARIANTS["da3metric-large"], dim=128, **_SMALL_HEAD),
}
SHRUNKEN["nested"] = replace(SHRUNKEN["base"], metric=SHRUNKEN["metric"])
TINY = Variant("tiny", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/TINY",), "Apache-2.0")


def make_network(variant: Variant, dtype: torch.dtype = torch.float32) -> Network:
    """A network of any configuration with seeded random weights, on the CPU."""
    model = build(variant)
    fill_random(model, torch.device("cpu"), dtype)
    return model.eval().requires_grad_(False)


def make_images(views: int, height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Smooth pictures that differ in colour, contrast and content, (batch, views, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch * views, 3, 4, 5, generator=generator)
    images = F.interpolate(coarse, size=(height, width), mode="bicubic")
    images = images * (0.3 + torch.rand(batch * views, 1, 1, 1, generator=generator))
    images = images + torch.randn(batch * views, 3, 1, 1, generator=generator)
    images = images + 0.2 * torch.randn(images.shape, generator=generator)
    return images.unflatten(0, (batch, views))


def make_cameras(views: int, height: int, width: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rigid world-to-camera poses (batch, views, 4, 4) and intrinsics (batch, views, 3, 3)."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(batch, views, 3, 3, generator=generator, dtype=torch.float64)).Q
    rotation = rotation * torch.linalg.det(rotation)[..., None, None]
    extrinsics = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    extrinsics[..., :3, :3] = rotation
    extrinsics[..., :3, 3] = torch.randn(batch, views, 3, generator=generator, dtype=torch.float64)
    intrinsics = torch.eye(3).repeat(batch, views, 1, 1)
    intrinsics[..., 0, 0] = width * (0.6 + torch.rand(batch, views, generator=generator))
    intrinsics[..., 1, 1] = height * (0.6 + torch.rand(batch, views, generator=generator))
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = width / 2, height / 2
    return extrinsics.float(), intrinsics


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest relative difference, element by element; for values that are positive."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs() / theirs.abs()).max().item()


def scaled_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value; for values that pass through zero."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


class Reference:
    """The reference package's network with our weights; also keeps what its dense head returned last."""

    def __init__(self, net: nn.Module, model: Network):
        self.net = net.eval()
        self.net.load_state_dict(model.state_dict(), strict=True)
        self.head_output: dict[str, Tensor] = {}
        getattr(self.net, "da3", self.net).head.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: object, output: dict[str, Tensor]) -> None:
        self.head_output = {key: value.clone() for key, value in output.items()}

    def __call__(self, images: Tensor, **kwargs: object) -> dict[str, Tensor]:
        return self.net(images, **kwargs)


def build_reference(variant: Variant, device: str = "cpu") -> nn.Module:
    """The reference package's network at the configuration of ``variant``; device may be "meta"."""
    # A constructor reads values of a linspace back, which a meta tensor does not have.
    linspace = torch.linspace
    torch.linspace = functools.partial(linspace, device="cpu")
    try:
        with torch.device(device):
            return _construct_reference(variant)
    finally:
        torch.linspace = linspace


def _construct_reference(variant: Variant) -> nn.Module:
    """The same on the default device, through the reference's own constructors."""
    from depth_anything_3.model.cam_dec import CameraDec
    from depth_anything_3.model.cam_enc import CameraEnc
    from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net
    from depth_anything_3.model.dinov2.dinov2 import DinoV2
    from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
    from depth_anything_3.model.dpt import DPT
    from depth_anything_3.model.dualdpt import DualDPT
    from depth_anything_3.model.gs_adapter import GaussianAdapter
    from depth_anything_3.model.gsdpt import GSDPT

    if variant.metric is not None:
        # Its own constructor takes configurations of published sizes only.
        nested = NestedDepthAnything3Net.__new__(NestedDepthAnything3Net)
        nn.Module.__init__(nested)
        nested.da3 = _construct_reference(replace(variant, metric=None))
        nested.da3_metric = _construct_reference(variant.metric)
        return nested
    start = -1 if variant.mix_start is None else variant.mix_start
    switches = {"alt_start": start, "qknorm_start": start, "rope_start": start, "cat_token": variant.any_view}
    backbone = DinoV2("vits", out_layers=list(variant.out_layers), **switches)
    backbone.pretrained = DinoVisionTransformer(
        img_size=518, patch_size=14, embed_dim=variant.dim, depth=variant.depth, num_heads=variant.heads,
        ffn_layer="swiglufused" if variant.swiglu else "mlp", **switches,
    )
    shape = {"features": variant.features, "out_channels": list(variant.out_channels)}
    if not variant.any_view:
        return DepthAnything3Net(backbone, DPT(variant.feature_dim, output_dim=1, **shape))
    parts = {}
    if variant.gaussians:
        parts["gs_head"] = GSDPT(dim_in=variant.feature_dim, output_dim=38, **shape)
        parts["gs_adapter"] = GaussianAdapter(
            sh_degree=2, pred_color=False, pred_offset_depth=True, pred_offset_xy=True,
            gaussian_scale_min=1e-5, gaussian_scale_max=30.0,
        )
    return DepthAnything3Net(
        backbone, DualDPT(variant.feature_dim, output_dim=2, **shape),
        cam_dec=CameraDec(variant.feature_dim), cam_enc=CameraEnc(dim_out=variant.dim), **parts,
    )
