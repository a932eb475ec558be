"""What a subscriber gets from an active node: values, stamps, frames, and nothing that nobody asked for."""

import time
from array import array

import cv2
import numpy as np
import pytest
from fake_pipeline import HEIGHT, WIDTH, K, depth_of
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecyclePublisher
from ros_harness import NS, DiagnosticsListener, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from da3_ros.datatypes import OutputRequest
from da3_ros.msg import WindowEstimate
from da3_ros.ros.publishers import EstimatePublishers

pytestmark = pytest.mark.ros


def stamp_ns(message):
    return message.header.stamp.sec * NS + message.header.stamp.nanosec


def test_every_topic_carries_the_stamp_and_values_of_its_image(graph, cameras, active_node):
    depth = graph.listen(Image, "/right/depth/image_rect")
    info = graph.listen(CameraInfo, "/right/depth/camera_info")
    confidence = graph.listen(Image, "/left/confidence")
    points = graph.listen(PointCloud2, "/left/points")
    merged = graph.listen(PointCloud2, "/points")
    window = graph.listen(WindowEstimate, "/window")
    odometry = graph.listen(Odometry, "/odometry")
    path = graph.listen(Path, "/path")
    tf = graph.listen(TFMessage, "/tf")
    topics = (depth, info, confidence, points, merged, window, odometry, path, tf)
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: all(topics))
    wait_until(lambda: len(active_node.pipeline.called("step")) == len(window) and len(tf) >= len(window))
    sent = set(range(1_700_000_000 * NS, cameras.stamp_ns + 1, 100_000_000))

    image = depth[-1]
    assert stamp_ns(image) in sent and image.header.frame_id == "right_optical"
    assert (image.height, image.width, image.encoding, image.step) == (HEIGHT, WIDTH, "32FC1", 4 * WIDTH)
    np.testing.assert_array_equal(np.frombuffer(image.data, np.float32).reshape(HEIGHT, WIDTH), depth_of(1))

    pairs = {stamp_ns(message): message for message in info}
    message = pairs[stamp_ns(image)]
    assert message.header == image.header and (message.height, message.width) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(message.k.reshape(3, 3), K)
    np.testing.assert_array_equal(message.p.reshape(3, 4), np.hstack([K, np.zeros((3, 1))]))
    np.testing.assert_array_equal(message.r.reshape(3, 3), np.eye(3))
    assert message.distortion_model == "plumb_bob" and list(message.d) == [0.0] * 5

    assert confidence[-1].encoding == "32FC1" and confidence[-1].header.frame_id == "left_optical"

    cloud = points[-1]
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
    ]
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (HEIGHT, WIDTH, 16, 16 * WIDTH)
    assert not cloud.is_dense and cloud.header.frame_id == "left_optical" and stamp_ns(cloud) in sent
    assert bytes(cloud.data) == bytes(i % 256 for i in range(HEIGHT * WIDTH * 16))
    assert merged[-1].header.frame_id == "odom" and merged[-1].is_dense and len(merged[-1].data) == 80

    estimate = window[-1]
    assert estimate.header.frame_id == "odom" and estimate.scale_source == "none" and np.isnan(estimate.scale)
    assert estimate.model_variant == "da3-small" and estimate.weights_trained
    assert [view.camera for view in estimate.views] == ["left", "right"]
    right = estimate.views[1]
    assert stamp_ns(right) == stamp_ns(estimate) and right.header.frame_id == "right_optical"
    assert (right.width, right.height, right.newest, right.reference) == (WIDTH, HEIGHT, True, False)
    np.testing.assert_array_equal(right.k_predicted, 2.0 * K.reshape(-1))
    position, turn = right.pose.position, right.pose.orientation
    assert (position.x, position.y, position.z) == (2.0, 2.0, 3.0)
    # A quarter turn about z, in the order x, y, z, w.
    np.testing.assert_allclose(np.abs([turn.x, turn.y, turn.z, turn.w]), [0, 0, 0.5**0.5, 0.5**0.5], atol=1e-9)

    # The rig is not known, so odometry follows the first camera and claims no certainty.
    pose = odometry[-1]
    assert (pose.header.frame_id, pose.child_frame_id) == ("odom", "left_optical")
    assert pose.pose.pose.position.x == 1.0 and pose.pose.covariance[0] > 1e3
    assert [stamp_ns(p) for p in path[-1].poses] == [stamp_ns(w) for w in window][: len(path[-1].poses)]

    frames = {(t.header.frame_id, t.child_frame_id) for message in tf for t in message.transforms}
    assert frames == {("odom", "left_optical_estimated"), ("odom", "right_optical_estimated")}


