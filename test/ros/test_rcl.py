"""Serialized messages to and from rcl: they arrive whole, memory is used again, and refusals are said."""

import gc
import time
from contextlib import nullcontext

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from ros_harness import wait_until
from sensor_msgs.msg import Image

from da3_ros.ros import rcl
from da3_ros.ros.intake import Intake
from da3_ros.ros.pixel_messages import Memory, PixelMessage

pytestmark = pytest.mark.ros


@pytest.fixture
def link(graph):
    """A publisher, and a subscription that the executor leaves alone."""
    intake = Intake(graph.node, pytest.fail)
    profile = QoSProfile(depth=10)
    subscription = graph.node.create_subscription(
        Image, "pixels", lambda _: None, profile, callback_group=intake.held, raw=True
    )
    publisher = graph.node.create_publisher(Image, "pixels", profile)
    wait_until(lambda: publisher.get_subscription_count() == 1 and subscription.handle.get_publisher_count() == 1)
    yield publisher, subscription
    intake.close()


def send(publisher, data):
    message = PixelMessage(Image, data, height=1, width=data.size, encoding="mono8", step=data.size)
    rcl.publish(publisher, message.serialize(Memory()))


def take(taker, subscription):
    """The next message, once it is there."""

    def taken():
        message = taker.take(subscription)
        return None if message is None else [message]

    return wait_until(taken)[0]


def test_messages_arrive_whole_and_in_order(link):
    publisher, subscription = link
    taker = rcl.Taker()
    assert taker.take(subscription) is None
    sent = [np.arange(size, dtype=np.uint8) for size in (5, 200, 1)]
    for data in sent:
        send(publisher, data)
    for data in sent:
        taken = take(taker, subscription)
        assert bytes(deserialize_message(taken.data.tobytes(), Image).data) == data.tobytes()
        assert time.time_ns() - 60 * 10**9 < taken.published_ns <= taken.received_ns <= time.time_ns()


def test_memory_is_used_again_but_not_while_somebody_has_it(link):
    publisher, subscription = link
    taker = rcl.Taker()

    def pass_on(taker, value):
        send(publisher, np.full(1000, value, np.uint8))
        return take(taker, subscription).data

    first, second = pass_on(taker, 1), pass_on(taker, 2)
    kept = first[-10:]
    place = second.ctypes.data
    del first, second
    third = pass_on(taker, 3)
    assert third.ctypes.data == place, "that of the second, which is gone"
    assert kept.tolist() == [1] * 10, "a view of the first is left"
    del taker, third
    gc.collect()
    assert kept.tolist() == [1] * 10, "memory outlives who took it"


class Gone:
    """An entity that rcl does not take for one."""

    topic_name = "/pixels"

    class Handle(nullcontext):
        pointer = None

    handle = Handle()


def test_a_refusal_is_said():
    for _ in range(2):  # what rcl says is said once: the next one is not mistaken for it
        with pytest.raises(RuntimeError, match="publishing on /pixels failed with code .*publisher"):
            rcl.publish(Gone, np.zeros(8, np.uint8))
        with pytest.raises(RuntimeError, match="taking from /pixels failed with code .*subscription"):
            rcl.Taker().take(Gone)
