"""The demo's bag says what a robot with these cameras would say, in standard types."""

import io

import numpy as np
import pytest
from demo_helpers import START_NS, D, K, make_depth, make_pixels, make_sequence
from PIL import Image
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from da3_ros.cli.demo_bag import write_sequence


def read(path):
    """Topic -> list of (recorded time, message)."""
    store = get_typestore(Stores.ROS2_KILTED)
    found = {}
    with Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((time_ns, store.deserialize_cdr(data, connection.msgtype)))
    return found


@pytest.fixture
def messages(tmp_path):
    write_sequence(make_sequence(), tmp_path / "bag", "raw")
    return read(tmp_path / "bag")


def test_images_depth_and_calibration_come_back_as_they_were(messages):
    assert (48, 64) == make_depth(0).shape
    for step in range(2):
        time_ns, image = messages["/front/image_raw"][step]
        _, depth = messages["/front/ground_truth/depth"][step]
        _, info = messages["/front/camera_info"][step]
        stamps = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in (image, depth, info)}
        assert stamps == {time_ns} == {START_NS + step * 10**8}
        assert {m.header.frame_id for m in (image, depth, info)} == {"front_optical_frame"}
        assert (image.encoding, image.step, depth.encoding) == ("rgb8", 192, "32FC1")
        np.testing.assert_array_equal(image.data.reshape(48, 64, 3), make_pixels(step))
        np.testing.assert_array_equal(depth.data.view(np.float32).reshape(48, 64), make_depth(step))
        assert (info.width, info.height, info.distortion_model) == (64, 48, "plumb_bob")
        np.testing.assert_array_equal(info.k.reshape(3, 3), K)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], K)
        assert tuple(info.d) == D


def test_calibration_comes_before_the_picture_that_needs_it(tmp_path):
    write_sequence(make_sequence(), tmp_path / "bag", "raw")
    with Reader(tmp_path / "bag") as reader:
        topics = [connection.topic for connection, _, _ in reader.messages()]
    assert topics.index("/tf_static") < topics.index("/front/camera_info") < topics.index("/front/image_raw")


def test_rig_is_latched_and_motion_does_not_meet_the_estimate(messages, tmp_path):
    [(_, static)] = messages["/tf_static"]
    [mount] = static.transforms
    assert (mount.header.frame_id, mount.child_frame_id) == ("base_link", "front_optical_frame")
    assert (mount.transform.translation.x, mount.transform.translation.z) == (0.25, 0.9)
    q = mount.transform.rotation
    np.testing.assert_allclose(np.abs([q.x, q.y, q.z, q.w]), 0.5, atol=1e-12)
    _, odometry = messages["/ground_truth/odometry"][1]
    assert odometry.child_frame_id == "base_link"
    assert odometry.pose.pose.position.x == 1.0
    [moved] = messages["/tf"][1][1].transforms
    assert moved.child_frame_id == "ground_truth/base_link", "base_link is the node's to place"
    with Reader(tmp_path / "bag") as reader:
        qos = {connection.topic: connection.ext.offered_qos_profiles[0] for connection in reader.connections}
    assert qos["/tf_static"].durability == QosDurability.TRANSIENT_LOCAL


def test_compressed_pictures_keep_the_bytes_of_their_file(tmp_path):
    file = tmp_path / "picture.png"
    Image.fromarray(make_pixels(0)).save(file)
    write_sequence(make_sequence(1, file=file), tmp_path / "bag", "compressed")
    [(_, image)] = read(tmp_path / "bag")["/front/image_raw/compressed"]
    assert image.format == "png" and image.data.tobytes() == file.read_bytes()


def test_compressed_pictures_without_a_file_become_jpeg(tmp_path):
    write_sequence(make_sequence(1), tmp_path / "bag", "compressed")
    [(_, image)] = read(tmp_path / "bag")["/front/image_raw/compressed"]
    assert image.format == "jpeg"
    assert Image.open(io.BytesIO(image.data.tobytes())).size == (64, 48)


def test_nothing_is_made_up_for_an_uncalibrated_camera(tmp_path):
    write_sequence(make_sequence(1, calibrated=False), tmp_path / "bag", "raw")
    assert not {"/front/camera_info", "/tf_static"} & read(tmp_path / "bag").keys()
