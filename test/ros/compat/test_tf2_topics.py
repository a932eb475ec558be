"""Transforms travel over real topics: what is static reaches late listeners too."""

import time

import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from da3_ros.ros.compat._fallback import tf2_topics

WAIT = Duration(seconds=10)

pytestmark = pytest.mark.ros


def transform(parent, child, x=0.0, seconds=1):
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp.sec = seconds
    message.transform.translation.x = float(x)
    return message


def listen(implementation, graph, **kwargs):
    buffer = implementation.Buffer()
    listener = implementation.TransformListener(buffer, graph.node("listener"), **kwargs)
    return buffer, listener


def test_a_late_listener_gets_every_static_transform(implementation, graph):
    broadcaster = implementation.StaticTransformBroadcaster(graph.node("rig"))
    broadcaster.sendTransform(transform("base", "left", 1))
    broadcaster.sendTransform([transform("base", "right", 2), transform("base", "rear", 3)])
    buffer, _ = listen(implementation, graph)
    for x, camera in ((1, "left"), (2, "right"), (3, "rear")):
        found = buffer.lookup_transform("base", camera, Time(), timeout=WAIT)
        assert found.transform.translation.x == x


def test_moving_transforms_arrive_with_their_stamps(implementation, graph):
    buffer, _ = listen(implementation, graph)
    broadcaster = implementation.TransformBroadcaster(graph.node("robot"))
    until(lambda: broadcaster.pub_tf.get_subscription_count() > 0)
    broadcaster.sendTransform(transform("odom", "base", 1, seconds=1))
    broadcaster.sendTransform([transform("odom", "base", 3, seconds=3), transform("map", "odom", seconds=2)])
    found = buffer.lookup_transform("odom", "base", Time(seconds=2), timeout=WAIT)
    assert found.transform.translation.x == pytest.approx(2.0)
    assert buffer.can_transform("map", "base", Time(seconds=2), timeout=WAIT)


def test_topics_can_be_chosen(implementation, graph):
    buffer, _ = listen(implementation, graph, tf_topic="recorded/tf", tf_static_topic="recorded/tf_static")
    publisher = graph.node("player").create_publisher(TFMessage, "recorded/tf", 10)
    until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(TFMessage(transforms=[transform("odom", "base", 5)]))
    assert buffer.can_transform("odom", "base", Time(), timeout=WAIT)


def test_an_unregistered_listener_hears_nothing_more(implementation, graph):
    buffer, listener = listen(implementation, graph)
    broadcaster = implementation.TransformBroadcaster(graph.node("robot"))
    until(lambda: broadcaster.pub_tf.get_subscription_count() > 0)
    listener.unregister()
    until(lambda: broadcaster.pub_tf.get_subscription_count() == 0)
    broadcaster.sendTransform(transform("odom", "base"))
    assert not buffer.can_transform("odom", "base", Time())


def test_a_static_transform_that_is_sent_again_is_replaced(graph):
    """Ours only: the Python broadcaster of tf2 kept the first until late 2025, unlike its C++ one."""
    broadcaster = tf2_topics.StaticTransformBroadcaster(graph.node("rig"))
    for x in (1, 2):
        broadcaster.sendTransform(transform("base", "camera", x))
    buffer = tf2_topics.Buffer()
    listener = tf2_topics.TransformListener(buffer, graph.node("listener"))
    found = buffer.lookup_transform("base", "camera", Time(), timeout=WAIT)
    assert found.transform.translation.x == 2.0
    listener.unregister()


def until(condition) -> None:
    """Wait for the ROS graph to get there."""
    deadline = time.monotonic() + WAIT.nanoseconds * 1e-9
    while not condition():
        assert time.monotonic() < deadline, "the graph did not change in time"
        time.sleep(0.01)
