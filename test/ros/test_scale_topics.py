"""Metres from other sensors over DDS, and stamps of transforms under a clock that is not the machine's."""

import time
from contextlib import contextmanager

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import NS, Cameras, DiagnosticsListener, overrides, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, Range
from tf2_msgs.msg import TFMessage

from da3_ros.geometry.se3 import T_from
from da3_ros.msg import WindowEstimate

pytestmark = pytest.mark.ros

START_NS = 1_700_000_000 * NS
PERIOD_NS = 100_000_000
NETWORK = {
    "cameras": ["left", "right"],
    "model__checkpoint": "random",
    "model__device": "cpu",
    "model__process_res": 56,
    "window__sets": 2,
    "loops__enabled": False,
    "map__enabled": False,
}


@contextmanager
def network_node(graph, **parameters):
    """The node with a small network of random weights, active."""
    from da3_ros.ros.node import Da3Node

    node = Da3Node(context=graph.context, parameter_overrides=overrides(**{**NETWORK, **parameters}))
    graph.executor.add_node(node)
    try:
        graph.call(node.trigger_configure)
        graph.call(node.trigger_activate)
        yield node
    finally:
        graph.executor.remove_node(node)
        assert node.close(10.0)
        node.destroy_node()


def stamp(message):
    return message.header.stamp.sec * NS + message.header.stamp.nanosec


def test_a_range_finder_gives_metres(graph):
    cameras = Cameras(graph, textured=True)
    windows = graph.listen(WindowEstimate, "/window")
    depth, in_front = (graph.listen(Image, f"/{name}/depth/image_rect") for name in ("left", "right"))
    diagnostics = DiagnosticsListener(graph)
    with network_node(graph, scale__source="range", scale__range_topic="/sonar", diagnostics__period_s=0.1):
        publisher = graph.node.create_publisher(Range, "/sonar", 10)
        wait_until(publisher.get_subscription_count)
        cameras.wait_for_subscriber()
        cameras.send_tf()
        send_place_of_sonar(graph)
        # Before the first range there are no metres, and with a named source no depth in another unit.
        cameras.send_until(lambda: diagnostics.says("camera left", "no metric scale yet", "measured ranges"))
        assert all(np.isnan(metres(image)).all() for image in depth)

        def send():
            message = Range(min_range=0.1, max_range=10.0, range=3.0, field_of_view=0.01)
            message.header.frame_id = "sonar"
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(cameras.stamp_ns + PERIOD_NS, NS)
            publisher.publish(message)
            cameras.send(step_ns=PERIOD_NS)
            time.sleep(0.05)

        def known(of):
            return [metres(image) for image in of if np.isfinite(metres(image)).any()]

        wait_until(lambda: (known(depth) and known(in_front) and windows) or send())
    assert windows[0].scale_source == "range" and 0 < windows[0].scale < np.inf
    # What is 3 m before the left camera is 2 m before the right one, which is a metre further on. An untrained network
    # sees it at two places, and the scale is halfway between what each of them says.
    height, width = known(depth)[0].shape
    seen = known(depth)[0][height // 2, width // 2], known(in_front)[0][height // 2, width // 2]
    assert (seen[0] / 3.0 + seen[1] / 2.0) / 2 == pytest.approx(1.0, rel=0.05)


def metres(image):
    return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)


def send_place_of_sonar(graph):
    """It looks where the left camera looks: along its own x, as a Range is measured."""
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    transform = TransformStamped(child_frame_id="sonar")
    transform.header.frame_id = "base_link"
    transform.transform.translation.z = transform.transform.rotation.w = 1.0
    graph.node.create_publisher(TFMessage, "/tf_static", latched).publish(TFMessage(transforms=[transform]))


def test_odometry_of_a_topic_reaches_the_network_at_the_images_stamps(graph, cameras, make_node):
    node = make_node(scale__source="odometry", scale__odometry_topic="/wheels", sync__timeout_s=5.0)
    node.configure()
    node.activate()
    publisher = graph.node.create_publisher(Odometry, "/wheels", 100)
    wait_until(publisher.get_subscription_count)
    cameras.wait_for_subscriber()

    def position(stamp_ns):
        return np.array([0.5, 0.25, 0.0]) * (stamp_ns - START_NS) / NS

    def send():
        for share in (1, 6, 11, 16):  # before, between and after the images
            message = Odometry(child_frame_id="base_link")
            at = cameras.stamp_ns + PERIOD_NS * share // 10
            message.header.frame_id = "odom"
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(at, NS)
            place = message.pose.pose.position
            place.x, place.y, place.z = position(at)
            message.pose.pose.orientation.w = 1.0
            publisher.publish(message)
        cameras.send(step_ns=PERIOD_NS)

    def known():
        frames = [frame for frame_set, _ in node.pipeline.called("step") for frame in frame_set.frames]
        return [frame for frame in frames if frame.T_odom_base is not None]

    wait_until(lambda: len(known()) >= 4 or send())
    for frame in known():
        np.testing.assert_allclose(frame.T_odom_base, T_from(np.eye(3), position(frame.stamp_ns)), atol=1e-6)


