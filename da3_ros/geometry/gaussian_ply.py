"""3D Gaussians as files: the PLY layout of 3D Gaussian Splatting (Kerbl et al. 2023), which viewers and trainers read.

One vertex a Gaussian, binary little endian, all properties float32, in this order: x y z; nx ny nz (zero);
f_dc_0..2 (red, green, blue of degree 0); f_rest_0.. (the higher degrees: all of red, then green, then blue); opacity
(as a logit); scale_0..2 (natural logarithm of the standard deviation); rot_0..3 (quaternion w, x, y, z).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from da3_ros.errors import InputError

PUBLISHED_BORDER = 8 / 256
PUBLISHED_DEPTH_QUANTILE = 0.9
_SMALLEST_OPACITY = 1e-6  # and largest distance from 1: the logit of 0 or 1 is infinite
_NUMPY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4", "float32": "<f4",
    "double": "<f8", "float64": "<f8",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class GaussianCloud:
    """G Gaussians of one scene, in one frame and unit."""

    means: torch.Tensor  # (G, 3)
    scales: torch.Tensor  # (G, 3) standard deviations, > 0 where valid
    rotations: torch.Tensor  # (G, 4) quaternion w, x, y, z
    harmonics: torch.Tensor  # (G, 3, K): red, green, blue; K = (degree + 1)^2
    opacities: torch.Tensor  # (G,) 0 to 1

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics; 0: the same colour from everywhere."""
        return round(self.harmonics.shape[-1] ** 0.5) - 1

    def valid(self) -> torch.Tensor:
        """Which of them can be drawn, (G,) bool: every number finite and all standard deviations positive.

        Networks also place some Gaussians behind their camera; they have negative standard deviations.
        """
        finite = [getattr(self, part.name).flatten(1).isfinite().all(1) for part in fields(self)[:4]]
        return torch.stack([*finite, self.opacities.isfinite(), (self.scales > 0).all(1)]).all(0)

    def keep(self, mask: torch.Tensor) -> GaussianCloud:
        """The Gaussians where ``mask`` (G,) bool is true."""
        return GaussianCloud(*(getattr(self, part.name)[mask] for part in fields(self)))

    def to_degree(self, degree: int) -> GaussianCloud:
        """The same with harmonics of a lower ``degree``: 0 is half of the file, without reflections."""
        if not 0 <= degree <= self.degree:
            raise InputError(f"harmonics of degree {degree} were asked for, but these have degree {self.degree}")
        return replace(self, harmonics=self.harmonics[..., : (degree + 1) ** 2])


def prune_mask(depth: torch.Tensor, border: float = 0.0, depth_quantile: float = 1.0) -> torch.Tensor:
    """Which pixels (N, H, W) bool of N views with ``depth`` (N, H, W) keep their Gaussian.

    ``border``: share of height and width that is left out on each side, where Gaussians are worse. ``depth_quantile``:
    share of each view's pixels, the nearest ones, that stay: sky and far background come out as a shell of large
    Gaussians. The published export does both, with PUBLISHED_BORDER and PUBLISHED_DEPTH_QUANTILE.
    Raises InputError for shares out of range.
    """
    if not 0.0 <= border < 0.5 or not 0.0 < depth_quantile <= 1.0:
        raise InputError(
            f"border is {border:g} and depth quantile {depth_quantile:g}, but they must be in [0, 0.5) and (0, 1]"
        )
    height, width = depth.shape[1:]
    rows, columns = int(border * height), int(border * width)
    kept = torch.zeros_like(depth, dtype=torch.bool)
    kept[:, rows : height - rows, columns : width - columns] = True
    if depth_quantile < 1.0:
        # Not torch.quantile, which refuses large pictures.
        ranked = depth.flatten(1).sort(dim=1).values
        position = depth_quantile * (ranked.shape[1] - 1)
        low = ranked[:, int(position)]
        high = ranked[:, min(int(position) + 1, ranked.shape[1] - 1)]
        limit = torch.lerp(low, high, position - int(position))
        kept &= depth <= limit[:, None, None]
    return kept


