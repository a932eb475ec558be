"""CameraInfo to the calibration of the pixels that arrive."""

import cv2
import numpy as np
import pytest
from ingest_messages import info_message

from da3_ros.errors import FrameError
from da3_ros.ingest.from_msg import calibration_from_info

RAW_D = [-0.3, 0.1, 0.001, -0.002, 0.01]


def test_raw_images_use_K_and_D():
    calibration = calibration_from_info(info_message(d=RAW_D), "cam")
    assert (calibration.width, calibration.height) == (640, 480)
    np.testing.assert_array_equal(calibration.K, [[500, 0, 321.5], [0, 510, 238.5], [0, 0, 1]])
    assert tuple(RAW_D) == calibration.D
    assert calibration.distortion_model == "plumb_bob"
    assert calibration.distorted


def test_rectified_images_use_P_and_no_distortion():
    calibration = calibration_from_info(info_message(d=RAW_D), "cam", rectified=True)
    np.testing.assert_array_equal(calibration.K, [[480, 0, 323.5], [0, 490, 241.5], [0, 0, 1]])
    assert calibration.D == ()
    assert not calibration.distorted


@pytest.mark.parametrize(("model", "d"), [("", []), ("plumb_bob", [0.0] * 5), ("unheard_of", [0.0])])
def test_zero_coefficients_are_no_distortion_whatever_the_model(model, d):
    calibration = calibration_from_info(info_message(distortion_model=model, d=d), "cam")
    assert not calibration.distorted
    assert calibration.distortion_model == "none"


def test_equal_infos_give_equal_keys():
    first, second = (calibration_from_info(info_message(d=RAW_D), "cam") for _ in range(2))
    other = calibration_from_info(info_message(d=[*RAW_D[:4], 0.02]), "cam")
    assert first.key() == second.key()
    assert first.key() != other.key()


def test_region_of_interest_and_binning_keep_the_rays():
    """A point's pixel in the smaller image is where the sensor's pixels were cut and averaged to."""
    full = calibration_from_info(info_message(), "cam")
    part = calibration_from_info(info_message(roi=(100, 60, 400, 320), binning_x=2, binning_y=4), "cam")
    assert (part.width, part.height) == (200, 80)
    point = np.array([[0.1, -0.05, 1.0]])
    (u, v), (small_u, small_v) = (
        cv2.projectPoints(point, np.zeros(3), np.zeros(3), c.K, None)[0][0, 0] for c in (full, part)
    )
    # Pixel i of the binned image covers the pixels 2 i and 2 i + 1, so edges, not centres, scale.
    assert small_u + 0.5 == pytest.approx((u - 100 + 0.5) / 2)
    assert small_v + 0.5 == pytest.approx((v - 60 + 0.5) / 4)


def test_binning_of_one_and_of_zero_mean_none():
    for binning in (0, 1):
        calibration = calibration_from_info(info_message(binning_x=binning, binning_y=binning), "cam")
        assert (calibration.width, calibration.height) == (640, 480)


K = [500.0, 0, 320, 0, 500.0, 240, 0, 0, 1]


def changed(index, value):
    return np.array([value if i == index else k for i, k in enumerate(K)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": np.zeros(9)}, "K in its CameraInfo is zero, so it is not calibrated: .*camera.front.camera_info_topic"),
        ({"k": changed(2, np.nan)}, "K in its CameraInfo is not finite"),
        ({"k": changed(0, np.inf)}, "K in its CameraInfo is not finite"),
        ({"k": changed(0, -500.0)}, "positive fx and fy"),
        ({"k": changed(4, 0.0)}, "positive fx and fy"),
        ({"k": changed(1, 20.0)}, "not a pinhole camera's"),
        ({"k": changed(8, 0.0)}, "not a pinhole camera's"),
        ({"width": 0}, "0x480 pixels"),
        ({"height": 0}, "640x0 pixels"),
        ({"d": [0.1, 0.2, 0.3]}, "plumb_bob has 4 or 5 distortion coefficients, found 3"),
        ({"d": [0.1, 0, 0, 0, np.nan]}, "not all finite"),
        ({"distortion_model": "equidistant", "d": RAW_D}, "equidistant has 4 distortion coefficients, found 5"),
        ({"distortion_model": "unheard_of", "d": RAW_D}, "'unheard_of' is not one of"),
        ({"distortion_model": "rational_polynomial", "d": [0.1] * 12}, "thin prism"),
        ({"roi": (600, 0, 100, 100)}, "region of interest 100x100 at .600, 0. exceeds the 640x480"),
    ],
)
def test_camera_info_that_cannot_be_used(fields, message):
    with pytest.raises(FrameError, match=f"^camera 'front': .*{message}") as caught:
        calibration_from_info(info_message(**fields), "front")
    assert caught.value.reason == "calibration"


def test_rectified_camera_without_P():
    with pytest.raises(FrameError, match="P in its CameraInfo is zero"):
        calibration_from_info(info_message(p=np.zeros(12)), "cam", rectified=True)
