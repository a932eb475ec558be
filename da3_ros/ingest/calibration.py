"""sensor_msgs/CameraInfo to the calibration of the pixels that arrive: binning and region of interest applied."""

from __future__ import annotations

from typing import Any

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import FrameError
from da3_ros.geometry.distortion import check_distortion


def calibration_from_info(msg: Any, camera: str, rectified: bool = False) -> CameraCalibration:
    """The calibration of the images that a sensor_msgs/CameraInfo describes.

    ``rectified``: the images are rectified already, so P is used and there is no distortion; else K and D.
    Raises FrameError (``calibration``) for a CameraInfo that is not calibrated or contradicts itself.
    """
    width, height, x_offset, y_offset = _window(msg, camera)
    binning_x, binning_y = (max(1, int(value)) for value in (msg.binning_x, msg.binning_y))
    K = _intrinsics(msg, camera, rectified)
    # Pixel centres are whole numbers, so a binned pixel's centre lies (binning - 1) / 2 further than its
    # first one's.
    K[0, 0] /= binning_x
    K[1, 1] /= binning_y
    K[0, 2] = (K[0, 2] - x_offset + 0.5) / binning_x - 0.5
    K[1, 2] = (K[1, 2] - y_offset + 0.5) / binning_y - 0.5
    D = () if rectified else tuple(float(value) for value in msg.d)
    # No coefficients, or none but zeros, mean no distortion whatever the model is called.
    model = msg.distortion_model if any(value != 0.0 for value in D) else "none"
    problem = check_distortion(D, model)
    if problem:
        raise _error(camera, f"its CameraInfo cannot be used, as {problem}: calibrate the camera again")
    return CameraCalibration(width // binning_x, height // binning_y, K, D if model != "none" else (), model)


def _error(camera: str, message: str) -> FrameError:
    return FrameError(camera, "calibration", message)


def _window(msg: Any, camera: str) -> tuple[int, int, int, int]:
    """Width, height and offsets (x, y) of the part of the sensor that is read out, in unbinned pixels."""
    width, height = int(msg.width), int(msg.height)
    if width < 1 or height < 1:
        raise _error(camera, f"its CameraInfo is for {width}x{height} pixels: publish the camera's full size")
    roi = msg.roi
    if roi.width == 0 or roi.height == 0:
        return width, height, 0, 0
    if roi.x_offset + roi.width > width or roi.y_offset + roi.height > height:
        raise _error(
            camera,
            f"the region of interest {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset}) exceeds the "
            f"{width}x{height} image in its CameraInfo: correct CameraInfo.roi, which counts unbinned pixels",
        )
    return int(roi.width), int(roi.height), int(roi.x_offset), int(roi.y_offset)


def _intrinsics(msg: Any, camera: str, rectified: bool) -> np.ndarray:
    """(3, 3) float64 from P or K, checked."""
    name = "P" if rectified else "K"
    if rectified:
        K = np.array(msg.p, dtype=np.float64).reshape(3, 4)[:, :3]
    else:
        K = np.array(msg.k, dtype=np.float64).reshape(3, 3)
    shown = np.array2string(K.ravel(), precision=6, separator=", ")
    if not np.isfinite(K).all():
        raise _error(camera, f"{name} in its CameraInfo is not finite, {shown}: calibrate the camera")
    if not K.any():
        raise _error(
            camera,
            f"{name} in its CameraInfo is zero, so it is not calibrated: calibrate it, or set "
            f"camera.{camera}.camera_info_topic to 'none' to use the network's own intrinsics",
        )
    pinhole = K[0, 0] > 0.0 and K[1, 1] > 0.0 and K[1, 0] == 0.0 and np.array_equal(K[2], (0.0, 0.0, 1.0))
    if not pinhole or abs(K[0, 1]) > 1e-3 * K[0, 0]:
        raise _error(
            camera,
            f"{name} in its CameraInfo is {shown}, not a pinhole camera's [fx, 0, cx, 0, fy, cy, 0, 0, 1] with "
            "positive fx and fy: calibrate the camera",
        )
    K[0, 1] = 0.0
    return K
