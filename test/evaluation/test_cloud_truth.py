"""Point clouds as true depth: by hand where each point is seen, and clouds of a recording in every frame."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers import shared_data

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.cloud_truth import depth_of_points
from da3_ros.evaluation.truth import pixel_rays
from da3_ros.geometry.se3 import invert
from da3_ros.ingest.point_cloud import points_from_cloud

K = np.array([[40.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
PINHOLE = CameraCalibration(64, 48, K)


def seen(depth: np.ndarray) -> dict[tuple[int, int], float]:
    """Depth by (column, row)."""
    return {(int(u), int(v)): float(depth[v, u]) for v, u in zip(*np.nonzero(np.isfinite(depth)), strict=True)}


def test_points_are_seen_at_their_pixels_by_hand():
    points = np.array(
        [
            [0.0, 0.0, 2.0],  # (31.5, 23.5): the even neighbour
            [1.0, -0.5, 4.0],  # 40 / 4 + 31.5, -0.5 * 50 / 4 + 23.5
            [1.0, -0.5, -4.0],  # behind the camera
            [9.0, 0.0, 4.0],  # beside the picture
            [np.nan, 0.0, 1.0],
        ]
    )
    assert seen(depth_of_points(points, PINHOLE)) == {(32, 24): 2.0, (42, 17): 4.0}


def test_nearer_points_hide_those_behind_them_but_not_a_slanted_wall():
    u = np.array([10.0, 10.0, 12.0, 12.0, 30.0, 32.0])
    z = np.array([4.0, 2.0, 2.1, 3.0, 3.0, 3.3])  # one pixel twice; 3.0 two pixels beside 2.0; a slope
    points = np.stack([(u - 31.5) / 40 * z, np.zeros(6), z], axis=1)
    found = {u: value for (u, _), value in seen(depth_of_points(points, PINHOLE)).items()}
    assert found == {10: 2.0, 12: pytest.approx(2.1), 30: 3.0, 32: pytest.approx(3.3)}


@pytest.mark.parametrize(
    ("model", "D"), [("plumb_bob", (-0.2, 0.05, 1e-3, -1e-3, 0.0)), ("equidistant", (-0.02, 0.01, 0.0, 0.0))]
)
def test_lens_distortion_puts_points_back_where_their_rays_come_from(model, D):
    """The rays are OpenCV's undistorted pixels, the way there is ours."""
    calibration = CameraCalibration(64, 48, K, D, model)
    true = np.linspace(2.0, 3.0, 64, dtype=np.float32)[None].repeat(48, 0)
    rays = pixel_rays(48, 64, calibration)
    points = np.concatenate([rays * true[..., None], true[..., None]], axis=-1).reshape(-1, 3)
    found = depth_of_points(points, calibration)
    both = np.isfinite(found)
    assert both.mean() > 0.97
    assert found[both] == pytest.approx(true[both], abs=1e-5)


def cloud(points: np.ndarray, **changes):
    """A message of float32 points with a field between them and padding after each row."""
    packed = np.zeros((*points.shape[:2], 5), np.float32)
    packed[..., 0], packed[..., 2], packed[..., 3] = points[..., 0], points[..., 1], points[..., 2]
    rows = np.pad(packed.view(np.uint8).reshape(points.shape[0], -1), ((0, 0), (0, 6)))
    fields = [SimpleNamespace(name=name, offset=offset, datatype=7, count=1)
              for name, offset in (("x", 0), ("intensity", 4), ("y", 8), ("z", 12))]  # fmt: skip
    values = {"height": points.shape[0], "width": points.shape[1], "fields": fields, "is_bigendian": False,
              "point_step": 20, "row_step": rows.shape[1], "data": rows.reshape(-1)}  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_cloud_messages_with_gaps_and_invalid_points():
    points = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    points[0, 1, 2] = np.nan
    found = points_from_cloud(cloud(points), "/lidar")
    assert found.tolist() == [row for row in points.reshape(-1, 3).tolist() if row[2] == row[2]]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"data": np.zeros(100, np.uint8)}, "do not fit into 100 bytes"),
        ({"fields": []}, "needs fields x, y, z .* it has none"),
        ({"fields": [SimpleNamespace(name=n, offset=0, datatype=2) for n in "xyz"]}, r"it has x \(type 2\)"),
    ],
)
def test_clouds_that_are_none_are_refused(changes, wanted):
    with pytest.raises(InputError, match=f"/lidar.*{wanted}"):
        points_from_cloud(cloud(np.zeros((2, 3, 3), np.float32), **changes), "/lidar")


def test_real_scans_are_seen_where_another_projection_sees_them():
    """Scans of a vehicle's LiDAR in its six cameras against depth images that come with the data."""
    root = shared_data("dgp_surround6")
    meta = json.loads((root / "meta.json").read_text())
    seen_by_both = seen = 0
    for frame in meta["frames"][:6]:
        camera, scan = meta["cameras"][frame["camera"]], meta["lidar"]["scans"][frame["step"]]
        assert camera["distortion_model"] == "none"
        T_cam_lidar = invert(np.array(frame["c2w"])) @ np.array(scan["lidar_to_world"])
        points = np.load(root / scan["file"])["data"][:, :3] @ T_cam_lidar[:3, :3].T + T_cam_lidar[:3, 3]
        K = np.array([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]])
        found = depth_of_points(points, CameraCalibration(camera["width"], camera["height"], K))
        theirs = cv2.imread(str(root / frame["depth_sparse"]), cv2.IMREAD_UNCHANGED) / meta["depth_scale"]
        ours = np.isfinite(found)
        assert (theirs[ours] > 0).all()
        assert found[ours] == pytest.approx(theirs[ours], abs=0.6 / meta["depth_scale"])
        seen_by_both, seen = seen_by_both + ours.sum(), seen + (theirs > 0).sum()
    # Theirs keeps the points behind a nearer surface, ours does not.
    assert 0.9 < seen_by_both / seen < 0.99
