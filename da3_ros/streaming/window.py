"""Which views the sliding window holds and which slot of the device buffers each one has; bookkeeping only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    network is nested, find the scale (the sky is found in any case). ``decode`` as in
    ``window.decode``. ``pose_conditioning``: none; rig, which tells the network where the cameras of
    its one set stand; or odometry, which tells it where those of all sets stood (each frame's ``T_odom_base``); with
    ``scale_from_cameras`` the result is put onto these poses. ``execution``, ``max_graphs`` and
    ``key_reduction`` as in ``model.execution`` and so on, ``skip_below`` as in ``window.skip_below``. ``relates``: most
    pictures that ``StreamingDA3.relate`` is asked about at once, for which there must be memory beside the steps.
    ``repeatable``: a run gives the same bytes as another one on the device, with kernels that are not the fastest.
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
    scale_from_cameras: bool = True
    decode: str = "newest"
    execution: str = "auto"
    max_graphs: int = 16
    key_reduction: int = 1
    skip_below: float = 0.0
    relates: int = 0
    repeatable: bool = False

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
        if self.decode not in ("newest", "all"):
            raise InputError(f"WindowConfig.decode must be newest or all, not {self.decode!r}")

    @property
    def views(self) -> int:
        """Most views that the window can hold."""
        return self.sets * self.cameras

    def decoded(self, views: int, new: int, older: bool = True) -> tuple[int, ...]:
        """Indices of the views to decode, of ``views`` in the window of which the last ``new`` are the newest set.

        Without ``older`` nobody wants other ones in this step.
        """
        return tuple(range(0 if older and self.decode == "all" else views - new, views))


@dataclass(frozen=True)
class Slot:
    """A view of the window and the buffer row that holds its activations."""

    index: int
    view: WindowView


class SlidingWindow:
    """Sets of views, oldest first; rows of evicted views are handed out again, so nothing is ever moved.

    Left to itself it holds the newest sets. A caller who names the views that leave can keep old ones, so that sets
    need not follow each other in time.
    """

    def __init__(self, sets: int, cameras: int):
        self._capacity = sets
        self._cameras = cameras
        self._sets: list[tuple[Slot, ...]] = []
        self._free = list(range(sets * cameras))

    def push(self, views: Sequence[WindowView], evict: Collection[Slot] | None = None) -> tuple[Slot, ...]:
        """Add one set as the newest and return its slots.

        ``evict``: the views that leave, as ``slots`` gives them; None: the oldest set if the window is full. Raises
        InputError, the window being as before, for an empty set, one with more views than the window has cameras,
        views that are not in the window, and where too few leave.
        """
        if not 1 <= len(views) <= self._cameras:
            raise InputError(f"a frame set has {len(views)} views, but the window was made for 1 to {self._cameras}")
        leaving = self._oldest(len(views)) if evict is None else {slot.index for slot in evict}
        held = {slot.index for slot in self.slots()}
        if not leaving <= held:
            raise InputError(f"views in rows {sorted(leaving - held)} cannot be evicted: the window does not hold them")
        if len(self._free) + len(leaving) < len(views):
            raise InputError(
                f"{len(views)} new views and the {len(held) - len(leaving)} that stay are more than the "
                f"{len(held) + len(self._free)} of the window: let more of them leave"
            )
        stay = (tuple(slot for slot in one if slot.index not in leaving) for one in self._sets)
        self._sets = [one for one in stay if one]
        self._free.extend(sorted(leaving))
        new = tuple(Slot(self._free.pop(), view) for view in views)
        self._sets.append(new)
        return new

    def _oldest(self, needed: int) -> set[int]:
        """Rows of the oldest sets, as many as must leave for another set of ``needed`` views."""
        leaving: set[int] = set()
        for number, one in enumerate(self._sets):
            if len(self._sets) - number < self._capacity and len(self._free) + len(leaving) >= needed:
                break
            leaving |= {slot.index for slot in one}
        return leaving

    def slots(self) -> tuple[Slot, ...]:
        """All views, oldest set first."""
        return tuple(slot for frame_set in self._sets for slot in frame_set)

    def __len__(self) -> int:
        """Number of sets of which the window holds views."""
        return len(self._sets)
