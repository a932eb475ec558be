"""JPEG and PNG data of sensor_msgs/CompressedImage to pixels."""

from __future__ import annotations

import cv2
import numpy as np

from da3_ros.errors import FrameError

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
# OpenCV names a Bayer pattern after its second row: what ROS calls rggb starts BG there.
_BAYER = {
    "bayer_rggb8": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr8": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg8": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg8": cv2.COLOR_BayerGB2BGR,
}
_MONO_OR_COLOUR = {1: "mono8", 3: "bgr8", 4: "bgra8"}


def decode_compressed(data: np.ndarray, picture_format: str, camera: str) -> tuple[np.ndarray, str]:
    """Pixels and their encoding (both as in Frame) of compressed ``data`` (n,) uint8.

    ``picture_format``: the message's ``format``: ``jpeg``, ``png``, or what image_transport writes,
    ``<encoding>; <codec> compressed <encoding in the file>``. Raises FrameError (``encoding``, ``decode``).
    """
    _check_format(picture_format, camera)
    _check_complete(data.tobytes(), camera)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError(
            camera, "decode", f"the picture cannot be decoded ({error.err}): check its publisher"
        ) from error
    if image is None:
        raise FrameError(camera, "decode", f"the picture of {data.size} bytes is damaged: check its publisher")
    # image_transport stores a Bayer image as the mosaic that it is.
    source = picture_format.partition(";")[0].strip()
    if source.startswith("bayer_") and image.ndim == 2:
        if source not in _BAYER or image.dtype != np.uint8:
            raise FrameError(camera, "encoding", f"compressed '{source}' cannot be converted: publish 8-bit colour")
        image = cv2.cvtColor(image, _BAYER[source])
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype == np.uint16:
        if image.shape[2] == 1:
            return image.astype("<u2", copy=False).view(np.uint8), "mono16"
        image = (image // 256).astype(np.uint8)
    encoding = _MONO_OR_COLOUR.get(image.shape[2])
    if encoding is None or image.dtype != np.uint8:
        raise FrameError(
            camera,
            "encoding",
            f"the picture has {image.shape[2]} channels of {image.dtype}: publish 8-bit colour",
        )
    if _stored_as_rgb(picture_format):
        encoding = encoding.replace("bgr", "rgb")
    return image, encoding


def is_plain_jpeg(data: np.ndarray, picture_format: str) -> bool:
    """Whether ``decode_compressed`` would take it for a complete JPEG whose pixels need nothing more than decoding."""
    try:
        _check_format(picture_format, "")
        _check_complete(data.tobytes(), "")
    except FrameError:
        return False
    return data[:2].tobytes() == _JPEG_START and not picture_format.startswith("bayer_")


def rgb_encoding(picture_format: str) -> str:
    """Encoding of the pixels of a colour JPEG for which a decoder gives red first, as in Frame."""
    return "bgr8" if _stored_as_rgb(picture_format) else "rgb8"


def _stored_as_rgb(picture_format: str) -> bool:
    """image_transport can have stored the channels in RGB order, which a decoder then takes for BGR."""
    return "compressed rgb" in picture_format


def _check_format(picture_format: str, camera: str) -> None:
    name = picture_format.lower()
    if "compresseddepth" in name:
        raise FrameError(
            camera,
            "encoding",
            f"format '{picture_format}' is compressed depth, not a picture: set camera.{camera}.image_topic to the "
            "colour image",
        )
    if not any(codec in name for codec in ("jpeg", "jpg", "png")):
        raise FrameError(
            camera,
            "encoding",
            f"format '{picture_format}' is neither jpeg nor png: publish one of those, or decode it into an Image "
            f"topic and set camera.{camera}.transport to raw",
        )


def _check_complete(data: bytes, camera: str) -> None:
    """Decoders fill what is cut off with grey and say nothing: look for the end marker of the last scan."""
    if data.startswith(_JPEG_START):
        complete = _JPEG_END in data[max(data.rfind(_JPEG_SCAN), 0) :]
    elif data.startswith(_PNG_START):
        complete = _PNG_END in data[-16:]
    else:
        raise FrameError(camera, "decode", f"the {len(data)} bytes are neither jpeg nor png: check its publisher")
    if not complete:
        raise FrameError(
            camera,
            "decode",
            f"the picture is cut off after {len(data)} bytes: check its publisher and the network",
        )
