"""Which views the sliding window holds and which slot of the device buffers each one has; bookkeeping only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from da3_ros.datatypes import WindowView
from da3_ros.errors import InputError


@dataclass(frozen=True)
class WindowConfig:
    """Shape of the sliding window and what is computed at each step.

    ``sets`` synchronized sets of up to ``cameras`` views each; the network runs at every ``stride``-th set.
    ``process_res``: longest (``lower_bound_*``: shortest) side of the network's images in pixels;
    ``process_res_method`` as in ``model.process_res_method``. ``ref_view`` as in ``model()``.
    ``max_fov_deg``: widest horizontal field of view of rectified views (degrees). ``metric_scale``: where a metric
    network is nested, find the scale (the sky is found in any case). ``pose_conditioning``: none, or rig, which tells
    the network where the cameras of its one set stand; with ``rig_scale`` the result is put onto the rig.
    """

    sets: int = 4
    cameras: int = 1
    stride: int = 1
    process_res: int = 504
    process_res_method: str = "upper_bound_resize"
    ref_view: str = "saddle_balanced"
    use_ray_pose: bool = False
    max_fov_deg: float = 110.0
    metric_scale: bool = True
    pose_conditioning: str = "none"
    rig_scale: bool = True

    def __post_init__(self) -> None:
        for name in ("sets", "cameras", "stride"):
            if getattr(self, name) < 1:
                raise InputError(f"WindowConfig.{name} must be at least 1, not {getattr(self, name)}")
        if self.stride > self.sets:
            raise InputError(f"WindowConfig.stride ({self.stride}) must not exceed sets ({self.sets})")
        if self.pose_conditioning == "rig" and self.sets != 1:
            raise InputError(
                f"WindowConfig.pose_conditioning is rig, which says nothing of how the robot moved between {self.sets} "
                "sets: set sets to 1"
            )

    @property
    def views(self) -> int:
        """Most views that the window can hold."""
        return self.sets * self.cameras


@dataclass(frozen=True)
class Slot:
    """A view of the window and the buffer row that holds its activations."""

    index: int
    view: WindowView


class SlidingWindow:
    """The newest sets, oldest first; rows of evicted sets are handed out again, so nothing is ever moved."""

    def __init__(self, sets: int, cameras: int):
        self._capacity = sets
        self._cameras = cameras
        self._sets: deque[tuple[Slot, ...]] = deque()
        self._free = list(range(sets * cameras))

    def push(self, views: Sequence[WindowView]) -> tuple[Slot, ...]:
        """Add one set as the newest, evict the oldest if the window is full; return the new views' slots.

        Raises InputError for an empty set or one with more views than the window has cameras.
        """
        if not 1 <= len(views) <= self._cameras:
            raise InputError(f"a frame set has {len(views)} views, but the window was made for 1 to {self._cameras}")
        if len(self._sets) == self._capacity:
            self._free.extend(slot.index for slot in self._sets.popleft())
        new = tuple(Slot(self._free.pop(), view) for view in views)
        self._sets.append(new)
        return new

    def slots(self) -> tuple[Slot, ...]:
        """All views, oldest set first."""
        return tuple(slot for frame_set in self._sets for slot in frame_set)

    def __len__(self) -> int:
        """Number of sets that the window holds."""
        return len(self._sets)
