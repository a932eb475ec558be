"""Images of all cameras to the network's input: one upload, then everything on the device.

Raw bytes -> staging memory (pinned for CUDA) -> device -> float pixels -> resampled -> RGB uint8 ->
normalised. On CUDA all after the upload is one kernel or two (fused.py), where Triton is not installed torch's
operations as on the CPU.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from da3_ros.cuda_graphs import Replay
from da3_ros.datatypes import Frame
from da3_ros.errors import FrameError
from da3_ros.geometry.pixels import rgb_channels, to_float
from da3_ros.geometry.resample import BatchTaps, resample
from da3_ros.geometry.staging import UploadRing
from da3_ros.geometry.views import Rectification, ViewPlan

_GRAPHS = 24  # of the groups of a set, for each buffer of the ring
# ImageNet statistics in grey levels, with which the network was trained.
_MEAN = (0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0)
_STD = (0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0)
_GAIN = tuple(1.0 / std for std in _STD)
_OFFSET = tuple(-mean / std for mean, std in zip(_MEAN, _STD, strict=True))


class ImagePreparer:
    """Turns frames into normalised network images and the colours that they were made from. Not thread-safe.

    ``plans``: camera -> plan, as ``plan_views`` makes them. Images have ``dtype`` and lie on ``device``.
    Neighbours among the frames whose images have the same size and encoding, and whose views have the same size, are
    processed together. Tables and staging memory are made at the first use of a combination and kept.
    """

    def __init__(self, plans: Mapping[str, ViewPlan], device: torch.device | str, dtype: torch.dtype = torch.float32):
        self._plans = dict(plans)
        self._device = torch.device(device)
        self._dtype = dtype
        self._batches: dict[tuple, _Batch] = {}
        self._ring = UploadRing(self._device)
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # number of images -> what is filled again
        self._replay = Replay(self._device, _GRAPHS)
        self._fused = self._device.type == "cuda" and importlib.util.find_spec("triton") is not None
        self._canvas_hw = next(iter(self._plans.values())).view.canvas_hw

    def prepare(self, frames: Sequence[Frame], reuse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, H, W) for the network and colours (n, 3, H, W) uint8 RGB, in the order of ``frames``.

        Any subset of the planned cameras in any order. Padding is 0 in both. The host does not wait for a
        CUDA device. With ``reuse`` the next call that says so, on the same stream, may overwrite both. Raises
        FrameError for a camera without plan, or an image of another size than planned (``size``).
        """
        for frame in frames:
            self._check(frame)
        images, colours = self._reused(len(frames)) if reuse else self._empty(len(frames))
        view = byte = 0
        with self._ring.upload([frame.image for frame in frames]) as raw:
            for group in self._groups(frames):
                views, size = slice(view, view + len(group)), len(group) * group[0].image.nbytes
                self._run(group, raw[byte : byte + size], images[views], colours[views])
                view, byte = view + len(group), byte + size
        return images, colours

    def _empty(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (count, 3, *self._canvas_hw)
        images = torch.empty(shape, dtype=self._dtype, device=self._device)
        return images, torch.empty(shape, dtype=torch.uint8, device=self._device)

    def _reused(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._device.type == "cpu":
            return self._empty(count)
        if count not in self._kept:
            self._kept[count] = self._empty(count)
        return self._kept[count]

    def _run(self, group: list[Frame], raw: torch.Tensor, images: torch.Tensor, colours: torch.Tensor) -> None:
        """Fill ``images`` and ``colours`` of a group; from a graph where all three lie in a place that came up before,
        since launching a kernel of so many arguments takes the host longer than the device needs for it."""
        batch = self._batch(group)
        self._replay.run(id(batch), (raw, images, colours), lambda: batch.run(raw, images, colours), kept=batch)

    def _check(self, frame: Frame) -> None:
        plan = self._plans.get(frame.camera)
        if plan is None:
            known = ", ".join(self._plans)
            raise FrameError(frame.camera, "size", f"no view is planned for it, only for {known}: plan its view first")
        if tuple(frame.size_hw) != tuple(plan.input_hw):
            (height, width), (planned_height, planned_width) = frame.size_hw, plan.input_hw
            raise FrameError(
                frame.camera,
                "size",
                f"its image has {width}x{height} pixels, but its view is planned for {planned_width}x"
                f"{planned_height}: plan its view again",
            )

    def _groups(self, frames: Sequence[Frame]) -> list[list[Frame]]:
        """Runs of frames that can be processed together."""
        if self._device.type == "cpu":
            return [[frame] for frame in frames]  # one image at a time stays in the processor's cache
        return [list(group) for _, group in itertools.groupby(frames, self._kind)]

    def _kind(self, frame: Frame) -> tuple:
        """Frames of one kind have the same operations and shapes, and their content has the same place."""
        plan = self._plans[frame.camera]
        grid = plan.recipe.grid.shape if isinstance(plan.recipe, Rectification) else None
        sizes = tuple(step.size_hw for step in plan.recipe.passes)
        return frame.image.shape, frame.encoding, grid, sizes, plan.view.content

    def _batch(self, frames: list[Frame]) -> _Batch:
        key = (tuple(frame.camera for frame in frames), frames[0].encoding, frames[0].image.shape)
        if key not in self._batches:
            plans = [self._plans[frame.camera] for frame in frames]
            self._batches[key] = self._make_batch(plans, frames[0])
        return self._batches[key]

    def _make_batch(self, plans: list[ViewPlan], frame: Frame) -> _Batch:
        if self._fused:
            from da3_ros.geometry.fused import FusedBatch

            return FusedBatch(plans, frame, self._device, _GAIN, _OFFSET)
        return _TorchBatch.make(plans, frame, self._device)


def normalise_pictures(pictures: torch.Tensor, contents: Sequence[tuple[int, int, int, int]]) -> torch.Tensor:
    """Colours (n, H, W, 3) uint8 RGB, as ``prepare`` gave them, back to the network's images (n, 3, H, W) float32.

    ``contents``: top, left, height, width of what is no padding, which is 0.
    """
    gain, offset = (pictures.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (_GAIN, _OFFSET))
    images = torch.zeros_like(pictures.permute(0, 3, 1, 2), dtype=torch.float32)
    for image, picture, (top, left, height, width) in zip(images, pictures, contents, strict=True):
        area = (slice(None), slice(top, top + height), slice(left, left + width))
        image[area] = picture.permute(2, 0, 1)[area].float() * gain + offset
    return images


class _Batch(Protocol):
    """Device tables for a fixed tuple of cameras."""

    def run(self, raw: torch.Tensor, images: torch.Tensor, colours: torch.Tensor) -> None:
        """Raw images (B * size,) uint8 to all of ``images`` (B, 3, H, W) and ``colours`` (B, 3, H, W) uint8."""


@dataclass(frozen=True, eq=False)
class _TorchBatch:
    """The same with torch's operations, on any device."""

    encoding: str
    image_shape: tuple[int, ...]  # (rows, W, bytes)
    passes: tuple[tuple[BatchTaps, BatchTaps], ...]  # rows and columns of each
    grid: torch.Tensor | None  # (B, h * samples, w * samples, 2)
    samples: int
    channels: tuple[int, int, int]
    content: tuple[int, int, int, int]  # as in View
    gain: torch.Tensor  # (3, 1, 1)
    offset: torch.Tensor

    @staticmethod
    def make(plans: list[ViewPlan], frame: Frame, device: torch.device) -> _TorchBatch:
        """Upload the tables of ``plans`` for images shaped like ``frame``'s."""
        recipes = [plan.recipe for plan in plans]
        grids = [recipe.grid for recipe in recipes if isinstance(recipe, Rectification)]
        first = recipes[0]
        passes = []
        size_hw = plans[0].input_hw
        for steps in zip(*(recipe.passes for recipe in recipes), strict=True):
            rows = BatchTaps.stack([step.rows for step in steps], size_hw[0], device)
            columns = BatchTaps.stack([step.columns for step in steps], size_hw[1], device)
            passes.append((rows, columns))
            size_hw = steps[0].size_hw
        gain, offset = (torch.tensor(values).view(3, 1, 1).to(device) for values in (_GAIN, _OFFSET))
        return _TorchBatch(
            encoding=frame.encoding,
            image_shape=frame.image.shape,
            passes=tuple(passes),
            grid=torch.from_numpy(np.stack(grids)).to(device) if grids else None,
            samples=first.samples if isinstance(first, Rectification) else 1,
            channels=rgb_channels(frame.encoding),
            content=plans[0].view.content,
            gain=gain,
            offset=offset,
        )

    def run(self, raw: torch.Tensor, images: torch.Tensor, colours: torch.Tensor) -> None:
        """As in _Batch."""
        top, left, height, width = self.content
        grey = self._resampled(raw.view(-1, *self.image_shape))
        if (height, width) != tuple(images.shape[-2:]):
            images.zero_()
            colours.zero_()
        place = (..., slice(top, top + height), slice(left, left + width))
        images[place] = torch.addcmul(self.offset, grey, self.gain)
        colours[place] = grey

    def _resampled(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw images to whole grey levels, float32 RGB (B, 3, h, w) in 0 to 255."""
        planes = to_float(raw, self.encoding).permute(0, 3, 1, 2)
        for number, (rows, columns) in enumerate(self.passes):
            if number > 0:
                planes = planes.round().clamp_(0.0, 255.0)
            planes = resample(planes.permute(0, 2, 3, 1), rows, columns)
        if self.grid is not None:
            planes = F.grid_sample(
                planes.contiguous(), self.grid, mode="bilinear", padding_mode="border", align_corners=False
            )
            if self.samples > 1:
                planes = F.avg_pool2d(planes, self.samples)
        planes = planes.round().clamp_(0.0, 255.0)
        return planes if self.channels == (0, 1, 2) else torch.stack([planes[:, c] for c in self.channels], dim=1)
