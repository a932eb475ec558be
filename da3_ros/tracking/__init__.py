"""From the window's own gauge to the output frame."""

from da3_ros.tracking.gauge import anchor_window, invert_rigid

__all__ = ["anchor_window", "invert_rigid"]
