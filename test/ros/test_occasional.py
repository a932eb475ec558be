"""Event handlers of publishers are looked at now and then, and what they have to say is said."""

import time

import pytest

pytest.importorskip("rclpy")

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import wait_until
from sensor_msgs.msg import Image

from da3_ros.ros.occasional import Occasional

pytestmark = pytest.mark.ros


class Entity:
    """Something that an executor may wait for."""


def test_each_is_waited_for_once_in_a_period_and_executed_when_it_is_ready(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    group, one, other = Occasional(1.0), Entity(), Entity()
    assert group.can_execute(one)  # the executor waits for it
    assert group.can_execute(one)  # it has become ready, and is executed
    assert not group.can_execute(one)
    assert group.can_execute(other)  # each by itself
    clock[0] += 0.9
    assert not group.can_execute(one)
    clock[0] += 0.2
    assert group.can_execute(one)


def test_what_is_never_ready_is_not_waited_for_all_the_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    group, entity = Occasional(1.0), Entity()
    waited = 0
    for _ in range(100):  # wake-ups in five seconds
        waited += group.can_execute(entity)
        clock[0] += 0.05
    assert 5 <= waited <= 10


def test_a_subscriber_that_cannot_be_served_is_reported(graph):
    reported = []
    group = Occasional(0.2)
    graph.node.create_publisher(
        Image,
        "occasional",
        QoSProfile(depth=1, durability=DurabilityPolicy.VOLATILE),
        callback_group=group,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=reported.append),
    )
    wakes = []
    graph.node.create_timer(0.02, lambda: wakes.append(time.monotonic()))
    wait_until(lambda: len(wakes) > 20)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.node.create_subscription(Image, "occasional", lambda _: None, latched)
    wait_until(lambda: reported)
    assert reported[0].total_count == 1
