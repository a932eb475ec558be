"""Rare image encodings of bags to RGB with the rosbags library."""

from __future__ import annotations

from typing import Any

import numpy as np


def rosbags_converter(msg: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image message (Bayer, 16 bits a channel ...); a ``Converter`` for from_msg.

    Raises what rosbags-image raises for encodings that it does not know.
    """
    # Imported here: only bags with such an encoding need rosbags-image.
    from rosbags.image import image_to_cvimage

    return image_to_cvimage(msg, "rgb8")
