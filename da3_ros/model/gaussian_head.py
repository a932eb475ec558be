"""The dense head of da3-giant that describes one 3D Gaussian for every pixel, in its camera's frame."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from da3_ros.model.dense_head import DenseTables, PyramidHead, enlarge, in_chunks
from da3_ros.model.variants import Variant

_CHANNELS = 38      # 37 of RawGaussians.parameters, and the opacity


class RawGaussians(NamedTuple):
    """Outputs of the Gaussian head; see da3_ros.model.gaussians for what becomes of them."""

    parameters: Tensor      # (B, n, H, W, 37) fp32, in the order of da3_ros.model.gaussians.FIELDS
    opacity: Tensor         # (B, n, H, W) fp32, in (0, 1)


class GaussianHead(PyramidHead):
    """Feature tokens and the image itself to the parameters of one Gaussian for every pixel.

    Unlike the depth head it takes the tokens as they are, without a normalisation of its own, and adds features of
    the image, which bring back detail that the tokens have lost.
    """

    def __init__(self, variant: Variant):
        super().__init__(variant, outputs=_CHANNELS)
        half = variant.features // 2
        self.images_merger = nn.Sequential(
            nn.Conv2d(3, half // 4, 3, padding=1), nn.GELU(),
            nn.Conv2d(half // 4, half // 2, 3, padding=1), nn.GELU(),
            nn.Conv2d(half // 2, half, 3, padding=1), nn.GELU(),
        )

    def forward(self, levels: Sequence[Tensor], images: Tensor, size: tuple[int, int]) -> RawGaussians:
        """Of the views in ``levels``, 4 x (B, n, P, feature_dim), and their normalised images (B, n, 3, H, W).

        ``size`` is (H, W).
        """
        tables = self.tables.get(*size, levels[0].device)
        return RawGaussians(*in_chunks(lambda chunk: self._decode(chunk, size, tables), [*levels, images]))

    def _decode(self, chunk: Sequence[Tensor], size: tuple[int, int], tables: DenseTables) -> RawGaussians:
        """The same without a batch dimension: chunk is 4 x (V, P, feature_dim) and images (V, 3, H, W)."""
        *tokens, images = chunk
        x = enlarge(self.scratch["output_conv1"](self.fuse(self.pyramid(tokens, size, tables.levels))), size)
        x = tables.image.add_to(x + self.images_merger(images.to(x.dtype)))
        raw = self.scratch["output_conv2"](x).permute(0, 2, 3, 1)
        return RawGaussians(raw[..., :-1], raw[..., -1].sigmoid())
