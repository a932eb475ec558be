"""Pinhole projection and lens distortion, against OpenCV."""

import math

import cv2
import numpy as np
import pytest
import torch

from da3_ros.errors import InputError
from da3_ros.geometry.camera import horizontal_fov, pixel_grid, project, unproject, vertical_fov
from da3_ros.geometry.distortion import distort

K = np.array([[300.0, 0.0, 70.3], [0.0, 310.0, 41.2], [0.0, 0.0, 1.0]])


def test_unprojected_pixels_project_to_themselves():
    depth = torch.rand(2, 3, 90, 140, dtype=torch.float64) * 9 + 0.5
    Ks = torch.tensor(np.stack([K, K * np.array([[1.5], [0.8], [1.0]])]))[:, None]  # (2, 1, 3, 3)
    points = unproject(depth, Ks)
    assert points.shape == (2, 3, 90, 140, 3)
    pixels = project(points.flatten(2, 3), Ks)
    expected = pixel_grid(90, 140).double().flatten(0, 1).expand(2, 3, -1, 2)
    torch.testing.assert_close(pixels, expected)
    torch.testing.assert_close(points[..., 2], depth)


def test_projection_equals_opencv():
    points = np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 5), (50, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, None)
    np.testing.assert_allclose(project(torch.from_numpy(points), torch.from_numpy(K)), expected[:, 0], atol=1e-9)


def test_invalid_depth_and_points_behind_the_camera():
    points = unproject(torch.tensor([[1.0, torch.nan]]), torch.from_numpy(K))
    assert torch.isfinite(points[0, 0]).all() and points[0, 1].isnan().all()
    behind = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    assert project(behind, torch.from_numpy(K)).isnan().all()


def test_field_of_view_counts_whole_pixels():
    centred = np.array([[320.0, 0, 319.5], [0, 240.0, 239.5], [0, 0, 1]])
    assert horizontal_fov(centred, 640) == pytest.approx(math.radians(90))
    assert vertical_fov(centred, 480) == pytest.approx(math.radians(90))
    # All of the view lies to one side of the axis.
    aside = np.array([[320.0, 0, -0.5], [0, 240.0, 239.5], [0, 0, 1]])
    assert horizontal_fov(aside, 320) == pytest.approx(math.radians(45))


@pytest.mark.parametrize(
    ("model", "D"),
    [
        ("plumb_bob", (-0.28, 0.07, 0.001, -0.0007)),
        ("plumb_bob", (-0.28, 0.07, 0.001, -0.0007, 0.02)),
        ("rational_polynomial", (0.6, -1.2, 0.0004, -0.0002, 0.9, 0.5, -1.1, 0.8)),
        ("rational_polynomial", (0.6, -1.2, 0.0004, -0.0002, 0.9, 0.5, -1.1, 0.8, 0, 0, 0, 0)),
        ("rational_polynomial", (0.6, -1.2, 0.0004, -0.0002, 0.9, 0.5, -1.1, 0.8, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_distortion_equals_opencv(model, D):
    points = np.random.default_rng(1).uniform(-0.8, 0.8, (200, 2))
    rays = np.concatenate([points, np.ones((200, 1))], axis=1)
    expected, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), np.array(D))
    np.testing.assert_allclose(distort(points, D, model), expected[:, 0], atol=1e-12)


def test_fisheye_distortion_equals_opencv():
    D = (0.02, -0.03, 0.006, -0.001)
    points = np.random.default_rng(2).uniform(-3, 3, (200, 2))
    expected = cv2.fisheye.distortPoints(points[:, None], np.eye(3), np.array(D))[:, 0]
    np.testing.assert_allclose(distort(points, D, "equidistant"), expected, atol=1e-9)
    np.testing.assert_array_equal(distort(np.zeros((1, 2)), D, "equidistant"), np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("model", "D", "message"),
    [
        ("plumb_bob", (0.1, 0.1), "4 or 5 distortion coefficients, found 2"),
        ("equidistant", (0.1,) * 5, "4 distortion coefficients, found 5"),
        ("rational_polynomial", (0.1,) * 12, "thin prism"),
        ("rational_polynomial", (0.1,) * 7 + (np.nan,), "finite"),
        ("division", (0.1,), "'division' is not one of equidistant, plumb_bob, rational_polynomial"),
    ],
)
def test_distortion_that_is_not_supported(model, D, message):
    with pytest.raises(InputError, match=message):
        distort(np.zeros((1, 2)), D, model)