def test_nothing_is_sent_with_the_interpreters_lock_held(graph, cameras, active_node, monkeypatch):
    """As rclpy's own publish does, which may wait for what other threads send."""
    window = graph.listen(WindowEstimate, "/window")
    info = graph.listen(CameraInfo, "/left/depth/camera_info")
    odometry = graph.listen(Odometry, "/odometry")
    monkeypatch.delattr(LifecyclePublisher, "publish")
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: window and info and odometry)


def test_topics_that_nobody_listens_to_are_not_asked_for(graph, cameras, active_node):
    steps = lambda: active_node.pipeline.called("step")  # noqa: E731
    cameras.wait_for_subscriber()
    cameras.send_until(steps)
    assert steps()[-1][1] == OutputRequest()

    graph.listen(Image, "/left/confidence")
    graph.listen(CameraInfo, "/right/depth/camera_info")
    wanted = OutputRequest(confidence=frozenset({"left"}), depth=frozenset({"right"}))
    cameras.send_until(lambda: steps()[-1][1] == wanted)


def test_frames_reach_the_pipeline_as_they_were_sent(cameras, active_node):
    cameras.wait_for_subscriber()
    frame_set = cameras.send_until(lambda: active_node.pipeline.called("step"))[0][0]
    assert frame_set.cameras == ("left", "right")
    for frame in frame_set.frames:
        assert frame.stamp_ns == frame_set.stamp_ns and frame.encoding == "bgr8"
        assert frame.image.shape == (48, 64, 3) and (frame.image == 7).all()
        assert frame.calibration.K[0, 0] == 40.0 and frame.calibration.K[1, 1] == 41.0
    assert active_node.pipeline.threads == {"da3-inference"}


