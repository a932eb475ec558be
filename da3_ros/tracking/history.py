"""The host's side of tracking: steps taken in their order, whenever their numbers have come back from the device."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3_ros.datatypes import WindowView
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, invert, rotation_angle
from da3_ros.tracking.carried_camera import CarriedCamera
from da3_ros.tracking.extrinsics_monitor import ExtrinsicsMonitor
from da3_ros.tracking.keyframes import AnchorPolicy, SetGeometry
from da3_ros.tracking.odometry_covariance import OdometryCovariance
from da3_ros.tracking.pose_noise import ErrorGrowth
from da3_ros.tracking.records import TrackedStep, TrackedView
from da3_ros.tracking.repeated_errors import RepeatedErrors
from da3_ros.tracking.report import TrackReport
from da3_ros.tracking.scale_sources import SOURCES
from da3_ros.tracking.steady_motion import MotionNoise
from da3_ros.tracking.view_errors import ViewErrors
from da3_ros.tracking.window_scale import LEAST_TEXTURE, SHORTEST_BASELINE, thumbnail_grid

_log = logging.getLogger(__name__)

ViewKey = tuple[str, int]
_STILL = 0.002  # displacement over depth, plus radians, below which the robot stands
_FEWEST_SEEN = 0.05
_LEAST_STEADY = 0.7
_RECORDS = 4  # steps that are remembered for the choice of keyframes
# Of a pose that one shared view alone gives: nothing in the window tells its error.
_SINGLE_TURN, _SINGLE_SHIFT = 0.005, 0.01  # radians; metres per metre of depth
_UNPREDICTED = np.full(2, np.nan)


@dataclass
class PendingStep:
    """A step that was submitted; ``result`` is there once it was settled. ``sets``: stamp of each view's set.

    ``first`` and ``connected`` are what the host took for true, which did not know which windows had been usable.
    """

    history: TrackHistory
    step: int
    stamp_ns: int
    views: Sequence[WindowView]
    sets: Sequence[int]
    placed: Sequence[str]  # cameras of the newest set whose place on the robot is known
    first: bool
    connected: bool
    bridged: bool
    T_new_old: np.ndarray | None  # see TrackedWindow
    error_growth: float  # by which views counted, see pose_noise
    predicted: bool  # whether the body's last motion says anything of this one
    larger: np.ndarray  # (2, 2) by what squares of its innovations are larger than usual, see TrackedWindow
    canvas_hw: tuple[int, int]
    arrays: Callable[[], Mapping[str, np.ndarray]]  # waits for the device
    result: TrackedStep | None = None

    def settle(self) -> TrackedStep:
        """The result; all steps before it are settled first."""
        return self.history.settle(self)


@dataclass(frozen=True)
class _Settled:
    """A step for the choices that later ones make: ``sets``, the stamp of each view's set, which of them are keyframes,
    and by how much errors grow with motion, as far as it was known then."""

    result: TrackedStep
    sets: Sequence[int]
    keyframes: Mapping[int, bool]
    error_growth: float
    motion_noise: np.ndarray


class TrackHistory:
    """Settles steps in the order of their submission, from whichever thread asks first.

    ``time_constant_s``: for how long a source of scale is named after it was last heard; ``repeats``: whether
    windows are taken to repeat their errors, see RepeatedErrors.
    """

    def __init__(self, policy: AnchorPolicy, monitor: ExtrinsicsMonitor, time_constant_s: float, repeats: bool):
        self._policy, self._monitor = policy, monitor
        self._memory_ns = round(2e9 * max(time_constant_s, 0.5))
        self._lock = threading.Lock()
        self._pending: deque[PendingStep] = deque()
        self._settled: deque[_Settled] = deque(maxlen=_RECORDS)
        self._maps: dict[ViewKey, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {}
        self._keyframes: dict[int, bool] = {}  # stamp of a set -> whether it is a keyframe
        self._last_keyframe: SetGeometry | None = None
        self._time_constant_s = time_constant_s
        self._covariance, self._errors = OdometryCovariance(time_constant_s), ViewErrors()
        self._repeats, self._repeated = repeats, RepeatedErrors()
        self._growth, self._noise = ErrorGrowth(), MotionNoise()
        self._heard: dict[str, int] = {}  # source -> stamp at which it was last used
        self._camera = CarriedCamera()
        self._last: np.ndarray | None = None  # body pose
        self._based = self._metric = False  # whether the body was ever the base, and lengths were metres
        self._stamp_ns: int | None = None  # of the last usable window of this odom
        self._anew: np.ndarray | None = None  # T_new_old of which no usable window has told yet
        self._missed = False  # whether the last window was not usable

    def submit(self, pending: PendingStep) -> None:
        """Another step is under way."""
        with self._lock:
            self._pending.append(pending)

    def settle(self, pending: PendingStep) -> TrackedStep:
        """The result of ``pending``, all steps before it being settled first; waits for the device."""
        with self._lock:
            while pending.result is None:
                self._settle(self._pending.popleft())
        return pending.result

    def spoilt(self, step: int, stamps: Sequence[int]) -> int | None:
        """The set, of those by ``stamps`` in the window, that was new when the window of step ``step`` was not usable:
        its pictures may be why, and then no window is that holds them."""
        with self._lock:
            then = self._as_of(step)
        return None if then.result.report.usable or then.sets[-1] not in stamps else then.sets[-1]

    def leaving(self, step: int, stamps: Sequence[int]) -> int | None:
        """Which of the window's sets, by stamp, is to leave as of step number ``step``; None: nothing is known yet.

        ``stamps``: of the sets in the window, oldest first; those newer than that step stay.
        """
        with self._lock:
            # Of a window that was not usable nobody knows what it shows.
            seen = (one for one in self._settled if one.result.step <= step and one.result.report.usable)
            then = max(seen, key=lambda one: one.result.step, default=None)
            if then is None:
                return None
            # As it was then, whatever was settled since: when that happens depends on who asks for results.
            known = [stamp for stamp in stamps if stamp in then.sets]
            if not known:
                return None
            keyframes = [then.keyframes.get(stamp, False) for stamp in known]
            leaves = self._policy.ordinary(keyframes)
            if leaves is None:  # as seldom happens; what the sets show takes long to find
                views = list(zip(then.result.views, then.sets, strict=True))
                sets = [_geometry([view for view, of in views if of == stamp]) for stamp in known]
                leaves = self._policy.leaving(sets, keyframes)
            return known[leaves]

    def error_growth(self, step: int) -> float:
        """How errors grow with motion as of step number ``step``, whatever was settled since; see pose_noise."""
        with self._lock:
            return self._as_of(step).error_growth

    def motion_noise(self, step: int) -> np.ndarray:
        """(2, 2) as of step number ``step``, whatever was settled since; see MotionNoise."""
        with self._lock:
            return self._as_of(step).motion_noise

    def _as_of(self, step: int) -> _Settled:
        return next(one for one in self._settled if one.result.step == step)

    def _settle(self, pending: PendingStep) -> None:
        arrays = pending.arrays()
        report = TrackReport.of(arrays["track_report"], len(pending.views))
        self._begin(pending)
        if report.usable:
            first, connected = self._stamp_ns is None, bool(report.shared.any())
            predicted = pending.predicted and connected
            known = replace(pending, first=first, connected=connected, T_new_old=self._anew, predicted=predicted)
            record = self._take(known, arrays, report)
            self._stamp_ns, self._anew = pending.stamp_ns, None
        else:
            record = self._leave_out(pending, arrays, report)
        self._missed = not report.usable
        pending.result = record
        self._settled.append(_Settled(record, pending.sets, self._keyframes, self._growth.value, self._noise.value))

    def _begin(self, pending: PendingStep) -> None:
        """Odom starts, or starts once more, whether or not the window is usable."""
        T = pending.T_new_old
        if pending.first:
            self._stamp_ns = None
        if T is None:
            return
        self._anew = T
        # As the device does it (realigned): without metres no lever of the rig has a length.
        T = T_from(T[:3, :3], T[:3, 3] * self._metric)
        self._last_keyframe = None
        if self._last is None or np.isnan(T).any():
            self._covariance, self._errors = OdometryCovariance(self._time_constant_s), ViewErrors()
            self._repeated, self._noise = RepeatedErrors(), MotionNoise()
        else:  # from the camera's place to that of the base: T is also that of the camera's body in it
            last = T @ self._last @ invert(T @ T_BODY_OPTICAL)
            self._covariance.realign(T[:3, :3], last[:3, 3])
            self._repeated.realign(T[:3, :3], last)

    def _leave_out(self, pending: PendingStep, arrays: Mapping[str, np.ndarray], report: TrackReport) -> TrackedStep:
        """A window that says nothing, and of which nothing is learnt."""
        return TrackedStep(
            step=pending.step,
            stamp_ns=pending.stamp_ns,
            views=self._views(pending, arrays),
            T_odom_base=None,
            keyframe=False,
            status="unusable",
            source=self._source(pending.stamp_ns) if self._metric else "none",
            report=report,
            covariance=None,
            view_variance=self._errors.views,
            moved={},
        )

    def _take(self, pending: PendingStep, arrays: Mapping[str, np.ndarray], report: TrackReport) -> TrackedStep:
        """A usable window; ``pending`` as it is now known to be."""
        # Views count by the inverse squares of their errors, as the step has counted them.
        worth = 1 / (1 + pending.error_growth * report.motion)
        off = np.square(report.angle) + np.square(report.distance / max(report.median_depth, 1e-9))
        self._growth.learn(report.motion, off, report.shared * worth)
        larger = pending.larger[int(self._missed)]
        innovation = report.innovation / larger if pending.predicted else _UNPREDICTED
        self._noise.enlarge(report.growth)
        self._noise.learn(report.angle, report.distance, report.shared * worth, innovation)
        self._keep_maps(pending, arrays, report.growth)
        views = self._views(pending, arrays)
        T_odom_base = arrays["T_odom_base"].astype(np.float64) if "T_odom_base" in arrays else None
        body = self._body(views, T_odom_base, report)
        # Which sets are keyframes goes by where they are kept, so that it does not hang on what is told of it.
        T_kept_told = invert(report.T_told_kept)
        newest = _geometry([replace(v, T_odom_cam=T_kept_told @ v.T_odom_cam) for v in views if v.newest])
        keyframe = self._last_keyframe is None or self._policy.elsewhere(self._last_keyframe, newest)
        if keyframe:
            self._last_keyframe = newest
        flags = {**self._keyframes, pending.sets[-1]: keyframe}
        self._keyframes = {stamp: flag for stamp, flag in flags.items() if stamp in set(pending.sets)}
        status = self._status(pending, report, body)
        found = report.metric and not self._metric and not pending.first
        if found:
            self._noise = MotionNoise()
        self._tell(pending, report, found)
        for source in report.used:
            self._heard[source] = pending.stamp_ns
        record = TrackedStep(
            step=pending.step,
            stamp_ns=pending.stamp_ns,
            views=views,
            T_odom_base=T_odom_base,
            keyframe=keyframe,
            status=status,
            source=self._source(pending.stamp_ns) if report.metric else "none",
            report=report,
            covariance=self._uncertainty(pending, report, body, views, worth),
            view_variance=self._errors.views,
            moved=self._moved(pending, report),
            anew=found or pending.T_new_old is not None,
        )
        self._last = body
        self._based, self._metric = self._based or T_odom_base is not None, report.metric
        return record

    def _keep_maps(self, pending: PendingStep, arrays: Mapping[str, np.ndarray], growth: float) -> None:
        """Coarse maps of the newest views are new, and those of older ones are remembered."""
        shape = _coarse_shape(*pending.canvas_hw)
        first_new = len(pending.views) - len(arrays["track_depth"])
        keys = [(view.camera, view.stamp_ns) for view in pending.views]
        # The device's memory follows corrections of the scale (window_program), and so do these copies. Where odom
        # starts without what was there before, it has nothing of older views: their maps are in a unit that is gone.
        kept = {} if pending.first else {key: maps for key, maps in self._maps.items() if key in set(keys)}
        self._maps = {key: (maps[0] * np.float32(growth), *maps[1:]) for key, maps in kept.items()}
        features = arrays.get("track_features")
        for row, key in enumerate(keys[first_new:]):
            depth, weight = (arrays[name][row].reshape(shape).copy() for name in ("track_depth", "track_weight"))
            self._maps[key] = depth, weight, None if features is None else features[row].astype(np.float32)

    def _views(self, pending: PendingStep, arrays: Mapping[str, np.ndarray]) -> tuple[TrackedView, ...]:
        """The window's views, with the maps that are kept of them."""
        rows, columns = thumbnail_grid(*pending.canvas_hw)
        T_odom_cam, K = arrays["T_odom_cam"].astype(np.float64), arrays["K"].astype(np.float64)
        K_coarse = K.copy()
        K_coarse[:, :2, 2] -= columns.start, rows.start
        K_coarse[:, :2] /= rows.step
        return tuple(
            TrackedView(
                view.camera, view.stamp_ns, view.frame_id, view.newest, view.view, *found,
                *self._maps.get((view.camera, view.stamp_ns), (None, None, None)),
            )
            for view, *found in zip(pending.views, T_odom_cam, K, K_coarse, strict=True)
        )  # fmt: skip

    def _body(
        self, views: Sequence[TrackedView], T_odom_base: np.ndarray | None, report: TrackReport
    ) -> np.ndarray:
        """T_odom_body (4, 4): of the base, as last seen; without a rig of a camera."""
        if T_odom_base is not None:
            return T_odom_base
        if self._based and self._last is not None:
            return self._last
        newest = {view.camera: view.T_odom_cam for view in views if view.newest}
        return self._camera.step(newest, report.growth, report.shift)

    def _tell(self, pending: PendingStep, report: TrackReport, found: bool) -> None:
        """Log what happens once to odom as a whole; ``found``: the first metres."""
        at_s, anew = pending.stamp_ns / 1e9, "path, keyframes, loops and map start anew"
        if pending.T_new_old is not None:
            how = "as if they had been there from the beginning"
            if pending.first:
                how = "at the base, since the camera that it began with is not among them"
            text = (
                "the transforms of cameras %s have come after the first window: odom starts once more at %.3f s, %s; %s"
            )
            _log.warning(text, ", ".join(pending.placed), at_s, how, anew)
        if found:
            text = "the first metres, from %s: from %.3f s on odom is in metres and no more in a unit of its own; %s"
            _log.warning(text, " and ".join(report.used), at_s, f"the base stays where it is, {anew}")

    def _status(self, pending: PendingStep, report: TrackReport, body: np.ndarray) -> str:
        """The most serious of what applies, see TRACKING."""
        if pending.T_new_old is not None:
            return "restarted"
        if pending.first:
            return "started"
        if not pending.connected:
            return "bridged" if pending.bridged else "lost"
        if report.metric and not self._metric:
            return "scale_found"
        if self._based and not pending.placed:
            return "no_base"
        if report.texture < LEAST_TEXTURE:
            return "textureless"
        if report.seen < _FEWEST_SEEN:
            return "no_overlap"
        if not report.carried:
            return "scale_kept"
        if report.steady < _LEAST_STEADY:
            return "moving_objects"
        assert self._last is not None
        shift = float(np.linalg.norm(body[:3, 3] - self._last[:3, 3])) / max(report.median_depth, 1e-6)
        turn = rotation_angle(self._last[:3, :3].T @ body[:3, :3])
        if shift + turn < _STILL:
            return "still"
        return "rotating" if report.baseline < SHORTEST_BASELINE and turn > shift else "tracking"

    def _source(self, stamp_ns: int) -> str:
        """The strongest source that was heard lately, else the one that was heard last."""
        lately = self._heard_lately(stamp_ns)
        return lately[0] if lately else max(self._heard, key=lambda source: self._heard[source])

    def _heard_lately(self, stamp_ns: int) -> list[str]:
        """Sources of metres, the strongest first."""
        return [source for source in SOURCES if stamp_ns - self._heard.get(source, -(2**62)) <= self._memory_ns]

    def _uncertainty(
        self,
        pending: PendingStep,
        report: TrackReport,
        body: np.ndarray,
        views: Sequence[TrackedView],
        worth: np.ndarray,
    ) -> np.ndarray | None:
        """Covariance (6, 6), None from the moment on from which nobody knows where the robot is."""
        if not (pending.first or pending.connected or pending.bridged):
            self._covariance.lose()
        found = report.metric and not self._metric
        if found:  # the way before was not in metres; what single views are off by is what it was
            self._covariance.start()
            self._repeated.start()
            self._errors.enlarge(report.growth)
        old, new = (
            np.array([view.T_odom_cam[:3, 3] for view in views if view.newest == newest]) for newest in (False, True)
        )
        # The window's own error of scale, which later windows do not inherit.
        scale = max(report.scale_variance - report.frame_scale_variance, 0.0) if report.metric else 0.0
        (rotation, translation), (own_rotation, own_translation), learnt = self._errors.step(
            [(view.camera, view.stamp_ns) for view in views],
            len(new),
            pending.connected,
            report.metric and len(pending.placed) > 1,
            report.view_variance,
            np.array([_SINGLE_TURN**2, (_SINGLE_SHIFT * report.median_depth) ** 2]),
            worth,
        )
        if found:
            self._errors.count_from_here()
            rotation = translation = own_rotation = own_translation = 0.0
        self._covariance.revise(*learnt)
        own = np.diag([own_translation] * 3 + [own_rotation] * 3)
        if len(old):
            apart = new.mean(0) - old.mean(0)
            own[:3, :3] += scale * np.outer(apart, apart)
        elapsed_s = 0.0 if self._stamp_ns is None else (pending.stamp_ns - self._stamp_ns) / 1e9
        frame_variance = report.frame_scale_variance if report.metric else 0.0
        covariance = self._covariance.step(body, elapsed_s, rotation, translation, frame_variance, own)
        spread = _spread([view.T_odom_cam[:3, 3] for view in views if view.newest and view.camera in pending.placed])
        by_rig = self._heard_lately(pending.stamp_ns) == ["rig"] and spread > 0
        repeated = self._repeated.step(body, report.median_depth, self._errors.found, spread if by_rig else math.inf)
        return covariance if covariance is None or not self._repeats else covariance + repeated

    def _moved(self, pending: PendingStep, report: TrackReport) -> dict[str, str]:
        newest = [view for view in pending.views if view.newest]
        placed = [index for index, view in enumerate(newest) if view.camera in pending.placed]
        if len(placed) > 1 and report.metric:
            for index in placed:
                self._monitor.update(newest[index].camera, report.misfit[index])
        return {camera: drift.text(camera) for camera, drift in self._monitor.moved().items()}

    def forget_rig(self) -> None:
        """The extrinsics were published anew."""
        with self._lock:
            self._monitor.reset()


