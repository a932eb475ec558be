"""JPEG pictures decoded on the GPU: nvJPEG, through torchvision where that is installed with CUDA.

Luminance equals the CPU decoder's. Colour that the file stores at half the size is repeated for the pixels that share
it, where the CPU decoder interpolates it: the two differ at edges between colours (docs/performance.md).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

import cv2
import numpy as np
import torch

_log = logging.getLogger(__name__)


class GpuJpegDecoder:
    """Decodes pictures of one set together, on a stream of its own. Not thread-safe."""

    def __init__(self, device: torch.device):
        """Raises ImportError without torchvision, RuntimeError where that was built without nvJPEG."""
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._io = importlib.import_module("torchvision.io")
        # The first picture takes a while, since it makes nvJPEG's own buffers.
        self._decode([torch.from_numpy(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].ravel())])

    def decode(self, pictures: Sequence[np.ndarray]) -> list[torch.Tensor] | None:
        """Pixels (H, W, 3) uint8 with red first, on the device, of ``pictures`` (n,) uint8; complete on return.

        None where nvJPEG cannot read one of them: the CPU decoder finds out which, and why.
        """
        try:
            # A copy each: the bytes of a message may be read-only, and torch has no such tensors.
            return self._decode([torch.from_numpy(picture.copy()) for picture in pictures])
        except RuntimeError as error:
            _log.debug("nvJPEG: %s", str(error).partition("\n")[0])
            return None

    def _decode(self, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.cuda.stream(self._stream):
            planes = self._io.decode_jpeg(pictures, mode=self._io.ImageReadMode.RGB, device=self._device)
        self._stream.synchronize()  # for these pictures alone, not for the network
        return [picture.permute(1, 2, 0) for picture in planes]


def open_gpu_decoder(device: torch.device) -> GpuJpegDecoder | None:
    """A decoder for ``device``, None where there is none: the CPU then decodes."""
    if device.type != "cuda":
        return None
    try:
        return GpuJpegDecoder(device)
    except (ImportError, RuntimeError) as error:
        _log.info("compressed images are decoded on the CPU: no nvJPEG (%s)", str(error).partition("\n")[0])
        return None