def test_the_rig_comes_from_tf_static_and_is_never_made_up(cameras, active_node):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: len(active_node.pipeline.called("step")) > 2)
    assert active_node.pipeline.called("set_rig") == []
    cameras.send_tf()
    rig = cameras.send_until(lambda: active_node.pipeline.called("set_rig"))[-1][0]
    assert set(rig) == {"left", "right"}
    np.testing.assert_allclose(rig["right"][:3, 3], [1.0, 0.0, 1.0])
    np.testing.assert_allclose(rig["left"][:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-9)


def test_a_changed_camera_info_is_used_from_then_on(cameras, active_node):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    k = (80.0, 0.0, 31.5, 0.0, 81.0, 23.5, 0.0, 0.0, 1.0)
    last = lambda: active_node.pipeline.called("step")[-1][0].frames[0].calibration  # noqa: E731
    cameras.send_until(lambda: last().K[0, 0] == 80.0, k=k)


@pytest.fixture
def start(make_node):
    """Makes an active node."""

    def start(**parameters):
        node = make_node(**parameters)
        node.configure()
        node.activate()
        return node

    return start


def last_frames(node):
    """Camera -> frame of the newest step; empty before the first."""
    steps = node.pipeline.called("step")
    return {frame.camera: frame for frame in steps[-1][0].frames} if steps else {}


def test_compressed_and_raw_cameras_together(graph, cameras, start):
    node = start(camera__left__transport="compressed")
    picture = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    message = CompressedImage(format="jpeg", data=array("B", cv2.imencode(".png", picture)[1].tobytes()))
    message.header.frame_id = "left_optical"
    publisher = graph.node.create_publisher(CompressedImage, "/left/image_raw/compressed", 1)

    def send_left():
        stamp = divmod(cameras.stamp_ns, NS)
        message.header.stamp.sec, message.header.stamp.nanosec = stamp
        publisher.publish(message)
        return set(last_frames(node)) == {"left", "right"}

    cameras.send_until(send_left)
    left = last_frames(node)["left"]
    assert left.encoding == "bgr8" and (left.image == picture).all()
    assert left.calibration.K[0, 0] == 40.0  # from /left/camera_info, beside /left/image_raw


def test_bayer_images_are_converted(cameras, start):
    def make_bayer(image):
        image.encoding, image.step, image.data = "bayer_rggb8", 64, array("B", bytes([90]) * (48 * 64))

    node = start()
    cameras.wait_for_subscriber()
    frame = cameras.send_until(lambda: last_frames(node).get("left"), change=make_bayer)
    assert frame.encoding == "rgb8" and (frame.image == 90).all() and frame.image.shape == (48, 64, 3)


def test_an_uncalibrated_camera_and_a_frame_of_ones_own(cameras, start):
    node = start(camera__left__camera_info_topic="none", camera__left__frame_id="my_frame")
    cameras.send_until(lambda: set(last_frames(node)) == {"left", "right"})
    frames = last_frames(node)
    assert frames["left"].calibration is None and frames["right"].calibration is not None
    assert (frames["left"].frame_id, frames["right"].frame_id) == ("my_frame", "right_optical")


def test_topics_are_relative_to_the_namespace(graph, make_node):
    node = make_node(namespace="robot")
    node.configure()
    node.activate()
    published = {publisher.topic_name for publisher in node.node.publishers}
    assert {"/robot/left/depth/image_rect", "/robot/points", "/robot/window", "/diagnostics"} <= published
    subscribed = {subscription.topic_name for subscription in node.node.subscriptions}
    assert {"/robot/left/image_raw", "/robot/left/camera_info", "/tf", "/tf_static"} <= subscribed


def test_topics_that_are_switched_off_do_not_exist(start):
    node = start(publish__points=False, publish__path=False, frames__publish_tf=False)
    published = {publisher.topic_name for publisher in node.node.publishers}
    assert "/left/depth/image_rect" in published
    assert not {"/left/points", "/path", "/tf", "/tf_static"} & published


def test_a_network_that_is_too_slow_drops_the_oldest_sets_and_counts_them(graph, cameras, start):
    node = start(sync__pending_sets=1)
    node.pipeline.delay_s = 0.3
    diagnostics = DiagnosticsListener(graph)
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: len(node.pipeline.called("step")) >= 4)
    stamps = [call[0].stamp_ns for call in node.pipeline.called("step")]
    assert max(np.diff(stamps)) > 200_000_000  # sets in between were left out
    assert wait_until(lambda: int(diagnostics.value("camera left", "dropped: network busy") or 0))
    assert int(diagnostics.value("pipeline", "sets dropped before the network")) > 0


def test_slow_publishing_does_not_hold_up_the_network(graph, cameras, start, monkeypatch):
    node = start()
    monkeypatch.setattr(EstimatePublishers, "publish", lambda *_, **__: time.sleep(0.5))
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: len(node.pipeline.called("step")) > 5)
    node.pipeline.calls.clear()
    begin = time.monotonic()
    cameras.send_until(lambda: len(node.pipeline.called("step")) >= 10)
    assert time.monotonic() - begin < 2.0


def test_an_estimate_without_a_finite_pose_is_not_published(graph, cameras, start):
    node = start()
    window = graph.listen(WindowEstimate, "/window")
    diagnostics = DiagnosticsListener(graph)
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: window)
    node.pipeline.pose_offset = np.nan
    assert cameras.send_until(lambda: diagnostics.says("camera left", "pose is not finite"))
    assert all(np.isfinite(view.pose.position.x) for message in window for view in message.views)
    node.pipeline.pose_offset = 0.0
    count = len(window)
    cameras.send_until(lambda: len(window) > count)
