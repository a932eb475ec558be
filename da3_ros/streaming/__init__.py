"""The sliding window of views on the device."""

from da3_ros.streaming.engine import StreamingDA3
from da3_ros.streaming.window import WindowConfig

__all__ = ["StreamingDA3", "WindowConfig"]
