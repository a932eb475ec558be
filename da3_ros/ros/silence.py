"""Why nothing arrives on a topic: who publishes there, with which type and quality of service."""

from __future__ import annotations

import difflib

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from da3_ros.ros.qos import describe

_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_RAW = "sensor_msgs/msg/Image"


def explain_silence(node: Node, subscription: Subscription, parameter: str) -> str:
    """One sentence: why ``subscription`` gets nothing and what to change. ``parameter`` sets its topic."""
    topic = subscription.topic_name
    wanted = message_type(subscription)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"no publisher on {topic}{_elsewhere(node, topic, wanted)}: start the camera or set {parameter}"
    other = [publisher.topic_type for publisher in publishers if publisher.topic_type != wanted]
    if len(other) == len(publishers):
        mend = f"set {parameter}"
        if {wanted, other[0]} == {_COMPRESSED, _RAW}:
            mend = f"set {parameter.rpartition('.')[0]}.transport"
        return f"{topic} carries {other[0]}, not {wanted}: {mend}"
    reasons = [qos_problem(publisher, subscription) for publisher in publishers if publisher.topic_type == wanted]
    seen = describe_publishers(publishers)
    if all(reasons):
        return (
            f"incompatible QoS on {topic}: offered by {seen}, requested {describe(subscription.qos_profile)}: set "
            f"qos_overrides.{topic}.subscription.reliability or .durability, or change the publisher"
        )
    return (
        f"{topic} has a publisher with compatible QoS ({seen}), but nothing comes through: it does not send, or the "
        "transport loses large messages (Fast DDS: give both sides config/fastdds.xml of this package, see README)"
    )


def qos_problem(publisher: TopicEndpointInfo, subscription: Subscription) -> str:
    """Why the two do not match; empty when they do."""
    compatibility, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
    return (reason or "incompatible") if compatibility == QoSCompatibility.ERROR else ""


def describe_publishers(publishers: list[TopicEndpointInfo]) -> str:
    """Node names and offered QoS, for example ``/camera (reliable, volatile)``."""
    return ", ".join(
        f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name} ({describe(publisher.qos_profile)})"
        for publisher in publishers
    )


def describe_connection(node: Node, subscription: Subscription) -> str:
    """Publishers on the subscription's topic with the QoS that they offer, and the one that is requested."""
    publishers = node.get_publishers_info_by_topic(subscription.topic_name)
    offered = describe_publishers(publishers) or "none"
    return f"{subscription.topic_name}: {offered}; requested {describe(subscription.qos_profile)}"


def message_type(subscription: Subscription) -> str:
    """The type of the subscription's messages, for example ``sensor_msgs/msg/Image``."""
    kind = subscription.msg_type
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _elsewhere(node: Node, topic: str, wanted: str) -> str:
    """The most similar topic of the wanted type that somebody publishes, as a hint."""
    own = {publisher.topic_name for publisher in node.publishers} | {topic}
    candidates = [
        name
        for name, types in node.get_topic_names_and_types()
        if wanted in types and name not in own and node.count_publishers(name)
    ]
    close = difflib.get_close_matches(topic, candidates, n=1, cutoff=0.3)
    return f" (there is one on {close[0]})" if close else ""
