"""Separable image resampling: one small matrix for each axis, applied as weighted sums of rows.

The filters are OpenCV's: exact pixel areas where the image shrinks (INTER_AREA), a four-tap cubic with a =
-0.75 where it grows (INTER_CUBIC, not widened for shrinking). The source box may begin and end within pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from da3_ros.config import PROCESS_RES_METHODS
from da3_ros.errors import InputError

PATCH = 14  # side of the network's patches: its images have sides that are multiples of it
_CUBIC_A = -0.75


@dataclass(frozen=True, eq=False)
class Taps:
    """Output sample i of an axis is the sum over t of ``weight[i, t]`` times input sample ``index[i, t]``."""

    index: np.ndarray  # (n_out, taps) int64
    weight: np.ndarray  # (n_out, taps) float32


def area_matrix(n_in: int, n_out: int, start: float, extent: float) -> np.ndarray:
    """(n_out, n_in) float64: means over the n_out equal parts of [start, start + extent].

    Positions count from the outer edge of the first pixel, so the whole axis is [0, n_in].
    """
    edges = start + np.arange(n_out + 1)[:, None] * (extent / n_out)
    pixel = np.arange(n_in)
    overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    overlap = np.clip(overlap, 0.0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)


def cubic_matrix(n_in: int, n_out: int, start: float, extent: float) -> np.ndarray:
    """(n_out, n_in) float64: cubic interpolation at the centres of the n_out parts of [start, start + extent].

    Taps beyond the axis take its first or last sample.
    """
    position = start + (np.arange(n_out) + 0.5) * (extent / n_out) - 0.5
    first = np.floor(position).astype(np.int64) - 1
    matrix = np.zeros((n_out, n_in))
    for tap in range(4):
        weight = _cubic(np.abs(position - (first + tap)))
        np.add.at(matrix, (np.arange(n_out), np.clip(first + tap, 0, n_in - 1)), weight)
    return matrix


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (1981) with parameter a."""
    a, d = _CUBIC_A, distance
    near = (a + 2.0) * d**3 - (a + 3.0) * d**2 + 1.0
    far = a * (d**3 - 5.0 * d**2 + 8.0 * d - 4.0)
    return np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0))


