"""``tf2_ros``: the transform buffer, its listener and the broadcasters."""

try:
    from tf2_ros import (
        Buffer,
        ConnectivityException,
        ExtrapolationException,
        InvalidArgumentException,
        LookupException,
        StaticTransformBroadcaster,
        TransformBroadcaster,
        TransformException,
        TransformListener,
    )
except ImportError:
    from da3_ros.ros.compat._fallback.tf2_buffer import Buffer
    from da3_ros.ros.compat._fallback.tf2_errors import (
        ConnectivityException,
        ExtrapolationException,
        InvalidArgumentException,
        LookupException,
        TransformException,
    )
    from da3_ros.ros.compat._fallback.tf2_topics import (
        StaticTransformBroadcaster,
        TransformBroadcaster,
        TransformListener,
    )

__all__ = [
    "Buffer",
    "ConnectivityException",
    "ExtrapolationException",
    "InvalidArgumentException",
    "LookupException",
    "StaticTransformBroadcaster",
    "TransformBroadcaster",
    "TransformException",
    "TransformListener",
]
