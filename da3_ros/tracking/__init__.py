"""From the window's own gauge to one continuous output frame."""

from da3_ros.tracking.gauge import anchor_window, invert_rigid
from da3_ros.tracking.keyframes import AnchorPolicy
from da3_ros.tracking.records import TRACKING, TrackedStep, TrackedView
from da3_ros.tracking.report import TrackReport
from da3_ros.tracking.scale_filter import ScaleFilter
from da3_ros.tracking.session import TrackingSettings, WindowTracking
from da3_ros.tracking.tracker import TrackedWindow, Tracker

__all__ = [
    "TRACKING",
    "AnchorPolicy",
    "ScaleFilter",
    "TrackReport",
    "TrackedStep",
    "TrackedView",
    "TrackedWindow",
    "Tracker",
    "TrackingSettings",
    "WindowTracking",
    "anchor_window",
    "invert_rigid",
]
