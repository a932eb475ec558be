"""``message_filters``: subscriptions as the first link of a filter chain."""

try:
    from message_filters import SimpleFilter, Subscriber
except ImportError:
    from da3_ros.ros.compat._fallback.message_filters import SimpleFilter, Subscriber

__all__ = ["SimpleFilter", "Subscriber"]
