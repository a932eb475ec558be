"""Depth at the size of the input image."""

import numpy as np
import pytest
import torch
from geometry_cameras import FISHEYE, PLUMB_BOB, calibration

from da3_ros.geometry.camera import unproject
from da3_ros.geometry.image import depth_to_input_size, plan_views


def plan_and_K(size_hw, calib):
    plan = plan_views({"cam": (size_hw, calib)}, 252, {})["cam"]
    return plan, torch.from_numpy(plan.view.K_content)


def plane_depth(K, height, width):
    """Depth of the slanted plane n . p = 3 seen by ``K``, (H, W) float64."""
    rays = unproject(torch.ones(height, width, dtype=torch.float64), K)
    return 3.0 / (rays @ torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64))


CAMERAS = [
    calibration(640, 480, 500.0),
    calibration(640, 480, 500.0, cx=350.0, cy=225.0),
    calibration(640, 480, 400.0, cx=330.0, cy=235.0, D=PLUMB_BOB[0], model=PLUMB_BOB[1]),
    calibration(640, 480, 250.0, cx=330.0, cy=235.0, D=FISHEYE[0], model=FISHEYE[1]),
]


@pytest.mark.parametrize("calib", CAMERAS, ids=["centred", "off centre", "plumb_bob", "equidistant"])
def test_plane_stays_a_plane_at_the_calibrated_K(calib):
    plan, K = plan_and_K((480, 640), calib)
    depth, K_full = depth_to_input_size(plane_depth(K, *plan.view.content[2:]), plan, K)
    assert depth.shape == (480, 640)
    np.testing.assert_allclose(K_full, calib.K, rtol=1e-9)
    expected = plane_depth(torch.from_numpy(calib.K), 480, 640)
    seen = ~depth.isnan()
    assert seen.float().mean() > 0.3
    error = (depth / expected - 1)[seen].abs()
    # Exact between pixel centres; where the plane is too steep, and half a pixel around the content, the nearest.
    assert error.median() < 1e-6
    assert error.max() < 0.04


def test_pixels_outside_the_content_are_nan():
    plan, K = plan_and_K((480, 640), calibration(640, 480, 500.0, cx=350.0, cy=225.0))
    depth, _ = depth_to_input_size(torch.full(plan.view.content[2:], 2.0), plan, K)
    top, left, height, width = plan.box
    v, u = np.mgrid[0:480, 0:640] + 0.5
    inside = (v >= top) & (v <= top + height) & (u >= left) & (u <= left + width)
    assert 0.8 < inside.mean() < 1.0
    np.testing.assert_array_equal(depth.isnan().numpy(), ~inside)


def test_no_flying_pixels_between_near_and_far():
    plan, K = plan_and_K((480, 640), calibration(640, 480, 500.0))
    depth = torch.full(plan.view.content[2:], 8.0)
    depth[40:120, 60:180] = 2.0
    full, _ = depth_to_input_size(depth, plan, K)
    assert sorted(full.unique().tolist()) == [2.0, 8.0]
    assert full[240, 320] == 2.0
    assert full[5, 5] == 8.0


def test_invalid_and_endless_depth_does_not_spread():
    plan, K = plan_and_K((480, 640), calibration(640, 480, 500.0))
    depth = torch.full(plan.view.content[2:], 4.0)
    depth[:50] = torch.inf
    depth[100, 100] = torch.nan
    full, _ = depth_to_input_size(depth, plan, K)
    scale = plan.scale_yx[0]
    assert full.isinf().sum() == pytest.approx(50 * scale * 640, rel=0.02)
    assert 1 <= full.isnan().sum() <= 2 * np.ceil(scale) ** 2
    assert (full[~(full.isinf() | full.isnan())] == 4.0).all()


def test_uncalibrated_camera_gets_the_K_that_was_predicted():
    plan = plan_views({"cam": ((480, 640), None)}, 252, {})["cam"]
    predicted = torch.tensor([[200.0, 0, 125.5], [0, 201.0, 94.5], [0, 0, 1]])
    depth, K = depth_to_input_size(torch.full(plan.view.content[2:], 2.0), plan, predicted)
    assert (depth == 2.0).all()
    expected = [[200 * 640 / 252, 0, 319.5], [0, 201 * 480 / 196, 95 * 480 / 196 - 0.5], [0, 0, 1]]
    torch.testing.assert_close(K, torch.tensor(expected))
