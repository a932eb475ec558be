"""What part of each image the network sees, and the intrinsics of that view."""

import math

import numpy as np
import pytest
from geometry_cameras import FISHEYE, PLUMB_BOB, RATIONAL, calibration

from da3_ros.errors import FrameError
from da3_ros.geometry.distortion import distort
from da3_ros.geometry.image import plan_views


def plan(size_hw, calib=None, process_res=504, fov=110.0):
    return plan_views({"cam": (size_hw, calib)}, process_res, {"cam": fov})["cam"]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (378, 504)),
        (1920, 1080, (280, 504)),
        (1280, 720, (280, 504)),
        (848, 480, (280, 504)),
        (1242, 375, (154, 504)),
        (752, 480, (322, 504)),
        (1080, 1920, (504, 280)),
        (320, 240, (378, 504)),
        (504, 7, (14, 504)),
    ],
)
def test_sizes_are_the_references(width, height, expected):
    view = plan((height, width)).view
    assert view.canvas_hw == expected
    assert view.content == (0, 0, *expected)


def test_centred_camera_keeps_the_whole_image_and_its_rays():
    calib = calibration(1280, 720, 900.0)
    made = plan((720, 1280), calib)
    K = made.view.K
    assert made.lost_fraction == 0.0
    np.testing.assert_allclose(K[:2, 2], (251.5, 139.5))
    # The outer edges of the image are those of the view.
    for pixels, size, axis in ((1280, 504, 0), (720, 280, 1)):
        for edge_in, edge_out in ((-0.5, -0.5), (pixels - 0.5, size - 0.5)):
            ray_in = (edge_in - calib.K[axis, 2]) / calib.K[axis, axis]
            assert (edge_out - K[axis, 2]) / K[axis, axis] == pytest.approx(ray_in)


def test_nearly_centred_camera_keeps_the_whole_image_and_tells_the_rest():
    calib = calibration(1280, 720, 900.0, cx=640.0)  # half a pixel aside, as many drivers have it
    made = plan((720, 1280), calib)
    assert made.lost_fraction == 0.0
    assert made.view.K[0, 2] == pytest.approx((640.5) * 504 / 1280 - 0.5)


def test_off_centre_camera_is_cut_about_its_principal_point():
    made = plan((720, 1280), calibration(1280, 720, 900.0, cx=700.0, cy=340.0))
    height, width = made.view.content[2:]
    np.testing.assert_allclose(made.view.K[:2, 2], ((width - 1) / 2, (height - 1) / 2))
    assert made.lost_fraction == pytest.approx(1 - (2 * 579.5 / 1280) * (2 * 340.5 / 720))
    # The far edges are lost; the near ones are still the view's.
    assert (width / 2) / made.view.K[0, 0] == pytest.approx((1279.5 - 700.0) / 900.0)
    assert (height / 2) / made.view.K[1, 1] == pytest.approx(340.5 / 909.0)


@pytest.mark.parametrize(("cx", "cy"), [(-40.0, 239.5), (319.5, 700.0), (1.0, 239.5)])
@pytest.mark.parametrize("distortion", [((), "none"), PLUMB_BOB])
def test_principal_point_outside_the_image_leaves_no_view(cx, cy, distortion):
    with pytest.raises(FrameError, match=r"camera 'cam': the principal point .* is outside") as caught:
        plan((480, 640), calibration(640, 480, 500.0, cx, cy, *distortion))
    assert caught.value.reason == "calibration"


def test_calibration_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"640x480 pixels, but its calibration is for 1280x720"):
        plan((480, 640), calibration(1280, 720, 900.0))


def test_cameras_share_a_canvas_and_none_loses_its_sides():
    plans = plan_views(
        {
            "wide": ((375, 1242), calibration(1242, 375, 700.0)),
            "tall": ((640, 480), calibration(480, 640, 500.0)),
            "unknown": ((480, 640), None),
        },
        504,
        {},
    )
    canvas = plans["wide"].view.canvas_hw
    assert canvas == (504, 504)
    for made in plans.values():
        top, left, height, width = made.view.content
        assert made.view.canvas_hw == canvas
        assert (2 * top + height, 2 * left + width) == canvas
        assert made.lost_fraction == 0.0
    for name in ("wide", "tall"):
        view = plans[name].view
        assert view.calibrated
        np.testing.assert_allclose(view.K[:2, 2], (251.5, 251.5))
        np.testing.assert_allclose(view.K_content[:2, 2], ((view.content[3] - 1) / 2, (view.content[2] - 1) / 2))
    assert not plans["unknown"].view.calibrated
    assert np.isnan(plans["unknown"].view.K).all()  # no plausible lie


@pytest.mark.parametrize("distortion", [PLUMB_BOB, RATIONAL, FISHEYE])
@pytest.mark.parametrize("focal", [350.0, 700.0])
def test_rectified_view_shows_only_what_the_camera_saw(distortion, focal):
    D, model = distortion
    calib = calibration(1280, 800, focal, cx=655.0, cy=388.0, D=D, model=model)
    made = plan((800, 1280), calib)
    height, width = made.view.content[2:]
    K = made.view.K_content
    np.testing.assert_allclose(K[:2, 2], ((width - 1) / 2, (height - 1) / 2), atol=1e-9)
    v, u = np.mgrid[-0.5 : height - 0.5 : 41j, -0.5 : width - 0.5 : 41j]
    rays = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]), axis=-1)
    pixels = distort(rays, D, model) @ calib.K[:2, :2].T + calib.K[:2, 2]
    assert (pixels >= -0.51).all()
    assert (pixels <= np.array([1279.51, 799.51])).all()
    # It is as large as it can be: its border touches the image's, or the limit of the field of view.
    touches = np.abs(pixels + 0.5).min() < 0.01 or np.abs(pixels - [1279.5, 799.5]).min() < 0.01
    assert touches or math.degrees(2 * math.atan(width / 2 / K[0, 0])) == pytest.approx(110.0)
    assert 0.0 < made.lost_fraction < 0.75


def test_field_of_view_is_limited():
    D, model = FISHEYE
    calib = calibration(1280, 800, 350.0, D=D, model=model)  # more than 180 degrees from corner to corner
    for limit in (60.0, 110.0, 140.0):
        made = plan((800, 1280), calib, fov=limit)
        assert math.degrees(2 * math.atan(made.view.content[3] / 2 / made.view.K[0, 0])) == pytest.approx(limit)


def test_lens_model_that_turns_back_is_used_up_to_there():
    # x (1 - r^2) is largest at r = 0.577: beyond it the polynomial maps rays back into the image.
    calib = calibration(640, 480, 500.0, D=(-1.0, 0.0, 0.0, 0.0, 0.0), model="plumb_bob")
    view = plan((480, 640), calib).view
    corner = np.hypot(view.content[3] / 2 / view.K[0, 0], view.content[2] / 2 / view.K[1, 1])
    assert corner <= 3**-0.5 + 1e-3


def test_zero_distortion_coefficients_need_no_rectification():
    plain = plan((480, 640), calibration(640, 480, 500.0))
    zeros = plan((480, 640), calibration(640, 480, 500.0, D=(0.0,) * 5, model="plumb_bob"))
    assert zeros.view.content == plain.view.content
    np.testing.assert_array_equal(zeros.view.K, plain.view.K)
