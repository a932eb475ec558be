"""Quality of service: subscribe best effort, publish reliable (REP 2003), both overridable by parameters.

The standard parameters ``qos_overrides.<topic>.<publisher|subscription>.<policy>`` set history, depth, reliability
and durability.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from da3_ros.errors import ConfigError
from da3_ros.ros.compat.message_filters import Subscriber

_DEPTH = 5


def subscription_profile() -> QoSProfile:
    """Best effort, volatile, the last five: matches every camera driver and never blocks one."""
    return _profile(ReliabilityPolicy.BEST_EFFORT)


def publication_profile(messages: int = 1) -> QoSProfile:
    """Reliable, volatile, the last five, or as many ``messages`` as are sent at once: matches every subscriber."""
    return _profile(ReliabilityPolicy.RELIABLE, max(_DEPTH, messages))


def latched_profile() -> QoSProfile:
    """Reliable, and the last message for those who subscribe later."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def _profile(reliability: ReliabilityPolicy, depth: int = _DEPTH) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """The policies that ``qos_overrides`` parameters may set."""
    return QoSOverridingOptions(
        (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
    )


@contextmanager
def clear_topic_errors(node: Node, topic: str) -> Iterator[None]:
    """Turn what rclpy raises for an unusable topic name or ``qos_overrides`` value into a ConfigError."""
    try:
        yield
    except NameValidationException as error:
        raise ConfigError(f"'{topic}' cannot be a topic: {' '.join(str(error).split())}") from error
    except (ParameterException, InvalidQosOverridesError, RuntimeError, AssertionError, ValueError) as error:
        name = node.resolve_topic_name(topic)
        raise ConfigError(
            f"the topic '{name}' cannot be set up: {error or 'a value has the wrong type'}; check the parameters "
            f"qos_overrides.{name}.*"
        ) from error


def subscriber(node: Node, message_type: type, topic: str, **options: Any) -> Subscriber:
    """A filter whose output is each message of ``topic``, with ``subscription_profile``, overridable.

    ``options`` go to ``Node.create_subscription``. Raises ConfigError as ``clear_topic_errors``.
    """
    with clear_topic_errors(node, topic):
        return Subscriber(
            node,
            message_type,
            topic,
            qos_profile=subscription_profile(),
            qos_overriding_options=overridable(),
            **options,
        )


_POLICY_VALUES = {"history": HistoryPolicy, "reliability": ReliabilityPolicy, "durability": DurabilityPolicy}


def check_overrides(overrides: Mapping[str, Parameter]) -> None:
    """Raise ConfigError for ``qos_overrides.*`` values that no policy has, all of them in one sentence.

    The cameras' topics are set up later; a bad value must be said, and mended, before the model is loaded.
    """
    problems = []
    for name, parameter in overrides.items():
        if not name.startswith("qos_overrides."):
            continue
        policy, value = name.rpartition(".")[2], parameter.value
        if policy in _POLICY_VALUES:
            known = [member.name.lower() for member in _POLICY_VALUES[policy] if member.name != "UNKNOWN"]
            if value not in known:
                problems.append(f"{name} must be one of {', '.join(known)}, not {value!r}")
        elif policy == "depth" and (not isinstance(value, int) or value < 1):
            problems.append(f"{name} must be a whole number from 1 on, not {value!r}")
    if problems:
        raise ConfigError("; ".join(problems))


def unused_overrides(overrides: Iterable[str], node: Node) -> list[str]:
    """Names among ``overrides`` that start with ``qos_overrides.`` and belong to no topic of ``node``."""
    topics = {f"qos_overrides.{publisher.topic_name}.publisher." for publisher in node.publishers}
    topics |= {f"qos_overrides.{subscription.topic_name}.subscription." for subscription in node.subscriptions}
    return [name for name in overrides if name.startswith("qos_overrides.") and not name.startswith(tuple(topics))]


def describe(profile: QoSProfile) -> str:
    """The policies that decide about compatibility, for example ``best_effort, volatile``."""
    return f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"
