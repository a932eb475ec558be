"""sensor_msgs Image and CompressedImage to frames. Reads attributes only: rclpy and rosbags messages both work.

Every FrameError has one of these reasons: ``size``, ``data_length``, ``encoding``, ``calibration``,
``decode``, ``stamp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from da3_ros.datatypes import CameraCalibration, Frame
from da3_ros.errors import FrameError
from da3_ros.ingest.calibration import calibration_from_info
from da3_ros.ingest.decode import decode_compressed

__all__ = [
    "Converter",
    "Pixels",
    "as_bytes",
    "calibration_from_info",
    "frame_from_compressed",
    "frame_from_image",
    "stamp_from_header",
]

# Makes (H, W, 3) uint8 RGB of an Image message whose encoding is not one of the direct ones.
Converter = Callable[[Any], np.ndarray]
# Pixels and their encoding, both as in Frame.
Pixels = tuple[np.ndarray | torch.Tensor, str]

# Image.encoding -> (Frame.encoding, bytes per pixel of a row). The generic OpenCV types are taken as what
# OpenCV programs fill them with: 8UC3 and 8UC4 as BGR.
_DIRECT = {
    "rgb8": ("rgb8", 3),
    "bgr8": ("bgr8", 3),
    "8UC3": ("bgr8", 3),
    "rgba8": ("rgba8", 4),
    "bgra8": ("bgra8", 4),
    "8UC4": ("bgra8", 4),
    "mono8": ("mono8", 1),
    "8UC1": ("mono8", 1),
    "mono16": ("mono16", 2),
    "16UC1": ("mono16", 2),
    "yuv422": ("yuv422", 2),
    "uyvy": ("yuv422", 2),
    "yuv422_yuy2": ("yuv422_yuy2", 2),
    "yuyv": ("yuv422_yuy2", 2),
    "nv12": ("nv12", 1),
    "nv21": ("nv21", 1),
}
_NO_PICTURE = re.compile(r"(8S|16S|32S|32F|64F)(C\d+)?")


def frame_from_image(
    msg: Any,
    camera: str,
    frame_id_override: str = "",
    calibration: CameraCalibration | None = None,
    converter: Converter | None = None,
) -> Frame:
    """The frame of a sensor_msgs/Image.

    Pixels are a view of the message's data, row padding included, and not copied (but for big-endian mono16).
    Encodings that are not direct (Bayer, 16 bits a channel ...) go through ``converter``.

    Raises FrameError for an unknown encoding, a size or data length that contradicts itself, a
    ``calibration`` of another size and a missing stamp.
    """
    stamp_ns = stamp_from_header(msg.header, camera)
    height, width = int(msg.height), int(msg.width)
    _check_size(height, width, camera)
    if msg.encoding in _DIRECT:
        encoding, bytes_per_pixel = _DIRECT[msg.encoding]
        image = _direct_pixels(msg, camera, encoding, bytes_per_pixel)
    else:
        encoding, image = "rgb8", _converted_pixels(msg, camera, converter)
    _check_calibration(calibration, height, width, camera)
    return Frame(camera, stamp_ns, image, encoding, frame_id_override or msg.header.frame_id, calibration)


def frame_from_compressed(
    msg: Any,
    camera: str,
    frame_id_override: str = "",
    calibration: CameraCalibration | None = None,
    decoded: Callable[[], Pixels] | None = None,
) -> Frame:
    """The frame of a sensor_msgs/CompressedImage with a JPEG or PNG picture, decoded on the CPU.

    ``decoded``: what gives its pixels, or raises FrameError, where it has been decoded already. Raises FrameError for
    other formats, a picture that is damaged or cut off, a ``calibration`` of another size and a missing stamp.
    """
    stamp_ns = stamp_from_header(msg.header, camera)
    image, encoding = decode_compressed(as_bytes(msg.data), msg.format, camera) if decoded is None else decoded()
    _check_calibration(calibration, image.shape[0], image.shape[1], camera)
    return Frame(camera, stamp_ns, image, encoding, frame_id_override or msg.header.frame_id, calibration)


def stamp_from_header(header: Any, camera: str) -> int:
    """Nanoseconds of ``header.stamp``. Raises FrameError for zero, which is what drivers send that set none."""
    stamp_ns = int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
    if stamp_ns <= 0:
        raise FrameError(
            camera,
            "stamp",
            f"the image has the stamp {stamp_ns} ns: its driver must set header.stamp to the time of exposure",
        )
    return stamp_ns


def _check_size(height: int, width: int, camera: str) -> None:
    if height < 1 or width < 1:
        raise FrameError(
            camera,
            "size",
            f"the image has {width}x{height} pixels: check the driver behind camera.{camera}.image_topic",
        )


def _check_calibration(calibration: CameraCalibration | None, height: int, width: int, camera: str) -> None:
    if calibration is not None and (calibration.width, calibration.height) != (width, height):
        raise FrameError(
            camera,
            "calibration",
            f"the image has {width}x{height} pixels, but its CameraInfo describes {calibration.width}x"
            f"{calibration.height}: set camera.{camera}.camera_info_topic to the one that belongs to the image topic",
        )


def as_bytes(data: Any) -> np.ndarray:
    """Message data (array, bytes, memoryview, numpy array) as uint8 (n,), without a copy."""
    if isinstance(data, np.ndarray):
        return data.reshape(-1).view(np.uint8)
    return np.frombuffer(data, dtype=np.uint8)


def _direct_pixels(msg: Any, camera: str, encoding: str, bytes_per_pixel: int) -> np.ndarray:
    """(rows, W, bytes) view of the data; what rows and bytes are for each encoding: see Frame."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    planar = encoding in ("nv12", "nv21")
    if ((planar or encoding.startswith("yuv422")) and width % 2) or (planar and height % 2):
        raise FrameError(
            camera,
            "size",
            f"an image of {width}x{height} pixels cannot be {msg.encoding}, whose pixels share colour in pairs: "
            "choose an even size in the driver",
        )
    rows = height * 3 // 2 if planar else height
    row_bytes = width * bytes_per_pixel
    if step < row_bytes:
        raise FrameError(
            camera,
            "data_length",
            f"step is {step} bytes, but a row of {width} pixels in {msg.encoding} has {row_bytes}: the driver behind "
            f"camera.{camera}.image_topic must set step and encoding right",
        )
    data = as_bytes(msg.data)
    if data.size != rows * step:
        raise FrameError(
            camera,
            "data_length",
            f"data has {data.size} bytes, but {rows} rows of {step} bytes make {rows * step} ({width}x{height} "
            f"{msg.encoding}): the driver behind camera.{camera}.image_topic must set height, step and encoding right",
        )
    pixels = data.reshape(rows, step)[:, :row_bytes].reshape(rows, width, bytes_per_pixel)
    if encoding == "mono16" and msg.is_bigendian:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    return pixels


def _converted_pixels(msg: Any, camera: str, converter: Converter | None) -> np.ndarray:
    """(H, W, 3) uint8 RGB made by ``converter``."""
    wanted = f"set the driver to one of {', '.join(_DIRECT)} or a Bayer pattern"
    if _NO_PICTURE.fullmatch(msg.encoding):
        raise FrameError(camera, "encoding", f"{msg.encoding} is no picture (is this a depth topic?): {wanted}")
    if converter is None:
        raise FrameError(
            camera, "encoding", f"encoding '{msg.encoding}' is not supported without a converter: {wanted}"
        )
    try:
        image = np.asarray(converter(msg))
    except Exception as error:  # a converter's errors are its own; whatever it is, this image is lost
        raise FrameError(
            camera, "encoding", f"encoding '{msg.encoding}' cannot be converted to rgb8 ({error}): {wanted}"
        ) from error
    if image.dtype != np.uint8 or image.shape != (msg.height, msg.width, 3):
        raise FrameError(
            camera,
            "encoding",
            f"encoding '{msg.encoding}' was converted to {image.dtype} {image.shape} instead of uint8 "
            f"{(int(msg.height), int(msg.width), 3)}: {wanted}",
        )
    return np.ascontiguousarray(image)
