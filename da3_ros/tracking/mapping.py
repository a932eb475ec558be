"""Keyframes, loops and map of a drive: what the steps leave behind, and the correction from odom to map.

Called once for each step with what came back from the device. Everything in it is bounded: the keyframes, the work
of one step (one iteration of the solver, some keyframes of map, one look for a place), and the windows of the network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from da3_ros.datatypes import MapReport
from da3_ros.geometry.se3 import invert, rotation_angle
from da3_ros.tracking.keyframe_map import KeyframeMap
from da3_ros.tracking.keyframe_store import Keyframe, KeyframeStore, KeyframeView, encode_picture
from da3_ros.tracking.loop_agreement import LoopAgreement
from da3_ros.tracking.loop_closure import LoopPolicy
from da3_ros.tracking.loop_search import Look, LoopSearch, SearchSettings
from da3_ros.tracking.pose_graph import Constraint, PoseGraph
from da3_ros.tracking.similarity import rigid_part
from da3_ros.tracking.voxel_map import Cloud, VoxelMap

_NEAR_KEYFRAMES = 3  # of the way just behind, and as many of those that are near on the map, compared for the map
# Standard deviations of odometry between keyframes: of its length (which is in median depths), of its turn.
_SHARE_OF_LENGTH, _SHARE_OF_TURN = 0.01, 0.02
_LEAST_LENGTH, _LEAST_TURN_RAD = 0.002, 0.002
_SCALE_STDDEV = 0.002
_LOST_TURN_RAD, _LOST_LENGTH = 1.0, 3.0  # where the robot went while tracking was lost; the latter in median depths
# A correction of the scale by more in one step: what was seen before and after it is not compared pixel by pixel.
_LARGEST_GROWTH = 1.05


@dataclass(frozen=True)
class MappingSettings:
    """As ``loops.*`` and ``map.*``; ``window_views``: of the window across two places. ``keyframe_motion``:
    displacement over median depth, plus the turn in radians, from which on a set becomes a keyframe. ``waits``: for a
    window's verdict after ``delay`` steps, so that a recording gives the same map each time."""

    window_views: int
    loops: bool = True
    map: bool = True
    keyframes: int = 1000
    keyframe_motion: float = 0.15
    min_similarity: float = 0.4
    interval: int = 10
    delay: int = 10
    waits: bool = True
    voxel_m: float = 0.1
    max_voxels: int = 1_000_000
    tolerance: float = 0.15


@dataclass(frozen=True)
class StepView:
    """One view of the newest set, on the host; maps are of every so manieth pixel (h, w), with K (3, 3) of that grid.

    ``depth`` metres, NaN where there is none; ``weight`` 0 where it is not to be a part of the map; ``picture``
    (3, H, W) uint8 RGB, the network's, ``content`` of it being no padding.
    """

    camera: str
    T_odom_cam: np.ndarray
    K: np.ndarray
    content: tuple[int, int, int, int]
    depth: np.ndarray
    weight: np.ndarray
    colours: np.ndarray
    picture: np.ndarray


@dataclass(frozen=True)
class OdomChange:
    """What steps did to all that is remembered in odom: a place p has become growth p + shift.

    ``jumps``: how many of them have changed the scale much. ``lost``: nothing tells how the robot came from where it
    was before them to where it is after. ``anew``: one of them has begun odom anew, so that what was kept is useless.
    """

    growth: float = 1.0
    shift: np.ndarray = field(default_factory=lambda: np.zeros(3))
    jumps: int = 0
    lost: bool = False
    anew: bool = False

    @staticmethod
    def of(growth: float, shift: np.ndarray, anew: bool = False, lost: bool = False) -> OdomChange:
        """Of one step."""
        return OdomChange(growth, shift, int(not 1 / _LARGEST_GROWTH <= growth <= _LARGEST_GROWTH), lost, anew)

    def then(self, later: OdomChange) -> OdomChange:
        """Both, one after the other."""
        return OdomChange(
            self.growth * later.growth,
            later.growth * self.shift + later.shift,
            self.jumps + later.jumps,
            self.lost or later.lost,
            self.anew or later.anew,
        )


@dataclass(frozen=True)
class StepMaps:
    """What a step leaves behind. ``descriptors`` (C, D), see places; T_odom_body (4, 4); ``change`` since the step that
    was taken in before; ``view_variance``: by what single views of its window are off for each axis, turns (rad^2) and
    positions (m^2)."""

    stamp_ns: int
    T_odom_body: np.ndarray
    views: tuple[StepView, ...]
    descriptors: np.ndarray
    change: OdomChange = field(default_factory=OdomChange)
    view_variance: tuple[float, float] = (0.0, 0.0)


