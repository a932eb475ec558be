"""Points in their final bytes, the voxel filter and the confidence mask."""

import struct

import numpy as np
import pytest
import torch

from da3_ros.geometry.clouds import (
    POINT_STEP,
    compact,
    confidence_mask,
    lower_median,
    pack_points,
    transform_points,
    unpack_points,
    voxel_filter,
)
from da3_ros.geometry.se3 import T_from, invert, matrix_from_quat_xyzw

ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_packed_bytes_are_what_a_point_cloud_reader_expects():
    xyz = torch.tensor([[[1.5, -2.25, 3.0], [7.0, 8.0, 9.0]]])
    rgb = torch.tensor([[[10, 1]], [[20, 2]], [[30, 3]]], dtype=torch.uint8)
    packed = pack_points(xyz, rgb, torch.tensor([[True, False]]))
    assert packed.shape == (1, 2, POINT_STEP)
    assert packed.dtype == torch.uint8
    x, y, z, colour = struct.unpack("<fffI", packed[0, 0].numpy().tobytes())
    assert (x, y, z) == (1.5, -2.25, 3.0)
    assert colour == 0x0A141E  # 0x00RRGGBB
    x, y, z, colour = struct.unpack("<fffI", packed[0, 1].numpy().tobytes())
    assert np.isnan([x, y, z]).all()
    assert colour == 0x010203


def test_packing_keeps_every_point_of_a_large_cloud():
    xyz = torch.rand(37, 53, 3) * 20 - 10
    rgb = torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8)
    valid = torch.rand(37, 53) > 0.3
    fields = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")])
    points = pack_points(xyz, rgb, valid).numpy().view(fields)[..., 0]
    np.testing.assert_array_equal(points["xyz"][valid], xyz[valid])
    assert np.isnan(points["xyz"][~valid]).all()
    shifts = np.array([16, 8, 0], dtype=np.uint32)[:, None, None]
    np.testing.assert_array_equal(points["rgb"][None] >> shifts & 255, rgb)


def test_transform_and_back():
    T = T_from(matrix_from_quat_xyzw((0.1, 0.2, 0.3, 0.9)), (1.0, -2.0, 0.5))
    points = torch.rand(4, 5, 3, dtype=torch.float64)
    moved = transform_points(torch.from_numpy(T), points)
    expected = T @ np.append(points[2, 3].numpy(), 1.0)
    np.testing.assert_allclose(moved[2, 3], expected[:3])
    torch.testing.assert_close(transform_points(torch.from_numpy(invert(T)), moved), points)


def test_compact_keeps_the_valid_points_in_their_order():
    points = torch.randint(0, 256, (500, POINT_STEP), dtype=torch.uint8)
    for valid in (torch.rand(500) > 0.4, torch.zeros(500, dtype=torch.bool), torch.ones(500, dtype=torch.bool)):
        kept, count = compact(points, valid)
        assert kept.shape == points.shape
        assert count == valid.sum()
        assert torch.equal(kept[: int(count)], points[valid])


def filtered(xyz, rgb, voxel, valid=None):
    """Points (m, 3) and colours (3, m) that the voxel filter leaves."""
    valid = torch.ones(len(xyz), dtype=torch.bool) if valid is None else valid
    points, colours, count = voxel_filter(xyz, rgb, valid, voxel)
    assert points.shape == xyz.shape and colours.shape == rgb.shape
    return points[:count], colours[:, :count]


