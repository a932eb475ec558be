"""The voxel map against the plain way to write it, what is taken out again, and its bounds."""

import numpy as np

from da3_ros.tracking.voxel_map import VoxelMap


def random_points(n, seed=0, extent=3.0):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(-extent, extent, (n, 3)),
        rng.integers(0, 256, (n, 3)).astype(np.uint8),
        rng.uniform(0.5, 2.0, n),
    )


def plain(xyz, rgb, weight, voxel):
    groups = {}
    for p, c, w in zip(xyz, rgb, weight, strict=True):
        groups.setdefault(tuple(np.floor(p / voxel).astype(int)), []).append((p, c, w))
    means = []
    for key in sorted(groups):
        p, c, w = (np.array(part) for part in zip(*groups[key], strict=True))
        means.append(np.concatenate([(w[:, None] * p).sum(0) / w.sum(), (w[:, None] * c).sum(0) / w.sum(), [w.sum()]]))
    return np.array(means)


def test_every_cube_has_the_weighted_means_of_its_points():
    xyz, rgb, weight = random_points(20_000)
    points = VoxelMap(0.2, limit=1_000_000)
    for part in np.array_split(np.arange(len(xyz)), 7):
        points.add(xyz[part], rgb[part], weight[part])
    cloud, expected = points.cloud(), plain(xyz, rgb, weight, 0.2)
    assert len(cloud) == len(expected)
    np.testing.assert_allclose(cloud.xyz, expected[:, :3], atol=1e-5)
    np.testing.assert_allclose(cloud.rgb, expected[:, 3:6], atol=0.51)
    np.testing.assert_allclose(cloud.weight, expected[:, 6], rtol=1e-5)


def test_what_is_taken_out_is_gone():
    first, second = random_points(5000, seed=1), random_points(5000, seed=2)
    points, only = VoxelMap(0.3, 1_000_000), VoxelMap(0.3, 1_000_000)
    points.add(*first)
    points.add(*second)
    points.add(first[0], first[1], -first[2])
    only.add(*second)
    np.testing.assert_allclose(points.cloud().xyz, only.cloud().xyz, atol=1e-4)


def test_its_memory_is_bounded_and_it_says_when_it_is_full():
    points = VoxelMap(0.1, limit=1000)
    points.add(*random_points(500, extent=5.0))
    assert not points.full
    for seed in range(5):
        points.add(*random_points(2000, seed, extent=5.0))
    assert points.full
    assert len(points.cloud()) == 1000
    before = points.cloud().weight.sum()
    points.add(points.cloud().xyz, points.cloud().rgb, points.cloud().weight)  # known cubes are still refined
    assert points.cloud().weight.sum() > 1.9 * before


def test_points_without_meaning_are_left_out():
    points = VoxelMap(0.1, limit=1000)
    xyz = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [1e9, 0, 0], [1, 2, 3]])
    points.add(xyz, np.zeros((4, 3), np.uint8), np.array([1.0, 1.0, 1.0, 1.0]))
    points.add(xyz[3:], np.zeros((1, 3), np.uint8), np.array([np.nan]))
    np.testing.assert_allclose(points.cloud().xyz, [[1, 2, 3]], atol=1e-6)
