"""The one door for images: plan every camera's view, make the network's input, bring depth back to the input's size.

A ``ViewPlan`` holds the sampling of the image and the intrinsics that follow from it, so the two cannot
disagree.
"""

from __future__ import annotations

from da3_ros.geometry.prepare import ImagePreparer
from da3_ros.geometry.upsample import depth_to_input_size
from da3_ros.geometry.views import ViewPlan, plan_views

__all__ = ["ImagePreparer", "ViewPlan", "depth_to_input_size", "plan_views"]
