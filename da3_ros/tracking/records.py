"""What tracking says of a step once its numbers are on the host: for estimates, keyframes, loops and the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from da3_ros.datatypes import View
from da3_ros.tracking.report import TrackReport


@dataclass(frozen=True)
class TrackedView:
    """One view of the window, in odom. Lengths are metres where the step's scale is metric, else odom's own unit.

    ``depth`` (h, w) float32 and ``weight`` (h, w) float32 >= 0 (confidence above its minimum, 0 where depth has no
    meaning) are coarse maps from when the view was new, their pixels being those of ``K_coarse``; ``feature`` (D,)
    float32 is the network's own summary of the image alone. All three are None for views that were never decoded, and
    for those from before odom started once more in another unit.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    newest: bool
    view: View
    T_odom_cam: np.ndarray  # (4, 4) float64
    K: np.ndarray  # (3, 3) float64 in use, pixels of the canvas
    K_coarse: np.ndarray  # (3, 3) float64, pixels of the coarse maps
    depth: np.ndarray | None = None
    weight: np.ndarray | None = None
    feature: np.ndarray | None = None


@dataclass(frozen=True)
class TrackedStep:
    """One step. ``keyframe``: the newest set shows the scene from elsewhere than the keyframes before it.

    ``status`` is one of TRACKING's keys. ``covariance`` (6, 6) of T_odom_base as in nav_msgs/Odometry, None where it
    is not known. ``source``: the strongest source of metres that was heard lately; "none" while lengths are odom's own
    unit. ``moved``: camera -> what its place on the robot is off by, see ExtrinsicsMonitor. ``anew``: what was
    remembered in odom before is of no use, since the rig or the first metres have come late. ``view_variance`` (2,): of
    the poses of single views for each axis, turns (rad^2) and positions (m^2), see ViewErrors.
    """

    step: int
    stamp_ns: int
    views: tuple[TrackedView, ...]
    T_odom_base: np.ndarray | None  # (4, 4)
    keyframe: bool
    status: str
    source: str
    report: TrackReport
    covariance: np.ndarray | None
    view_variance: np.ndarray
    moved: dict[str, str]
    anew: bool = False

    @property
    def newest(self) -> tuple[TrackedView, ...]:
        """Views of the newest set."""
        return tuple(view for view in self.views if view.newest)


# Status -> what it means. In those after "rotating" the scale is kept, or the pose is not to be relied on.
TRACKING = {
    "started": "the first window: its first set is odom's origin",
    "restarted": "the transforms of the cameras have come late: odom starts once more, laid onto the base",
    "scale_found": "the first metres: lengths before were in another unit; the base stays where it is in odom",
    "tracking": "the window is connected with the last one",
    "still": "the robot stands still",
    "rotating": "the cameras turn on the spot: poses show no distances, depth alone carries the scale",
    "no_overlap": "the newest set sees nothing of what the window saw before",
    "moving_objects": "much of the depth contradicts what was seen before",
    "textureless": "the newest images show almost nothing: the scale is kept",
    "scale_kept": "neither depth nor distances connect the scale of this window with the last one: it is kept",
    "bridged": "no view is shared with the last window: the robot's own odometry fills the gap",
    "no_base": "no camera of the newest set has a known place on the robot: the base's pose waits for one that has",
    "unusable": "the network's poses or intrinsics are not finite: the window says nothing and is left out",
    "lost": "no view is shared with the last window: where the robot went meanwhile is not known",
}
