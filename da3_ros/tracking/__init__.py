"""From the window's own gauge to one continuous output frame."""

from da3_ros.tracking.gauge import anchor_window, invert_rigid
from da3_ros.tracking.scale_filter import ScaleFilter
from da3_ros.tracking.tracker import TrackedWindow, Tracker

__all__ = ["ScaleFilter", "TrackedWindow", "Tracker", "anchor_window", "invert_rigid"]
