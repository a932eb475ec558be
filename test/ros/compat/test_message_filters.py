"""Filters call everyone who registered; subscribers bring messages with the QoS that was asked for."""

import threading

import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import String

DEADLINE_S = 10.0

pytestmark = pytest.mark.ros


def test_every_callback_gets_the_messages_and_its_own_arguments(implementation):
    filter_ = implementation.SimpleFilter()
    calls = []
    first = filter_.registerCallback(lambda *args: calls.append(("first", args)), "extra", 7)
    second = filter_.registerCallback(lambda *args: calls.append(("second", args)))
    filter_.signalMessage("left", "right")
    assert first != second
    assert calls == [("first", ("left", "right", "extra", 7)), ("second", ("left", "right"))]


def test_a_filter_without_callbacks_is_silent(implementation):
    implementation.SimpleFilter().signalMessage("nobody listens")


def test_messages_go_through_a_chain_of_filters(implementation, graph):
    subscriber = implementation.Subscriber(graph.node("listener"), String, "chatter", qos_profile=5)
    last = implementation.SimpleFilter()
    subscriber.registerCallback(last.signalMessage)
    arrived, done = [], threading.Event()
    last.registerCallback(lambda message, tag: (arrived.append((message.data, tag)), done.set()), "tag")
    talker = graph.node("talker").create_publisher(String, "chatter", 5)
    publish_until(talker, String(data="hello"), done)
    assert arrived[0] == ("hello", "tag")
    assert subscriber.getTopic() == "chatter"
    assert subscriber.topic_name == "/chatter"  # an attribute of the subscription


def test_the_default_is_a_reliable_queue_of_ten(implementation, graph):
    subscriber = implementation.Subscriber(graph.node("listener"), String, "chatter")
    assert subscriber.sub.qos_profile.depth == 10
    assert subscriber.sub.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def test_a_best_effort_subscriber_hears_a_best_effort_publisher(implementation, graph):
    qos = QoSProfile(depth=3, reliability=ReliabilityPolicy.BEST_EFFORT)
    subscriber = implementation.Subscriber(graph.node("listener"), String, "chatter", qos_profile=qos)
    done = threading.Event()
    subscriber.registerCallback(lambda message: done.set())
    publish_until(graph.node("talker").create_publisher(String, "chatter", qos), String(), done)


def test_parameters_override_the_qos_where_that_is_allowed(implementation, graph):
    override = Parameter("qos_overrides./chatter.subscription.reliability", value="best_effort")
    node = graph.node("listener", parameter_overrides=[override])
    subscriber = implementation.Subscriber(
        node,
        String,
        "chatter",
        qos_profile=QoSProfile(depth=3, reliability=ReliabilityPolicy.RELIABLE),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
    )
    assert subscriber.sub.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert subscriber.sub.qos_profile.depth == 3


def test_a_subscription_that_cannot_be_made_says_why(implementation, graph):
    with pytest.raises(Exception, match="not a topic"):
        implementation.Subscriber(graph.node("listener"), String, "not a topic", qos_profile=1)


def publish_until(publisher, message, done: threading.Event) -> None:
    """Publish again and again until the message came through: discovery takes its time."""
    for _ in range(int(DEADLINE_S / 0.05)):
        publisher.publish(message)
        if done.wait(0.05):
            return
    raise AssertionError(f"nothing arrived on {publisher.topic_name} within {DEADLINE_S} s")
