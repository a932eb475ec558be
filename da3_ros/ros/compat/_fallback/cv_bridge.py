"""Image messages from and to OpenCV arrays; colour conversions are those of ``rosbags-image``."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from rosbags.image import ImageError, image_to_cvimage
from sensor_msgs.msg import Image
from std_msgs.msg import Header

_DTYPES = {
    "8U": "uint8",
    "8S": "int8",
    "16U": "uint16",
    "16S": "int16",
    "32S": "int32",
    "32F": "float32",
    "64F": "float64",
}
_DEPTHS = {dtype: depth for depth, dtype in _DTYPES.items()}
_CHANNELS = {"mono": 1, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}
_BAYER = tuple(f"bayer_{pattern}" for pattern in ("rggb", "bggr", "gbrg", "grbg"))
_YUV = ("yuv422", "yuv422_yuy2")


class CvBridgeError(TypeError):
    """An image cannot be converted."""


class CvBridge:
    """Converts between messages and arrays: (H, W) for one channel, else (H, W, channels)."""

    def imgmsg_to_cv2(self, img_msg: Any, desired_encoding: str = "passthrough") -> np.ndarray:
        """The picture of an Image message, without row padding and in native byte order.

        ``desired_encoding``: ``passthrough`` for the message's own (the array may share its memory), or an
        encoding of sensor_msgs; between 8 and 16 bits values are scaled by the full range. Raises CvBridgeError.
        """
        dtype, channels = _layout(img_msg.encoding)
        pixel = dtype.itemsize * channels
        height, width, step = img_msg.height, img_msg.width, img_msg.step
        if step < width * pixel or len(img_msg.data) < height * step:
            raise CvBridgeError(
                f"a {width}x{height} {img_msg.encoding} image with step {step} does not fit its "
                f"{len(img_msg.data)} bytes of data"
            )
        image = np.ndarray(
            (height, width, channels),
            dtype=dtype.newbyteorder(">" if img_msg.is_bigendian else "<"),
            buffer=img_msg.data,
            strides=(step, pixel, dtype.itemsize),
        )
        image = np.ascontiguousarray(image.squeeze(2) if channels == 1 else image, dtype=dtype)
        return image if desired_encoding == "passthrough" else _convert(image, img_msg.encoding, desired_encoding)

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg: Any, desired_encoding: str = "passthrough") -> np.ndarray:
        """The picture of a CompressedImage message (jpeg, png ...).

        ``passthrough`` gives what the file holds, colours in BGR order; otherwise as for ``imgmsg_to_cv2``.
        Raises CvBridgeError.
        """
        data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise CvBridgeError(f"{data.size} bytes of format '{cmprs_img_msg.format}' are no picture that decodes")
        if desired_encoding == "passthrough":
            return image
        colour = "mono" if image.ndim == 2 else {3: "bgr", 4: "bgra"}[image.shape[2]]
        return _convert(image, f"{colour}{8 * image.itemsize}", desired_encoding)

    def cv2_to_imgmsg(self, cvim: np.ndarray, encoding: str = "passthrough", header: Header | None = None) -> Image:
        """The Image message of an array, whose type must be the one that ``encoding`` stands for.

        ``passthrough`` names the type alone (8UC3 ...). Raises CvBridgeError where the two do not agree.
        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError(f"the image is a {type(cvim).__name__}, not an array")
        channels = 1 if cvim.ndim < 3 else cvim.shape[2]
        if cvim.dtype.name not in _DEPTHS:
            raise CvBridgeError(f"no encoding holds {cvim.dtype.name}")
        generic = f"{_DEPTHS[cvim.dtype.name]}C{channels}"
        if encoding == "passthrough":
            encoding = generic
        elif _layout(encoding) != (cvim.dtype.newbyteorder("="), channels):
            raise CvBridgeError(f"the image is {generic}, which is not the type of {encoding}")
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        if header is not None:
            message.header = header
        message.is_bigendian = cvim.dtype.newbyteorder("<") != cvim.dtype
        message.step = cvim.shape[1] * channels * cvim.dtype.itemsize
        message.data.frombytes(cvim.tobytes())
        return message


def _layout(encoding: str) -> tuple[np.dtype, int]:
    """Type and number of channels of the array of an encoding."""
    if match := re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([0-9]+))?", encoding):
        return np.dtype(_DTYPES[match[1]]), int(match[2] or 1)
    if encoding in _YUV:
        return np.dtype(np.uint8), 2
    colour, bits = _colour(encoding)
    if colour in _BAYER:
        return np.dtype(f"uint{bits}"), 1
    if colour in _CHANNELS:
        return np.dtype(f"uint{bits}"), _CHANNELS[colour]
    raise CvBridgeError(f"encoding '{encoding}' is not supported")


def _colour(encoding: str) -> tuple[str, int]:
    """Name and bits of a colour encoding (``rgb8``: rgb, 8); the name is empty for encodings without colour."""
    if encoding in _YUV:
        return encoding, 8
    match = re.fullmatch(r"([a-z_]+?)(8|16)", encoding)
    return (match[1], int(match[2])) if match else ("", 0)


def _convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """The picture in another encoding, first in colour, then in depth; a copy."""
    (dtype, channels), (target_dtype, target_channels) = _layout(source), _layout(target)
    if source == target:
        return image.copy()
    (colour, bits), (target_colour, _) = _colour(source), _colour(target)
    if colour and target_colour and colour != target_colour:
        if target_colour not in _CHANNELS or (colour in _BAYER and target_colour in ("rgba", "bgra")):
            raise CvBridgeError(f"{source} cannot be converted to {target}")
        height, width = image.shape[:2]
        message = SimpleNamespace(encoding=source, height=height, width=width, data=image, is_bigendian=False)
        try:
            image = image_to_cvimage(message, f"{target_colour}{bits}")  # type: ignore[arg-type]
        except (ImageError, cv2.error, TypeError) as error:
            raise CvBridgeError(f"{source} cannot be converted to {target}: {error}") from error
    elif channels != target_channels or (target_colour and not colour):
        raise CvBridgeError(f"{source} cannot be converted to {target}: what its channels mean is not known")
    return _change_depth(image, dtype, target_dtype)


def _change_depth(image: np.ndarray, source: np.dtype, target: np.dtype) -> np.ndarray:
    """The values in another type: rounded, clipped, and scaled by the full range between 8 and 16 bits."""
    scale = {(1, 2): 257.0, (2, 1): 1.0 / 257.0}.get((source.itemsize, target.itemsize), 1.0)
    if source == target or target.kind == "f":
        return image.astype(target)
    bounds = np.iinfo(target)
    return np.clip(np.rint(image * scale), bounds.min, bounds.max).astype(target)