def test_voxel_filter_gives_means():
    # Two points share a cube, also on the negative side; one is alone; NaN, Inf and what is not valid are dropped.
    finite = [[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [0.6, 0.1, 0.1], [-0.1, -0.2, 0.1], [-0.3, -0.4, 0.3]]
    xyz = torch.tensor([*finite, [torch.nan, 0, 0], [0, torch.inf, 0], [0.1, 0.1, 0.1], [9, 9, 9]])
    rgb = torch.tensor([[10, 20, 30, 40, 60], [0, 1, 2, 3, 4], [255, 255, 0, 9, 9]])
    rgb = torch.cat((rgb, torch.ones(3, 4, dtype=torch.int64)), dim=1).to(torch.uint8)
    valid = torch.tensor([True] * 7 + [False] * 2)
    points, colours = filtered(xyz, rgb, 0.5, valid)
    order = points[:, 0].argsort()
    torch.testing.assert_close(points[order], torch.tensor([[-0.2, -0.3, 0.2], [0.2, 0.1, 0.1], [0.6, 0.1, 0.1]]))
    assert colours[:, order].tolist() == [[50, 15, 30], [4, 0, 2], [9, 255, 0]]


def test_voxel_filter_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-2, 2, (3000, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (3, 3000)).astype(np.uint8)
    valid = rng.random(3000) > 0.2
    cubes: dict[tuple, list[int]] = {}
    for i, key in enumerate(map(tuple, np.floor(xyz / np.float32(0.4)).astype(int))):
        if valid[i]:
            cubes.setdefault(key, []).append(i)
    points, colours = filtered(torch.from_numpy(xyz), torch.from_numpy(rgb), 0.4, torch.from_numpy(valid))
    keys = [tuple(np.floor(p / 0.4).astype(int)) for p in points.numpy()]
    assert keys == sorted(cubes)
    for key, point, colour in zip(keys, points.numpy(), colours.numpy().T, strict=True):
        np.testing.assert_allclose(point, xyz[cubes[key]].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(colour, rgb[:, cubes[key]].mean(axis=1), atol=0.51)


def test_voxel_filter_far_from_the_origin_and_of_nothing():
    xyz = torch.tensor([[5000.02, 0.0, 0.0], [5000.03, 0.0, 0.0], [5000.2, 0.0, 0.0], [2e6, 0.0, 0.0]])
    nothing = torch.zeros(3, 4, dtype=torch.uint8)
    assert len(filtered(xyz, nothing, 0.1)[0]) == 2  # the last is out of range
    assert len(filtered(xyz, nothing, 0.1, torch.zeros(4, dtype=torch.bool))[0]) == 0
    points, colours = filtered(xyz[:0], nothing[:, :0], 0.1)
    assert points.shape == (0, 3)
    assert colours.shape == (3, 0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_CUDA)])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (8, 9), (70, 101)])
def test_lower_median_ignores_nan(device, size):
    values = torch.randn(4, *size) * torch.tensor([1.0, 1.0, 1e-3, 1e30])[:, None, None]
    values[0][values[0] < -0.3] = torch.nan
    values[1] = torch.nan
    values[2, 0, 0], values[3, -1, -1] = -torch.inf, torch.inf
    values[0, 0, 0] = 1.0
    found = lower_median(values.to(device)).cpu()
    for view in (0, 2, 3):
        known = values[view][~values[view].isnan()].sort().values
        assert found[view] == known[(len(known) - 1) // 2]
    assert found[1].isnan()


def test_confidence_mask_drops_the_share_of_each_view():
    confidence = 1 + torch.stack((torch.rand(20, 50), 100 * torch.rand(20, 50)))
    valid = torch.rand(2, 20, 50) > 0.25
    confidence[0, 3, 4] = torch.nan
    valid[0, 3, 4] = True
    for percentile in (0.0, 20.0, 75.0, 100.0):
        mask = confidence_mask(confidence, percentile, valid)
        assert not (mask & ~valid).any()
        assert not mask[0, 3, 4]
        for view in range(2):
            usable = valid[view] & ~confidence[view].isnan()
            n = int(usable.sum())
            expected = max(n - int(percentile / 100 * n), 1)
            assert mask[view].sum() == expected
            kept, dropped = confidence[view][mask[view]], confidence[view][usable & ~mask[view]]
            assert len(dropped) == 0 or kept.min() > dropped.max()


def test_confidence_mask_of_equal_or_invalid_pixels():
    even = torch.ones(4, 5)
    assert confidence_mask(even, 50.0, torch.ones(4, 5, dtype=torch.bool)).all()  # none is less confident
    assert not confidence_mask(even, 50.0, torch.zeros(4, 5, dtype=torch.bool)).any()


def test_packed_points_are_unpacked_again():
    xyz = torch.tensor([[[1.0, -2.0, 3.5], [4.0, 5.0, 6.0]]])
    rgb = torch.tensor([[[255, 1]], [[128, 2]], [[3, 254]]], dtype=torch.uint8)
    points, colours = unpack_points(pack_points(xyz, rgb, torch.tensor([[True, True]])).numpy())
    np.testing.assert_array_equal(points, xyz[0].numpy())
    np.testing.assert_array_equal(colours, [[255, 128, 3], [1, 2, 254]])
    points, colours = unpack_points(pack_points(xyz, rgb, torch.tensor([[False, True]])).numpy())
    np.testing.assert_array_equal(points, [[4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(colours, [[1, 2, 254]])
