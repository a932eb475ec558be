"""Separable image resampling: one small matrix for each axis, applied as weighted sums of rows.

The filters are OpenCV's: exact pixel areas where the image shrinks (INTER_AREA), a four-tap cubic with a =
-0.75 where it grows (INTER_CUBIC, not widened for shrinking). The source box may begin and end within pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

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


def network_size(box_hw: tuple[float, float], longest_side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two sizes through which the reference resizes (its ``upper_bound_resize``), height first.

    First the longest side becomes ``longest_side`` and the aspect ratio is kept to a pixel; then each side
    goes to the nearest multiple of 14 (ties up).
    """
    scale = longest_side / max(box_hw)
    first = tuple(max(1, round(side * scale)) for side in box_hw)
    final = tuple(max(PATCH, (side + PATCH // 2) // PATCH * PATCH) for side in first)
    return (first[0], first[1]), (final[0], final[1])


def resize_taps(
    input_hw: tuple[int, int], box: tuple[float, float, float, float], longest_side: int
) -> tuple[Taps, Taps]:
    """Row and column taps that bring ``box`` (top, left, height, width) of an image to the network's size.

    The reference's two resizes are composed into one. It picks one filter for both axes: areas unless a side
    grows.
    """
    first, final = network_size(box[2:], longest_side)
    grows = (longest_side > max(box[2:]), any(new > old for new, old in zip(final, first, strict=True)))
    taps = []
    for axis in (0, 1):
        make = cubic_matrix if grows[0] else area_matrix
        matrix = make(input_hw[axis], first[axis], box[axis], box[2 + axis])
        make = cubic_matrix if grows[1] else area_matrix
        matrix = make(first[axis], final[axis], 0.0, first[axis]) @ matrix
        taps.append(to_taps(matrix))
    return taps[0], taps[1]


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
