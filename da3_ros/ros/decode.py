"""Message sets to frame sets, in the inference thread: what cannot be used is left out and reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration, Frame, FrameSet
from da3_ros.errors import FrameError
from da3_ros.ingest.from_msg import calibration_from_info, frame_from_compressed, frame_from_image
from da3_ros.ros.compat.cv_bridge import CvBridge
from da3_ros.ros.engine import ImageSet

_log = logging.getLogger(__name__)

# FrameError.reason while a camera's CameraInfo has not arrived: normal for the first images.
NO_INFO = "no CameraInfo"

InfoSource = Callable[[str], "CameraInfo | None"]


class Decoder:
    """Makes frames of the messages of a set. ``dropped`` is told of each message that cannot be used."""

    def __init__(self, config: Config, dropped: Callable[[FrameError], None]):
        self._config = config
        self._dropped = dropped
        self._bridge = CvBridge()
        self._info: InfoSource = lambda camera: None
        self._calibrations: dict[str, tuple[tuple, CameraCalibration]] = {}

    def use(self, info: InfoSource) -> None:
        """Take CameraInfo from ``info``: camera -> the newest message, None before the first."""
        self._info = info

    def decode(self, image_set: ImageSet) -> FrameSet | None:
        """The frames of ``image_set`` in the order of the cameras; None when none is left."""
        frames = []
        for camera in self._config.cameras:
            message = image_set.images.get(camera)
            if message is None:
                continue
            try:
                frames.append(self._frame(camera, message))
            except FrameError as error:
                self._dropped(error)
        if not frames:
            return None
        return FrameSet(stamp_ns=max(frame.stamp_ns for frame in frames), frames=tuple(frames))

    def _frame(self, camera: str, message: Any) -> Frame:
        settings = self._config.camera_config(camera)
        calibration = self._calibration(camera)
        if settings.transport == "compressed":
            return frame_from_compressed(message, camera, settings.frame_id, calibration)
        return frame_from_image(message, camera, settings.frame_id, calibration, self._to_rgb)

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

    def _to_rgb(self, message: Image) -> np.ndarray:
        """(H, W, 3) uint8 of an image with a rare encoding."""
        return self._bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")


def _key(info: CameraInfo) -> tuple:
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
