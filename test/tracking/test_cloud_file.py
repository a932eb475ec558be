"""Map files as other programs read them."""

import numpy as np
import pytest

from da3_ros.errors import InputError
from da3_ros.tracking.cloud_file import write_cloud
from da3_ros.tracking.voxel_map import Cloud

CLOUD = Cloud(
    np.array([[0.5, -1.0, 2.0], [3.0, 4.0, 5.5]], np.float32),
    np.array([[255, 0, 10], [1, 2, 3]], np.uint8),
    np.array([1.5, 7.0], np.float32),
)


def test_ply_holds_points_colours_and_confidence(tmp_path):
    write_cloud(tmp_path / "map.ply", CLOUD)
    head, _, data = (tmp_path / "map.ply").read_bytes().partition(b"end_header\n")
    assert head.splitlines()[:3] == [b"ply", b"format binary_little_endian 1.0", b"element vertex 2"]
    read = np.frombuffer(data, [("xyz", "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")])
    assert np.array_equal(read["xyz"], CLOUD.xyz) and np.array_equal(read["rgb"], CLOUD.rgb)
    assert read["confidence"].tolist() == [1.5, 7.0]


def test_pcd_packs_colours_as_pcl_does(tmp_path):
    write_cloud(tmp_path / "map.pcd", CLOUD)
    head, _, data = (tmp_path / "map.pcd").read_bytes().partition(b"DATA binary\n")
    assert b"FIELDS x y z rgb\n" in head and b"POINTS 2\n" in head
    read = np.frombuffer(data, [("xyz", "<f4", 3), ("rgb", "<u4")])
    assert np.array_equal(read["xyz"], CLOUD.xyz) and read["rgb"].tolist() == [0xFF000A, 0x010203]


@pytest.mark.parametrize(
    ("name", "cloud", "text"),
    [
        ("map.txt", CLOUD, "neither .ply nor .pcd"),
        ("map.ply", Cloud(CLOUD.xyz[:0], CLOUD.rgb[:0], CLOUD.weight[:0]), "the map is empty"),
        ("nowhere/map.ply", CLOUD, "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, name, cloud, text):
    with pytest.raises(InputError, match=text):
        write_cloud(tmp_path / name, cloud)
    assert list(tmp_path.iterdir()) == []
