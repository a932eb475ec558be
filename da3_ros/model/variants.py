"""The table of network variants: everything in which one published model differs from another.

Sizes are those of Depth Anything 3 (arXiv 2511.10647) and of its published configurations. Adding a variant is
adding a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PATCH = 14          # pixels along a side of a patch
HEAD_DIM = 64       # channels of one attention head, in every backbone
POS_GRID = 37       # side of the grid on which the position embedding is stored (518 / 14)


@dataclass(frozen=True)
class Variant:
    """One network architecture.

    ``mix_start`` is the first layer of the second part of an any-view backbone: before it every layer attends
    within a view, from it on the odd layers attend across all views; it is also where q/k normalisation, rotary
    embedding and the camera token begin. None makes a single-view network (depth and sky, no poses).
    """

    name: str
    dim: int                                    # D, channels of a token
    depth: int                                  # layers of the backbone
    out_layers: tuple[int, int, int, int]       # layers whose output feeds the dense head
    mix_start: int | None
    features: int                               # F, channels of the dense head's pyramid
    out_channels: tuple[int, int, int, int]     # channels of the four levels before they are brought to F
    hub: tuple[str, ...]                        # published repositories, the preferred release first; none: our own
    licence: str                                # of the published weights
    swiglu: bool = False                        # gated feed-forward layers instead of plain MLPs
    gaussians: bool = False                     # has a 3D Gaussian head
    canonical_focal: float | None = None        # pixels; metres = depth * f / canonical_focal. None: depth is relative
    metric: Variant | None = None               # the metric network that makes this any-view network metric

    @property
    def heads(self) -> int:
        """Attention heads of a backbone layer."""
        return self.dim // HEAD_DIM

    @property
    def noncommercial(self) -> bool:
        """Whether the published weights are for non-commercial use only."""
        return "-NC" in self.licence

    @property
    def bundled(self) -> bool:
        """Whether the weights come with this package instead of from a hub."""
        return not self.hub

    @property
    def any_view(self) -> bool:
        """Whether the network relates views to each other and predicts cameras."""
        return self.mix_start is not None

    @property
    def feature_dim(self) -> int:
        """Channels of a feature token handed to the heads: any-view networks join a local and a mixed half."""
        return 2 * self.dim if self.any_view else self.dim


_APACHE, _NONCOMMERCIAL = "Apache-2.0", "CC-BY-NC-4.0"
_WIDE = (256, 512, 1024, 1024)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        # Our own, trained by da3_ros.training: small enough to come with the package and for a CPU.
        Variant("da3-nano", 192, 12, (5, 7, 9, 11), 4, 32, (24, 48, 96, 192),
                (), _APACHE),
        Variant("da3-small", 384, 12, (5, 7, 9, 11), 4, 64, (48, 96, 192, 384),
                ("depth-anything/DA3-SMALL",), _APACHE),
        Variant("da3-base", 768, 12, (5, 7, 9, 11), 4, 128, (96, 192, 384, 768),
                ("depth-anything/DA3-BASE",), _APACHE),
        Variant("da3-large", 1024, 24, (11, 15, 19, 23), 8, 256, _WIDE,
                ("depth-anything/DA3-LARGE-1.1", "depth-anything/DA3-LARGE"), _NONCOMMERCIAL),
        Variant("da3-giant", 1536, 40, (19, 27, 33, 39), 13, 256, _WIDE,
                ("depth-anything/DA3-GIANT-1.1", "depth-anything/DA3-GIANT"), _NONCOMMERCIAL,
                swiglu=True, gaussians=True),
        Variant("da3metric-large", 1024, 24, (4, 11, 17, 23), None, 256, _WIDE,
                ("depth-anything/DA3METRIC-LARGE",), _APACHE, canonical_focal=300.0),
        Variant("da3mono-large", 1024, 24, (4, 11, 17, 23), None, 256, _WIDE,
                ("depth-anything/DA3MONO-LARGE",), _APACHE),
    )
}
VARIANTS["da3nested-giant-large"] = replace(
    VARIANTS["da3-giant"],
    name="da3nested-giant-large",
    hub=("depth-anything/DA3NESTED-GIANT-LARGE-1.1", "depth-anything/DA3NESTED-GIANT-LARGE"),
    metric=VARIANTS["da3metric-large"],
)
