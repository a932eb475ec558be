"""Message sets to frame sets: what cannot be used is left out and reported."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration, Frame, FrameSet
from da3_ros.errors import FrameError
from da3_ros.ingest.decode import is_plain_jpeg, rgb_encoding
from da3_ros.ingest.from_msg import (
    Converter,
    Pixels,
    as_bytes,
    calibration_from_info,
    frame_from_compressed,
    frame_from_image,
)
from da3_ros.ingest.jpeg import GpuJpegDecoder, open_gpu_decoder
from da3_ros.streaming.device import choose_device

_log = logging.getLogger(__name__)

# FrameError.reason while a camera's CameraInfo has not arrived: normal for the first images.
NO_INFO = "no CameraInfo"

InfoSource = Callable[[str], Any]


def gpu_jpeg_decoder(config: Config) -> GpuJpegDecoder | None:
    """Decodes the JPEG pictures where the network is; None without compressed cameras, or where nothing can."""
    transports = {config.camera_config(camera).transport for camera in config.cameras}
    return open_gpu_decoder(choose_device(config.model.device)) if "compressed" in transports else None


class Decoder:
    """Makes frames of the messages of a set. ``dropped`` is told of each message that cannot be used.

    ``converter`` makes pictures of images with a rare encoding, ``jpeg`` decodes on the GPU.
    """

    def __init__(
        self,
        config: Config,
        dropped: Callable[[FrameError], None],
        converter: Converter,
        jpeg: GpuJpegDecoder | None = None,
    ):
        self._config = config
        self._jpeg = jpeg
        self._dropped = dropped
        self._converter = converter
        self._info: InfoSource = lambda camera: None
        self._calibrations: dict[str, tuple[tuple, CameraCalibration]] = {}
        compressed = sum(config.camera_config(camera).transport == "compressed" for camera in config.cameras)
        workers = min(compressed, (os.cpu_count() or 1) - 1)
        # Pictures of several cameras are decoded side by side; OpenCV works without the interpreter's lock.
        self._map: Any = ThreadPoolExecutor(workers, "da3-decode").map if workers > 1 else map

    def use(self, info: InfoSource) -> None:
        """Take CameraInfo from ``info``: camera -> the newest message, None before the first."""
        self._info = info

    def decode(
        self, images: Mapping[str, Any], decoded: Mapping[str, Callable[[], Pixels]] | None = None
    ) -> FrameSet | None:
        """The frames of ``images`` (camera -> message) in the order of the cameras; None when none is left.

        ``decoded``: by camera, as frame_from_compressed has it.
        """
        frames = []
        messages = {camera: images[camera] for camera in self._config.cameras if images.get(camera) is not None}
        pictures = {**self._decode_on_gpu(messages), **(decoded or {})}

        def frame_of(camera: str) -> Frame | FrameError:
            return self._frame_or_error(camera, messages[camera], pictures.get(camera))

        for result in self._map(frame_of, messages):
            if isinstance(result, FrameError):
                self._dropped(result)
            else:
                frames.append(result)
        if not frames:
            return None
        return FrameSet(stamp_ns=max(frame.stamp_ns for frame in frames), frames=tuple(frames))

    def _decode_on_gpu(self, messages: Mapping[str, Any]) -> dict[str, Callable[[], Pixels]]:
        """What gives pixels, by camera; those that are missing are for the CPU."""
        if self._jpeg is None:
            return {}
        data = {
            camera: as_bytes(message.data)
            for camera, message in messages.items()
            if self._config.camera_config(camera).transport == "compressed"
            and is_plain_jpeg(as_bytes(message.data), message.format)
        }
        pictures = self._jpeg.decode(list(data.values())) if data else None
        if pictures is None:
            return {}
        found = zip(data, pictures, strict=True)
        return {camera: functools.partial(_red_first, picture, messages[camera].format) for camera, picture in found}

    def _frame_or_error(
        self, camera: str, message: Any, decoded: Callable[[], Pixels] | None
    ) -> Frame | FrameError:
        try:
            return self._frame(camera, message, decoded)
        except FrameError as error:
            return error

    def _frame(self, camera: str, message: Any, decoded: Callable[[], Pixels] | None) -> Frame:
        settings = self._config.camera_config(camera)
        calibration = self._calibration(camera)
        if settings.transport == "compressed":
            return frame_from_compressed(message, camera, settings.frame_id, calibration, decoded)
        return frame_from_image(message, camera, settings.frame_id, calibration, self._converter)

    def _calibration(self, camera: str) -> CameraCalibration | None:
        """The calibration in force, made anew only when CameraInfo changes; None for an uncalibrated camera."""
        topic = self._config.camera_info_topic(camera)
        if topic is None:
            return None
        info = self._info(camera)
        if info is None:
            raise FrameError(camera, NO_INFO, f"no CameraInfo on {topic} yet")
        key = _key(info)
        cached = self._calibrations.get(camera)
        if cached is None or cached[0] != key:
            self._calibrations.pop(camera, None)
            calibration = calibration_from_info(info, camera, self._config.camera_config(camera).rectified)
            if cached is not None:
                _log.info("camera '%s': CameraInfo has changed and is used from now on", camera)
            self._calibrations[camera] = cached = key, calibration
        return cached[1]


def _red_first(picture: torch.Tensor, picture_format: str) -> Pixels:
    return picture, rgb_encoding(picture_format)


def _key(info: Any) -> tuple:
    """Everything in ``info`` that a calibration depends on, and its frame."""
    roi = info.roi
    return (
        info.header.frame_id,
        (info.width, info.height, info.binning_x, info.binning_y),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        info.distortion_model,
        tuple(info.d),
        tuple(info.k),
        tuple(info.p),
    )