def test_odometry_of_another_frame_needs_a_static_transform_to_the_base(graph, cameras, make_node):
    """Without it, or with one that moves, it is refused with one clear finding; with it the lever is taken in."""
    diagnostics = DiagnosticsListener(graph)
    node = make_node(
        scale__source="odometry", scale__odometry_topic="/wheels", sync__timeout_s=5.0, diagnostics__period_s=0.1
    )
    node.configure()
    node.activate()
    publisher = graph.node.create_publisher(Odometry, "/wheels", 100)
    moving, static = (
        graph.node.create_publisher(TFMessage, topic, QoSProfile(depth=10, durability=durability))
        for topic, durability in (("/tf", DurabilityPolicy.VOLATILE), ("/tf_static", DurabilityPolicy.TRANSIENT_LOCAL))
    )
    wait_until(lambda: publisher.get_subscription_count() and moving.get_subscription_count())
    cameras.wait_for_subscriber()

    def transform(stamp_ns):
        found = TransformStamped(child_frame_id="wheels")
        found.header.frame_id = "base_link"
        found.header.stamp.sec, found.header.stamp.nanosec = divmod(stamp_ns, NS)
        found.transform.translation.x, found.transform.rotation.w = 0.5, 1.0
        return TFMessage(transforms=[found])

    def send():
        for share in (1, 6, 11, 16):
            at = cameras.stamp_ns + PERIOD_NS * share // 10
            message = Odometry(child_frame_id="wheels")
            message.header.frame_id = "odom"
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(at, NS)
            message.pose.pose.position.x, message.pose.pose.orientation.w = 3.0, 1.0
            publisher.publish(message)
        cameras.send(step_ns=PERIOD_NS)

    def known():
        frames = [frame for frame_set, _ in node.pipeline.called("step") for frame in frame_set.frames]
        return [frame for frame in frames if frame.T_odom_base is not None]

    wanted = "child_frame_id 'wheels', but frames.base is 'base_link'", "publish it on /tf_static"
    status = wait_until(lambda: diagnostics.says("tracking", *wanted) or send(), 20.0)
    assert status.level == DiagnosticStatus.ERROR
    moving.publish(transform(cameras.stamp_ns))
    count = len(node.pipeline.called("step"))
    wait_until(lambda: len(node.pipeline.called("step")) > count + 3 or send(), 20.0)
    assert not known()
    static.publish(transform(0))
    wait_until(lambda: known() or send(), 20.0)
    np.testing.assert_allclose(known()[0].T_odom_base, T_from(np.eye(3), np.array([2.5, 0.0, 0.0])), atol=1e-9)


def test_transforms_have_the_images_stamps_under_simulated_time(graph):
    cameras = Cameras(graph, textured=True)
    sent, tf = [], graph.listen(TFMessage, "/tf")
    with network_node(graph, use_sim_time=True):
        clock = graph.node.create_publisher(Clock, "/clock", 10)
        wait_until(clock.get_subscription_count)
        cameras.wait_for_subscriber()
        cameras.send_tf()

        def send():
            now = Clock()  # the simulator's clock is ahead of its images, by other than a multiple of their period
            now.clock.sec, now.clock.nanosec = divmod(cameras.stamp_ns + PERIOD_NS * 17 // 10, NS)
            clock.publish(now)
            sent.append(cameras.send(step_ns=PERIOD_NS))

        def found(child):
            return [stamp(t) for message in tf for t in message.transforms if t.child_frame_id == child]

        wait_until(lambda: len(found("base_link")) >= 4 or send())
        every = [t for message in tf for t in message.transforms]
    assert {t.header.frame_id for t in every} == {"odom"}
    assert {stamp(t) for t in every} <= set(sent)
    for child in {t.child_frame_id for t in every}:
        assert np.all(np.diff(found(child)) > 0)  # each stamp once: tf2 warns of repeated ones