@dataclass(frozen=True)
class Sizing:
    """The two sizes (height, width) through which the reference brings an image to the network's size.

    First one side becomes ``process_res`` and the aspect ratio is kept to a pixel (``scaled_hw``); then each side
    becomes a multiple of 14 (``final_hw``), by a second resize or, if ``crop``, by cutting off a margin.
    """

    scaled_hw: tuple[int, int]
    final_hw: tuple[int, int]
    crop: bool

    @property
    def offset(self) -> tuple[int, int]:
        """Rows and columns cut off at the top and at the left; at the other end it may be one more."""
        if not self.crop:
            return 0, 0
        (height, width), (final_height, final_width) = self.scaled_hw, self.final_hw
        return (height - final_height) // 2, (width - final_width) // 2

    def shown(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """The part of ``box`` (top, left, height, width), which was scaled, that the final pixels show."""
        if not self.crop:
            return box
        scale = [box[2 + axis] / self.scaled_hw[axis] for axis in (0, 1)]
        top, left = (box[axis] + self.offset[axis] * scale[axis] for axis in (0, 1))
        return top, left, self.final_hw[0] * scale[0], self.final_hw[1] * scale[1]


def network_size(box_hw: tuple[float, float], process_res: int, method: str = "upper_bound_resize") -> Sizing:
    """The sizes of a box of ``box_hw`` pixels under one of the reference's methods.

    ``upper_bound_*``: the longest side becomes ``process_res``; ``lower_bound_*``: the shortest.
    ``*_resize``: each side then goes to the nearest multiple of 14 (ties up); ``*_crop``: to the next one below,
    which is 0 for a side that is smaller. Raises InputError for another method.
    """
    if method not in PROCESS_RES_METHODS:
        raise InputError(f"process_res_method is {method!r} but must be one of {', '.join(PROCESS_RES_METHODS)}")
    scale = process_res / _bounded_side(box_hw, method)
    height, width = (max(1, round(side * scale)) for side in box_hw)
    if not method.endswith("_crop"):
        final = tuple(max(PATCH, (side + PATCH // 2) // PATCH * PATCH) for side in (height, width))
        return Sizing((height, width), (final[0], final[1]), crop=False)
    return Sizing((height, width), (height // PATCH * PATCH, width // PATCH * PATCH), crop=True)


def _bounded_side(box_hw: tuple[float, float], method: str) -> float:
    """The side that becomes ``process_res``."""
    return min(box_hw) if method.startswith("lower") else max(box_hw)


@dataclass(frozen=True, eq=False)
class Pass:
    """One separable resampling of an image: ``rows`` first, then ``columns``."""

    rows: Taps
    columns: Taps

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the result."""
        return len(self.rows.index), len(self.columns.index)


def resize_passes(
    input_hw: tuple[int, int],
    box: tuple[float, float, float, float],
    process_res: int,
    method: str = "upper_bound_resize",
) -> tuple[Pass, ...]:
    """What brings ``box`` (top, left, height, width) of an image to the network's size: one pass or two.

    The reference's steps (see ``network_size``). Each of its resizes picks one filter for both axes: areas unless
    a side grows. Two are composed into one pass where the first is by areas; cubic interpolation oversteps the
    range of grey levels at edges, and the reference cuts it off before its second resize, so then there are two.
    """
    sizing = network_size(box[2:], process_res, method)
    enlarges = process_res > _bounded_side(box[2:], method)
    first = [
        (cubic_matrix if enlarges else area_matrix)(input_hw[axis], sizing.scaled_hw[axis], box[axis], box[2 + axis])
        for axis in (0, 1)
    ]
    if sizing.crop:
        kept = [slice(sizing.offset[axis], sizing.offset[axis] + sizing.final_hw[axis]) for axis in (0, 1)]
        return (Pass(to_taps(first[0][kept[0]]), to_taps(first[1][kept[1]])),)
    if sizing.final_hw == sizing.scaled_hw:
        return (Pass(to_taps(first[0]), to_taps(first[1])),)
    grows = any(new > old for new, old in zip(sizing.final_hw, sizing.scaled_hw, strict=True))
    second = [
        (cubic_matrix if grows else area_matrix)(scaled, final, 0.0, scaled)
        for scaled, final in zip(sizing.scaled_hw, sizing.final_hw, strict=True)
    ]
    if enlarges:
        return tuple(Pass(to_taps(rows), to_taps(columns)) for rows, columns in (first, second))
    return (Pass(to_taps(second[0] @ first[0]), to_taps(second[1] @ first[1])),)


def to_taps(matrix: np.ndarray) -> Taps:
    """The band of a (n_out, n_in) matrix that is not zero, with as many taps as its widest row needs."""
    used = np.abs(matrix) > 1e-7
    first = used.argmax(axis=1)
    last = matrix.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    index = first[:, None] + np.arange((last - first).max() + 1)
    inside = index < matrix.shape[1]
    index = np.where(inside, index, matrix.shape[1] - 1)
    weight = np.take_along_axis(matrix, index, axis=1) * inside
    return Taps(index.astype(np.int64), weight.astype(np.float32))


@dataclass(frozen=True, eq=False)
class BatchTaps:
    """The taps of one axis for a batch of images, on the device: rows of image b are shifted by b * n_in."""

    index: torch.Tensor  # (B * n_out, taps) int64
    weight: torch.Tensor  # (B * n_out, taps) float32

    @staticmethod
    def stack(taps: list[Taps], n_in: int, device: torch.device) -> BatchTaps:
        """Join the taps of several images with ``n_in`` samples on this axis and equally many output samples."""
        width = max(tap.index.shape[1] for tap in taps)
        pads = [((0, 0), (0, width - tap.index.shape[1])) for tap in taps]
        # A padded tap repeats a valid index with weight 0.
        index = [np.pad(tap.index, pad, "edge") + b * n_in for b, (tap, pad) in enumerate(zip(taps, pads, strict=True))]
        weight = [np.pad(tap.weight, pad) for tap, pad in zip(taps, pads, strict=True)]
        return BatchTaps(
            torch.from_numpy(np.concatenate(index)).to(device),
            torch.from_numpy(np.concatenate(weight)).to(device),
        )


def resample(images: torch.Tensor, rows: BatchTaps, columns: BatchTaps) -> torch.Tensor:
    """Resample a batch of interleaved float images (B, H, W, c) to planar (B, c, h, w), a strided view."""
    batch, height, width, channels = images.shape
    # embedding_bag is a fused weighted sum of table rows: here, of image rows, then of image columns.
    out = F.embedding_bag(
        rows.index,
        images.reshape(batch * height, width * channels),
        per_sample_weights=rows.weight,
        mode="sum",
    )
    out = out.view(batch, -1, width, channels).permute(0, 2, 3, 1)  # (B, W, c, h)
    out = F.embedding_bag(columns.index, out.reshape(batch * width, -1), per_sample_weights=columns.weight, mode="sum")
    return out.view(batch, columns.index.shape[0] // batch, channels, -1).permute(0, 2, 3, 1)
