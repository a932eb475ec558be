"""Merged clouds against NumPy."""

import numpy as np
import pytest
import torch

from da3_ros.config import PointsConfig
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.streaming.outputs import DenseViews, merge_points, select_points

POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")])
K = torch.tensor([[30.0, 0, 19.5], [0, 32.0, 14.5], [0, 0, 1]])
POSES = [
    T_from(matrix_from_quat_xyzw(np.array([0.1, 0.2, 0.3, 0.9]) / np.linalg.norm([0.1, 0.2, 0.3, 0.9])), np.ones(3)),
    T_from(matrix_from_quat_xyzw(np.array([0.0, 0.0, 0.6, 0.8])), np.array([-1.0, 2.0, 0.5])),
    np.eye(4),
]


def make_views(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    depth = 1 + 4 * torch.rand(count, 30, 40, generator=generator)
    depth[:, 2, 3], depth[:, 4] = torch.nan, torch.inf
    confidence = 1 + torch.rand(count, 30, 40, generator=generator)
    colours = torch.randint(0, 256, (count, 3, 30, 40), generator=generator, dtype=torch.uint8)
    return DenseViews(depth, confidence, colours, K.expand(count, 3, 3))


def expected_points(views, T, keep):
    """Points (n, 3) in the common frame and colours (n, 3) of one view, pixel by pixel from the equations."""
    depth = views.depth.numpy().astype(np.float64)
    v, u = np.mgrid[0:30, 0:40]
    rays = np.stack(((u - 19.5) / 30.0, (v - 14.5) / 32.0, np.ones_like(u)), axis=-1)
    for view, pose in enumerate(T):
        xyz = (rays * depth[view][..., None])[keep[view]]
        yield xyz @ pose[:3, :3].T + pose[:3, 3], views.colours[view].permute(1, 2, 0).numpy()[keep[view]]


@pytest.mark.parametrize("voxel", [0.0, 0.7])
@pytest.mark.parametrize("grouped", [True, False])
def test_merged_cloud_holds_the_selected_points_of_all_views(voxel, grouped):
    views = make_views(3)
    config = PointsConfig(min_confidence_percentile=30.0, max_range_m=4.5, voxel_m=voxel)
    if grouped:
        clouds = [select_points(views, config)]
    else:
        parts = zip(views.depth, views.confidence, views.colours, views.K, strict=True)
        clouds = [select_points(DenseViews(*(value[None] for value in part)), config) for part in parts]
    points, count = merge_points(clouds, [torch.from_numpy(T).float() for T in POSES], voxel)
    assert points.shape == (1, 3 * 30 * 40, 16)
    found = points.numpy()[0, :count].copy().view(POINT)[..., 0]

    keep = np.isfinite(views.depth.numpy())
    for view in range(3):
        confidence = views.confidence[view].numpy()
        ranked = np.sort(confidence[keep[view]])
        keep[view] &= confidence >= ranked[int(0.3 * len(ranked))]
        v, u = np.mgrid[0:30, 0:40]
        distance = views.depth[view].numpy() * np.sqrt(((u - 19.5) / 30) ** 2 + ((v - 14.5) / 32) ** 2 + 1)
        keep[view] &= distance <= 4.5
    expected = [np.concatenate(part) for part in zip(*expected_points(views, POSES, keep), strict=True)]
    if voxel:
        cubes: dict[tuple, list[int]] = {}
        for index, xyz in enumerate(expected[0]):
            cubes.setdefault(tuple(np.floor(xyz / voxel).astype(int)), []).append(index)
        assert len(found) == len(cubes)
        expected = [np.stack([values[cubes[key]].mean(axis=0) for key in sorted(cubes)]) for values in expected]
    assert 500 < keep.sum() < 2500
    np.testing.assert_allclose(found["xyz"], expected[0], atol=1e-4)
    rgb = np.stack([found["rgb"] >> shift & 255 for shift in (16, 8, 0)], axis=-1)
    np.testing.assert_allclose(rgb, expected[1], atol=0.51 if voxel else 0)
