"""Messages reach their consumers whatever the node's executor does."""

import pytest

pytest.importorskip("rclpy")

import threading

import numpy as np
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from ros_harness import wait_until
from sensor_msgs.msg import Image

from da3_ros.ros import rcl
from da3_ros.ros.intake import Intake
from da3_ros.ros.pixel_messages import Memory, PixelMessage

pytestmark = pytest.mark.ros


class Topic:
    """A publisher of images and a subscription for the intake."""

    def __init__(self, node, intake, name):
        profile = QoSProfile(depth=20)
        self.subscription = node.create_subscription(
            Image, name, lambda _: None, profile, callback_group=intake.held, raw=True
        )
        self.publisher = node.create_publisher(Image, name, profile)
        ends = self.subscription.handle
        wait_until(lambda: self.publisher.get_subscription_count() == ends.get_publisher_count() == 1)

    def send(self, size):
        message = PixelMessage(Image, np.zeros(size, np.uint8), height=1, width=size, encoding="mono8", step=size)
        rcl.publish(self.publisher, message.serialize(Memory()))


@pytest.fixture
def failures():
    return []


@pytest.fixture
def intake(graph, failures):
    intake = Intake(graph.node, failures.append)
    yield intake
    intake.close()


def widths(into):
    """A consumer that notes how wide images are."""
    return lambda taken: into.append(taken.data.size)


def test_all_messages_come_in_order_while_the_executor_is_busy(graph, intake):
    topic, got, release = Topic(graph.node, intake, "pixels"), [], threading.Event()
    intake.add(topic.subscription, widths(got))
    intake.start()
    busy = threading.Event()
    graph.executor.create_task(lambda: (busy.set(), release.wait(20)))
    assert busy.wait(20)
    for size in (300, 100, 200):
        topic.send(size)
    try:
        wait_until(lambda: len(got) == 3)
    finally:
        release.set()
    assert [size - got[1] for size in got] == [200, 0, 100]


def test_what_is_taken_over_comes_to_its_callback_and_not_from_the_executor(graph, intake):
    got = []
    subscription = graph.node.create_subscription(
        Image, "typed", lambda message: got.append((message.width, threading.current_thread().name)), 10
    )
    refused = []
    intake.take_over(subscription, subscription.callback, refused.append)
    intake.start()
    publisher = graph.node.create_publisher(Image, "typed", 10)
    wait_until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(Image(width=3))
    publisher.publish(serialize_message(Image(width=5))[:7])
    publisher.publish(Image(width=4))
    wait_until(lambda: len(got) == 2)
    assert len(refused) == 1 and "what came on /typed is no Image" in refused[0]
    assert got == [(3, "da3-intake"), (4, "da3-intake")]


def test_subscriptions_may_be_added_while_it_runs(graph, intake):
    first, second = Topic(graph.node, intake, "first"), Topic(graph.node, intake, "second")
    got_first, got_second = [], []
    intake.add(first.subscription, widths(got_first))
    intake.start()
    first.send(1)
    wait_until(lambda: got_first)
    intake.add(second.subscription, widths(got_second))
    second.send(1)
    wait_until(lambda: got_second)
    first.send(1)
    wait_until(lambda: len(got_first) == 2)


def test_nothing_comes_before_the_start_nor_after_the_end(graph, failures):
    intake = Intake(graph.node, failures.append)
    topic, got = Topic(graph.node, intake, "pixels"), []
    intake.add(topic.subscription, widths(got))
    topic.send(1)
    assert not got
    intake.start()
    wait_until(lambda: got)
    intake.close()
    topic.send(1)
    taker = rcl.Taker()
    wait_until(lambda: taker.take(topic.subscription))  # it came, and nobody had taken it
    assert len(got) == 1 and not failures


def test_what_a_consumer_raises_is_told_once_and_ends_it(graph, intake, failures):
    topic = Topic(graph.node, intake, "pixels")

    def raises(_):
        raise ZeroDivisionError("on purpose")

    intake.add(topic.subscription, raises)
    intake.start()
    topic.send(1)
    topic.send(1)
    wait_until(lambda: failures)
    intake.close()
    assert [str(error) for error in failures] == ["on purpose"]
