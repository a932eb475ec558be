"""TSDF fusion with Open3D, where that is installed, and what is said where it is not."""

import sys
import types

import numpy as np
import pytest

from da3_ros.errors import InputError, UnavailableError
from da3_ros.evaluation import fusion
from da3_ros.evaluation.fusion import FusionView, fuse, sample_surface
from da3_ros.evaluation.points import cloud_errors
from da3_ros.geometry.se3 import T_from, invert

K = np.array([[100.0, 0, 79.5], [0, 100, 59.5], [0, 0, 1]])


def wall(x: float, depth: float = 2.0) -> FusionView:
    """A wall at Z = 2 in the world, seen straight from (x, 0, 2 - ``depth``)."""
    T_cam_world = invert(T_from(np.eye(3), np.array([x, 0.0, 2.0 - depth])))
    return FusionView(np.full((120, 160), depth, np.float32), np.zeros((120, 160, 3), np.uint8), K, T_cam_world)


@pytest.mark.optional("open3d")
def test_two_views_of_a_wall_make_one_flat_surface():
    mesh = fuse([wall(0.0), wall(0.5), wall(0.5, 1.5)], voxel=0.02, truncation=0.1, max_depth=5.0)
    points = sample_surface(mesh, 2000)
    assert points[:, 2] == pytest.approx(2.0, abs=0.005)
    assert points[:, 0].min() == pytest.approx(-1.6, abs=0.05) and points[:, 0].max() == pytest.approx(2.1, abs=0.05)
    assert np.array_equal(points, sample_surface(mesh, 2000))
    assert cloud_errors(points, points, 0.05, voxel=0.02).f1 == 1.0


@pytest.mark.optional("open3d")
def test_depth_out_of_range_or_invalid_makes_no_surface():
    nothing = FusionView(np.full((120, 160), np.nan, np.float32), wall(0.0).rgb, K, np.eye(4))
    with pytest.raises(InputError, match="2 views makes no surface"):
        fuse([wall(0.0), nothing], voxel=0.02, truncation=0.1, max_depth=1.0)


@pytest.mark.optional("open3d")
def test_depth_that_fills_space_is_refused_before_it_fills_memory(monkeypatch):
    """The same wall, by poses that contradict each other, in places far apart."""
    memory = {"SC_PHYS_PAGES": 25_000, "SC_PAGE_SIZE": 4096}  # 0.1 GB
    monkeypatch.setattr(fusion.os, "sysconf", memory.__getitem__)
    fuse([wall(0.0)] * 8, voxel=0.02, truncation=0.1, max_depth=5.0)
    far = (wall(30.0 * number) for number in range(8))
    with pytest.raises(InputError, match=r"voxels of 0\.02 m takes more than 0\.1 GB: do their poses"):
        fuse(far, voxel=0.02, truncation=0.1, max_depth=5.0)


def test_without_open3d_the_mend_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(UnavailableError, match="Open3D.*pip install .open3d"):
        fuse([wall(0.0)], voxel=0.02, truncation=0.1, max_depth=5.0)


def test_a_version_that_fuses_nothing_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", types.SimpleNamespace(__version__="0.20.0"))
    with pytest.raises(UnavailableError, match=r"0\.20\.0 fuses nothing: pip install 'open3d>=0\.19,<0\.20'"):
        fuse([wall(0.0)], voxel=0.02, truncation=0.1, max_depth=5.0)
