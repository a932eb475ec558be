"""One group of images to the network's input with the Triton kernels; importing this needs Triton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.datatypes import Frame
from da3_ros.geometry.fused_kernels import rectify_kernel, resample_kernel
from da3_ros.geometry.resample import Taps
from da3_ros.geometry.views import Rectification, ViewPlan

_BLOCK = 128  # pixels of a program


@dataclass(frozen=True, eq=False)
class _AxisTable:
    """The taps of one axis of B images, as the kernels read them."""

    first: torch.Tensor  # (B, n_out) int32
    weight: torch.Tensor  # (taps, B, n_out) float32

    @staticmethod
    def stack(taps: list[Taps], device: torch.device) -> _AxisTable:
        count = max(tap.weight.shape[1] for tap in taps)
        weight = np.stack([np.pad(tap.weight, ((0, 0), (0, count - tap.weight.shape[1]))) for tap in taps])
        first = np.stack([tap.index[:, 0] for tap in taps]).astype(np.int32)
        return _AxisTable(
            torch.from_numpy(first).to(device),
            torch.from_numpy(np.ascontiguousarray(weight.transpose(2, 0, 1))).to(device),
        )

    @property
    def keeps(self) -> bool:
        """Whether every output sample is the input sample of the same number."""
        n_out = self.first.shape[1]
        same = self.first == torch.arange(n_out, dtype=torch.int32, device=self.first.device)
        return len(self.weight) == 1 and bool(same.all())


class FusedBatch:
    """Tables and launches for a fixed tuple of cameras whose images, encodings and views have the same sizes.

    ``gain`` and ``offset``: (3,) each, from grey levels to normalised values.
    """

    def __init__(
        self,
        plans: list[ViewPlan],
        frame: Frame,
        device: torch.device,
        gain: tuple[float, ...],
        offset: tuple[float, ...],
    ):
        self._normalisation = (*gain, *offset)
        self._encoding = frame.encoding
        self._image_size = frame.image.nbytes
        self._device = device
        self._content = plans[0].view.content
        first = plans[0].recipe
        grids = [plan.recipe.grid for plan in plans if isinstance(plan.recipe, Rectification)]
        self._grid = torch.from_numpy(np.stack(grids)).to(device) if grids else None
        self._samples = first.samples if isinstance(first, Rectification) else 1
        self._passes: list[tuple[_AxisTable, _AxisTable]] = []
        self._sizes = [plans[0].input_hw]  # before each pass, and after the last
        for steps in zip(*(plan.recipe.passes for plan in plans), strict=True):
            rows = _AxisTable.stack([step.rows for step in steps], device)
            columns = _AxisTable.stack([step.columns for step in steps], device)
            if self._grid is not None and rows.keeps and columns.keeps and steps[0].size_hw == self._sizes[-1]:
                continue  # the grid samples the image itself
            self._passes.append((rows, columns))
            self._sizes.append(steps[0].size_hw)

    def run(self, raw: torch.Tensor, images: torch.Tensor, colours: torch.Tensor) -> None:
        """Raw images (B * size,) uint8 to all of ``images`` (B, 3, H, W) and ``colours`` (B, 3, H, W) uint8."""
        source, size, encoding = raw, self._image_size, self._encoding
        with torch.cuda.device_of(raw):
            for number in range(len(self._passes)):
                if self._grid is None and number == len(self._passes) - 1:
                    self._resample(number, source, size, encoding, images, colours)
                    return
                height, width = self._sizes[number + 1]
                between = torch.empty((len(images), 3, height, width), dtype=torch.float32, device=self._device)
                self._resample(number, source, size, encoding, between, None)
                source, size, encoding = between, 3 * height * width, "planar"
            canvas_h, canvas_w = images.shape[-2:]
            rectify_kernel[_launch(images)](
                source, size, *self._sizes[-1], self._grid, self._samples,
                images, colours, canvas_h, canvas_w, *self._content, *self._normalisation,
                ENCODING=encoding, BLOCK=_BLOCK,
            )  # fmt: skip

    def _resample(
        self,
        number: int,
        source: torch.Tensor,
        size: int,
        encoding: str,
        images: torch.Tensor,
        colours: torch.Tensor | None,
    ) -> None:
        """One pass; without ``colours`` the whole of ``images`` is its float result, rounded where another follows."""
        rows, columns = self._passes[number]
        final = colours is not None
        height, width = images.shape[-2:]
        place = self._content if final else (0, 0, height, width)
        resample_kernel[_launch(images)](
            source, size, *self._sizes[number],
            rows.first, rows.weight, len(rows.weight), columns.first, columns.weight, len(columns.weight),
            images, colours if final else images, height, width, *place, *self._normalisation,
            ENCODING=encoding, FINAL=final, ROUND=self._grid is None, BLOCK=_BLOCK,
        )  # fmt: skip


def _launch(images: torch.Tensor) -> tuple[int, int]:
    """Programs for all pixels of the canvas, of each view."""
    return -(-images.shape[-2] * images.shape[-1] // _BLOCK), len(images)