class Mapper:
    """``look`` as in LoopSearch. Raises UnavailableError where the solver is not installed. Not thread-safe."""

    def __init__(self, settings: MappingSettings, look: Look, policy: LoopPolicy | None = None):
        self._settings = settings
        self._look = look
        self._restarts = 0
        self._durations: dict[str, float] = {}
        self._policy = policy or LoopPolicy()
        self._start()

    def _start(self) -> None:
        settings = self._settings
        self._graph = PoseGraph(settings.loops)
        self._store = KeyframeStore(settings.keyframes)
        self._map = KeyframeMap(
            self._store, self._graph.pose, settings.voxel_m, settings.max_voxels, settings.tolerance
        )
        search = SearchSettings(
            settings.min_similarity, settings.interval, settings.delay, settings.window_views, settings.waits
        )
        self._search = LoopSearch(self._store, self._look, search, self._policy)
        self._agreement = LoopAgreement()
        self._steps = self._numbered = self._dropped = 0
        self._T_odom_last = np.eye(4)  # the newest keyframe's body, where odom has it now
        self._since = OdomChange()  # the newest keyframe
        self._jumps = 0
        self.T_map_odom = np.eye(4)

    def reset(self) -> None:
        """Forget everything, as after a backward clock jump."""
        self._search.close()
        self._start()

    def close(self) -> None:
        """Wait for what is under way beside the steps."""
        self._search.close()

    @property
    def map_version(self) -> int:
        """Grows whenever the map changes."""
        return self._map.version

    def cloud(self) -> Cloud:
        """The map, in the map frame."""
        return self.snapshot().cloud()

    @property
    def map_bytes(self) -> int:
        """Memory of the map in bytes."""
        return self._map.nbytes

    def snapshot(self) -> VoxelMap:
        """The map as it is now, for a thread that takes its time to make a cloud of it."""
        return self._map.snapshot()

    @property
    def keyframes_made(self) -> int:
        """Since the start, those included that were given up again."""
        return self._numbered

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """Those that are kept, in the order of the way."""
        return tuple(self._store)

    @property
    def loops(self) -> tuple[Constraint, ...]:
        """Those in the graph, between keyframes by number."""
        return self._graph.loops

    def keyframe_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (K,) int64 and rigid poses T_map_body (K, 4, 4) of the keyframes, as corrected by now."""
        stamps = np.array([keyframe.stamp_ns for keyframe in self._store], dtype=np.int64)
        poses = [rigid_part(self._graph.pose(keyframe.number)) for keyframe in self._store]
        return stamps, np.array(poses).reshape(-1, 4, 4)

    def step(self, maps: StepMaps | None) -> None:
        """Take in a step; None for one without poses or depth."""
        self._steps += 1
        if self._graph.busy:
            self._timed("solver", self._solve)
        if self._settings.map:
            self._timed("map", self._map.advance)
        if maps is not None:
            self._follow(maps.change)
            self._timed("keyframe", lambda: self._consider(maps))
        verdict = self._timed("search", lambda: self._search.step(self._steps)) if self._settings.loops else None
        if verdict is not None and verdict.constraint is not None:
            loops = self._agreement.admit(verdict.constraint, self._graph)
            self._graph.add_loops(loops)
            if loops and not self._graph.busy:
                self._timed("solver", self._graph.start)

    def report(self) -> MapReport:
        """Figures since the start."""
        refused = dict(self._search.reasons)
        if self._dropped:
            refused["contradicts other loops"] = self._dropped
        return MapReport(
            keyframes=len(self._store),
            keyframe_bytes=self._store.nbytes,
            windows=self._search.windows,
            loops=len(self._graph.loops),
            refused=refused,
            voxels=len(self._map),
            map_full=self._map.full,
            correction_m=float(np.linalg.norm(self.T_map_odom[:3, 3])),
            correction_rad=rotation_angle(self.T_map_odom),
            restarts=self._restarts,
            durations_ms=dict(self._durations),
        )

    def _solve(self) -> None:
        if not self._graph.advance():
            return
        self._dropped += len(self._graph.dropped)
        last = self._store.last
        assert last is not None
        self.T_map_odom = rigid_part(self._graph.pose(last.number)) @ invert(self._T_odom_last)
        if self._settings.map:
            self._map.correct()

    def _follow(self, change: OdomChange) -> None:
        """Take in what happened to odom."""
        if self._store.last is not None and change.anew:
            self._restarts += 1
            self.reset()
            return
        grown = self._T_odom_last.copy()
        grown[:3, 3] = change.growth * grown[:3, 3] + change.shift
        self._T_odom_last = grown
        self._since = self._since.then(change)
        self._jumps += change.jumps

    def _consider(self, maps: StepMaps) -> None:
        """Make the set a keyframe if it has moved enough since the last one."""
        depths = np.concatenate([view.depth[np.isfinite(view.depth)] for view in maps.views])
        if not len(depths):
            return
        median = float(np.median(depths))
        last, way, odometry = self._store.last, 0.0, None
        if last is not None:
            T = invert(self._T_odom_last) @ maps.T_odom_body
            length, turn = float(np.linalg.norm(T[:3, 3])) / median, rotation_angle(T)
            if length + turn < self._settings.keyframe_motion and not self._since.lost:
                return
            if self._since.lost:
                length, turn = max(length, _LOST_LENGTH / _SHARE_OF_LENGTH), max(turn, _LOST_TURN_RAD / _SHARE_OF_TURN)
            variance = _odometry_variance(length, turn, median, maps)
            # Whether what was kept or what comes was in wrong metres, loops will tell.
            variance[6] += np.log(self._since.growth) ** 2
            odometry = Constraint(last.number, self._numbered, T, variance)
            way = last.way + length + turn
        views = tuple(_keyframe_view(view) for view in maps.views)
        keyframe = Keyframe(
            self._numbered, maps.stamp_ns, maps.T_odom_body, median, way, views, maps.view_variance, self._jumps
        )
        self._numbered += 1
        self._T_odom_last, self._since = maps.T_odom_body, OdomChange()
        if odometry is None:
            self._graph.begin(keyframe.number, maps.T_odom_body)
        else:
            self._graph.extend(odometry)
        near = self._near(keyframe)
        self._store.add(keyframe)
        self._search.add(keyframe.number, maps.descriptors)
        if self._settings.map:
            self._map.add(keyframe, near)
        while not self._graph.busy and len(self._store) > self._settings.keyframes:
            redundant = self._store.redundant(self._graph.poses())
            assert redundant is not None
            if self._settings.map:
                self._map.remove(self._store[redundant])
            self._graph.remove(redundant)
            self._search.remove(redundant)
            self._store.remove(redundant)

    def _near(self, keyframe: Keyframe) -> Sequence[Keyframe]:
        """Keyframes that may show what this one shows: those just behind, and the nearest others on the map, none from
        before a jump of the scale."""
        kept = [other for other in self._store if other.jumps == keyframe.jumps]
        behind, older = kept[-_NEAR_KEYFRAMES:], kept[:-_NEAR_KEYFRAMES]
        here = self._graph.pose(keyframe.number)[:3, 3]
        reach = keyframe.median_depth
        if older:
            apart = np.linalg.norm(np.array([self._graph.pose(k.number)[:3, 3] for k in older]) - here, axis=-1)
            order = np.argsort(apart, kind="stable")[:_NEAR_KEYFRAMES]
            older = [older[index] for index in order if apart[index] < reach]
        return [*older, *reversed(behind)]

    def _timed(self, part: str, work: Callable):
        started = time.perf_counter()
        result = work()
        took = (time.perf_counter() - started) * 1e3
        self._durations[part] = max(took, self._durations.get(part, 0.0))
        return result


def _keyframe_view(view: StepView) -> KeyframeView:
    nothing = np.zeros(view.depth.shape, dtype=np.uint8)
    return KeyframeView(
        view.camera,
        view.T_odom_cam,
        view.K,
        (view.picture.shape[1], view.picture.shape[2]),
        view.content,
        encode_picture(view.picture),
        view.depth.astype(np.float16),
        view.weight.astype(np.float16),
        view.colours.copy(),
        nothing,
        nothing.copy(),
    )


def _odometry_variance(length: float, turn: float, median: float, maps: StepMaps) -> np.ndarray:
    """Of a way between keyframes. What single views are off is in a keyframe's pose, too, and in its scale, which hangs
    on distances between views: a network that is far off lets loops bend its way."""
    view_turn, view_shift = maps.view_variance
    rotation = (_SHARE_OF_TURN * turn + _LEAST_TURN_RAD) ** 2 + view_turn
    translation = (median * (_SHARE_OF_LENGTH * length + _LEAST_LENGTH)) ** 2 + view_shift
    return np.array([rotation] * 3 + [translation] * 3 + [_SCALE_STDDEV**2 + view_shift / median**2])
