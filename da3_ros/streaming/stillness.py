"""Frames that barely moved: sets of images that look like the last ones that the network has seen."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from da3_ros.datatypes import FrameSet

_SMOOTH = 2  # pixels along a side that are averaged before images are compared, against noise
_CELL = 7  # of these along a side over which differences are averaged
# A robot that stands still gets an estimate so often all the same: it may not tell a skipped set from a dead camera.
LONGEST_SKIP_NS = 1_000_000_000


class Stillness:
    """Compares every set with the last one that was not skipped, so that slow motion adds up.

    ``threshold``: grey levels by which the pixels of some small cell must differ on average for a set to count as
    moved. Cells rather than the whole image, because a small object may move while the camera does not.
    """

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._cameras: tuple[str, ...] = ()
        self._stamp_ns = 0
        self._images: torch.Tensor | None = None  # (n, 3, H / 2, W / 2) of the last set that was not skipped

    def reset(self) -> None:
        """Forget the last set, so that the next one is not skipped."""
        self._images = None

    def moved(self, frame_set: FrameSet, colours: torch.Tensor) -> bool:
        """Whether the network is to see ``frame_set``, whose images are ``colours`` (n, 3, H, W) uint8.

        Waits for the device, which has to have the images by then.
        """
        images = F.avg_pool2d(colours.float(), _SMOOTH)
        if not self._skips(frame_set, images):
            self._cameras, self._stamp_ns, self._images = frame_set.cameras, frame_set.stamp_ns, images
            return True
        return False

    def _skips(self, frame_set: FrameSet, images: torch.Tensor) -> bool:
        if self._images is None or self._images.shape != images.shape or self._cameras != frame_set.cameras:
            return False
        if frame_set.stamp_ns - self._stamp_ns >= LONGEST_SKIP_NS:
            return False
        return bool(changes(images, self._images).max() < self._threshold)


def changes(images: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Grey levels (n, h, w) by which each cell of images (n, 3, H, W) differs from ``before``."""
    return F.avg_pool2d((images - before).abs().mean(dim=1, keepdim=True), _CELL)[:, 0]
