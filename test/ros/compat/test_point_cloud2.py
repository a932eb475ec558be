"""Clouds survive the way into a message and back, whatever their fields, padding and byte order."""

import array
import time

import numpy as np
import pytest
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from da3_ros.errors import InputError

REFUSED = (InputError, AssertionError)  # ours, upstream's


def field(name, offset, datatype=PointField.FLOAT32, count=1):
    return PointField(name=name, offset=offset, datatype=datatype, count=count)


XYZ = [field(name, 4 * i) for i, name in enumerate("xyz")]
XYZRGB = [*XYZ, field("rgb", 12, PointField.UINT32)]
POINTS = [(1.0, 2.0, 3.0, 0x00FF8000), (4.0, float("nan"), 6.0, 7), (-1.5, 0.25, 1e6, 2**32 - 1)]
HEADER = Header(frame_id="camera")


def test_tuples_become_a_cloud_and_come_back(implementation):
    cloud = implementation.create_cloud(HEADER, XYZRGB, POINTS)
    assert (cloud.header.frame_id, cloud.height, cloud.width) == ("camera", 1, 3)
    assert (cloud.point_step, cloud.row_step, len(cloud.data)) == (16, 48, 48)
    assert not cloud.is_bigendian
    assert not cloud.is_dense
    points = implementation.read_points(cloud)
    assert points.dtype.names == ("x", "y", "z", "rgb")
    np.testing.assert_array_equal(points["rgb"], [point[3] for point in POINTS])
    np.testing.assert_array_equal(points["y"], np.float32([2.0, np.nan, 0.25]))


def test_the_bytes_are_what_the_fields_say(implementation):
    cloud = implementation.create_cloud(HEADER, XYZRGB, POINTS[:1])
    assert bytes(cloud.data) == np.float32([1, 2, 3]).tobytes() + np.uint32(0x00FF8000).tobytes()


def test_arrays_become_clouds(implementation):
    xyz = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    for cloud in (
        implementation.create_cloud(HEADER, XYZ, xyz),
        implementation.create_cloud_xyz32(HEADER, xyz),
        implementation.create_cloud_xyz32(HEADER, [tuple(point) for point in xyz]),
        implementation.create_cloud(HEADER, XYZ, xyz[::-1][::-1]),  # not contiguous
        implementation.create_cloud(HEADER, XYZ, xyz.astype(np.float64)),
    ):
        assert [each.name for each in cloud.fields] == ["x", "y", "z"]
        np.testing.assert_array_equal(implementation.read_points_numpy(cloud), xyz)


def test_structured_arrays_keep_their_layout_with_padding(implementation):
    fields = [field("x", 0), field("label", 8, PointField.UINT8), field("stamp", 16, PointField.FLOAT64)]
    layout = {
        "names": ["x", "label", "stamp"],
        "formats": ["<f4", "u1", "<f8"],
        "offsets": [0, 8, 16],
        "itemsize": 32,
    }
    points = np.zeros(4, dtype=layout)
    points["x"], points["label"], points["stamp"] = [1, 2, 3, 4], [9, 8, 7, 6], 1e9
    cloud = implementation.create_cloud(HEADER, fields, points, point_step=32)
    assert (cloud.point_step, len(cloud.data)) == (32, 128)
    read = implementation.read_points(cloud)
    for name in ("x", "label", "stamp"):
        np.testing.assert_array_equal(read[name], points[name])


def test_named_fields_only_in_the_order_asked_for(implementation):
    cloud = implementation.create_cloud(HEADER, XYZRGB, POINTS)
    points = implementation.read_points(cloud, field_names=("z", "x"))
    assert points.dtype.names == ("z", "x")
    assert points[2].item() == (1e6, -1.5)
    np.testing.assert_array_equal(implementation.read_points_numpy(cloud, ["x", "z"])[0], [1.0, 3.0])


def test_nan_is_skipped_only_in_the_fields_asked_for(implementation):
    cloud = implementation.create_cloud(HEADER, XYZRGB, POINTS)
    assert len(implementation.read_points(cloud, skip_nans=True)) == 2
    assert len(implementation.read_points(cloud, ["x", "rgb"], skip_nans=True)) == 3
    assert implementation.read_points_numpy(cloud, "xyz", skip_nans=True).shape == (2, 3)
    cloud.is_dense = True  # whoever says so is believed
    assert len(implementation.read_points(cloud, skip_nans=True)) == 3


def test_fields_with_a_count_become_numbered_ones(implementation):
    fields = [field("x", 0), field("normal", 4, count=3)]
    points = np.arange(8, dtype=np.float32).reshape(2, 4)
    cloud = implementation.create_cloud(HEADER, fields, points)
    assert cloud.point_step == 16
    read = implementation.read_points(cloud)
    assert read.dtype.names == ("x", "normal_0", "normal_1", "normal_2")
    np.testing.assert_array_equal(read["normal_2"], [3, 7])


def test_big_endian_clouds_give_the_same_values(implementation):
    raw = np.array([(1.0, 2.0, 3.0, 4), (5.0, np.nan, 7.0, 8)], dtype=">f4,>f4,>f4,>u4")
    cloud = PointCloud2(height=1, width=2, fields=XYZRGB, is_bigendian=True, point_step=16, row_step=32)
    cloud.data = array.array("B", raw.tobytes())
    points = implementation.read_points(cloud)
    np.testing.assert_array_equal(points["x"], [1, 5])
    np.testing.assert_array_equal(points["rgb"], [4, 8])


def test_organised_clouds_are_read_row_by_row(implementation):
    cloud = implementation.create_cloud_xyz32(HEADER, np.arange(18).reshape(6, 3))
    cloud.height, cloud.width, cloud.row_step = 2, 3, 36
    np.testing.assert_array_equal(implementation.read_points_numpy(cloud)[:, 0], [0, 3, 6, 9, 12, 15])


def test_an_empty_cloud_is_a_cloud(implementation):
    cloud = implementation.create_cloud(HEADER, XYZRGB, [])
    assert (cloud.width, len(cloud.data)) == (0, 0)
    assert len(implementation.read_points(cloud)) == 0


def test_what_does_not_fit_is_refused(implementation):
    with pytest.raises(REFUSED):
        implementation.create_cloud(HEADER, XYZRGB, np.zeros((3, 4), np.float32))  # rgb is no float
    with pytest.raises(REFUSED):
        implementation.create_cloud(HEADER, XYZ, np.zeros(3, dtype="<f8,<f8,<f8"))
    cloud = implementation.create_cloud(HEADER, XYZRGB, POINTS)
    with pytest.raises(REFUSED):
        implementation.read_points(cloud, ["x", "intensity"])
    with pytest.raises(REFUSED):
        implementation.read_points_numpy(cloud)


def test_a_large_cloud_is_quick(implementation):
    xyz = np.zeros((640 * 480, 3), np.float32)
    start = time.perf_counter()
    cloud = implementation.create_cloud_xyz32(HEADER, xyz)
    implementation.read_points_numpy(cloud, skip_nans=True)
    assert time.perf_counter() - start < 1.0  # a loop over the points takes several