def _coarse_shape(height: int, width: int) -> tuple[int, int]:
    rows, columns = thumbnail_grid(height, width)
    return len(range(height)[rows]), len(range(width)[columns])


def _geometry(views: Sequence[TrackedView]) -> SetGeometry:
    """Of one set; its body is its first camera, since only differences count."""
    return SetGeometry(
        T_odom_body=views[0].T_odom_cam,
        points=np.concatenate([_points(view) for view in views]),
        T_odom_cam=np.stack([view.T_odom_cam for view in views]),
        fov=np.stack([_half_fov(view) for view in views]),
    )


def _spread(places: Sequence[np.ndarray]) -> float:
    """Sum of the squares by which places (3,) are apart from their middle; 0 of none."""
    return float(np.square(np.stack(places) - np.mean(places, axis=0)).sum()) if places else 0.0


def _points(view: TrackedView, stride: int = 4) -> np.ndarray:
    """(K, 3) in odom of its coarse depth; none without depth."""
    if view.depth is None or view.weight is None:
        return np.empty((0, 3))
    # Twelve views of every step pass here, with the interpreter's lock held: slices, and no index arrays.
    z = np.where(view.weight[::stride, ::stride] > 0, view.depth[::stride, ::stride], np.nan)
    fx, fy, cx, cy = view.K_coarse[(0, 1, 0, 1), (0, 1, 2, 2)]
    x, y = (stride * np.arange(z.shape[1]) - cx) / fx, (stride * np.arange(z.shape[0]) - cy) / fy
    in_camera = np.empty((*z.shape, 3))
    in_camera[..., 0], in_camera[..., 1], in_camera[..., 2] = z * x, z * y[:, None], z
    return in_camera.reshape(-1, 3) @ view.T_odom_cam[:3, :3].T + view.T_odom_cam[:3, 3]


def _half_fov(view: TrackedView) -> np.ndarray:
    _, _, height, width = view.view.content
    return np.array([width / 2 / view.K[0, 0], height / 2 / view.K[1, 1]])