def write_gaussian_ply(path: str | Path, cloud: GaussianCloud) -> int:
    """Write the valid Gaussians of ``cloud`` (see GaussianCloud.valid) and return how many these are.

    Raises InputError when none is left or the file cannot be written.
    """
    cloud = cloud.keep(cloud.valid())
    count = len(cloud.means)
    if count == 0:
        raise InputError(f"no Gaussian is left to write to {path}: prune less")
    columns = torch.cat(
        [
            cloud.means,
            torch.zeros_like(cloud.means),
            cloud.harmonics[..., 0],
            cloud.harmonics[..., 1:].flatten(1),
            torch.logit(cloud.opacities, eps=_SMALLEST_OPACITY)[:, None],
            cloud.scales.log(),
            cloud.rotations,
        ],
        dim=1,
    )
    properties = "".join(f"property float {name}\n" for name in _names(cloud.harmonics.shape[-1]))
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n"
    rows = columns.detach().float().cpu().numpy().astype("<f4", copy=False)
    try:
        with open(path, "wb") as file:
            file.write(header.encode("ascii"))
            file.write(rows.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return count


def read_gaussian_ply(path: str | Path) -> GaussianCloud:
    """The Gaussians of a PLY file as write_gaussian_ply and other 3D Gaussian Splatting tools make it, on the CPU.

    Harmonics of degree 0 to 3; further properties are ignored. Raises InputError for a file that is none, is cut
    short, or lacks a property.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    head, end, body = content.partition(b"end_header\n")
    if not content.startswith(b"ply") or not end:
        raise InputError(f"{path} is no PLY file: its header is missing")
    header = head.decode("ascii", errors="replace")
    vertex = re.search(r"element vertex (\d+)\s((?:property \w+ \w+\s)+)", header)
    if "format binary_little_endian" not in header or vertex is None:
        raise InputError(f"{path} is no PLY file of Gaussians: binary little-endian vertices with scalars are needed")
    count = int(vertex[1])
    names = re.findall(r"property (\w+) (\w+)", vertex[2])
    unknown = [kind for kind, _ in names if kind not in _NUMPY_TYPES]
    if unknown:
        raise InputError(f"{path} has properties of the unknown type {unknown[0]}")
    layout = np.dtype([(name, _NUMPY_TYPES[kind]) for kind, name in names])
    if len(body) < count * layout.itemsize:
        raise InputError(
            f"{path} is cut short: {count} Gaussians need {count * layout.itemsize} bytes, not {len(body)}"
        )
    return _from_table(np.frombuffer(body, layout, count), path)


def _names(coefficients: int) -> list[str]:
    """The properties in order, for ``coefficients`` harmonics of each colour."""
    rest = [f"f_rest_{i}" for i in range(3 * (coefficients - 1))]
    numbered = [f"{name}_{i}" for name, size in (("scale", 3), ("rot", 4)) for i in range(size)]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity", *numbered]


def _from_table(table: np.ndarray, path: str | Path) -> GaussianCloud:
    present = table.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in present)
    if rest not in (0, 9, 24, 45):
        raise InputError(f"{path} has {rest} properties f_rest, but 0, 9, 24 or 45 make up degrees 0 to 3")
    missing = [name for name in _names(rest // 3 + 1) if name not in present and name not in ("nx", "ny", "nz")]
    if missing:
        raise InputError(f"{path} is no PLY file of Gaussians: it lacks the property {missing[0]}")

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in names], axis=1))

    direct = columns("f_dc_0", "f_dc_1", "f_dc_2")[..., None]
    if rest:
        higher = columns(*(f"f_rest_{i}" for i in range(rest))).unflatten(1, (3, rest // 3))
        direct = torch.cat([direct, higher], dim=-1)
    return GaussianCloud(
        means=columns("x", "y", "z"),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        rotations=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        harmonics=direct,
        opacities=columns("opacity")[:, 0].sigmoid(),
    )
