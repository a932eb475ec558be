"""What came back from the device to Estimates, on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from da3_ros.config import PipelineConfig
from da3_ros.datatypes import (
    CameraOutput,
    Estimate,
    MapEstimate,
    PointBuffer,
    ScaleEstimate,
    TrackingEstimate,
    ViewEstimate,
    WindowView,
)
from da3_ros.geometry.image import ViewPlan
from da3_ros.streaming.timing import StageTimer
from da3_ros.streaming.transfer import Download
from da3_ros.tracking import TrackedStep

# A crop about the principal point that costs more of the image than this is worth a warning.
_LOST_CONTENT_WARNING = 0.25
_NO_SCALE = {
    "metric_model": "the metric network finds nothing to take the scale from (only sky?): no depth and no poses in "
    "this step",
    "rig": "the predicted poses do not show the distances between the cameras (one camera only, or /tf_static and the "
    "images contradict each other): no scale, no depth and no poses in this step",
    "odometry": "the predicted poses do not show how the cameras moved (one camera that stood still for the whole "
    "window, or odometry and the images contradict each other): no scale and no depth in this step",
}
# What each source of a tracked scale needs, for a user whose robot has not given it yet.
_WAITED_FOR = {
    "rig": "the distances between two cameras or more, from /tf_static and their common images",
    "odometry": "the robot's own odometry over some way",
    "range": "measured ranges that fall into an image",
    "metric_model": "the metric network finds nothing to take the scale from (only sky?)",
}


class PendingEstimate:
    """An estimate that the device may still be at work on; one other thread may ask for ``result``."""

    def __init__(self, download: Download, finish: Callable[[Mapping[str, np.ndarray]], Estimate]):
        self._download = download
        self._finish = finish
        # On the CPU it is there, in memory that the next step may use again.
        self._estimate = finish(download.wait()) if download.done is None else None

    def wait(self) -> None:
        """Wait until the device is done with this step. A failure of the device on the way is raised here."""
        self._download.wait()

    def result(self, spin: bool = False) -> Estimate:
        """The estimate, after ``wait``; to ``spin`` is for a thread that nobody else needs."""
        if self._estimate is None:
            self._estimate = self._finish(self._download.wait(spin))
        return self._estimate


@dataclass(frozen=True)
class StepRecord:
    """What the host knows of a step when it is submitted; the next steps and settings do not change it.

    ``dense``: indices into ``views`` of those of the newest set that have outputs; ``of_window``: of all that have maps
    of their own. ``plans``: of the views, by camera.
    """

    stamp_ns: int
    step: int
    views: tuple[WindowView, ...]
    dense: tuple[int, ...]
    of_window: tuple[int, ...]
    plans: Mapping[str, ViewPlan]
    points_frame_id: str
    config: PipelineConfig
    trained: bool
    tracked: Callable[[], TrackedStep] | None = None  # once the step's numbers are there
    mapping: MapEstimate | None = None

    def estimate(self, arrays: Mapping[str, np.ndarray], timer: StageTimer) -> Estimate:
        """Gather what came back from the device; ``arrays`` are those of ``assembly.assemble``."""
        tracked = None if self.tracked is None else self.tracked()
        if tracked is None:
            scale = _scale_estimate(arrays, self.config.scale_source)
        else:
            scale = _tracked_scale(tracked, self.config)
        unknown = scale.source != "none" and not math.isfinite(scale.metres_per_unit)  # see _NO_SCALE
        given = self.config.model.pose_conditioning == "odometry"  # poses that need no scale
        posed = "T_odom_cam" in arrays and (given or not unknown)
        # What there is of all views is turned into what an estimate has at once: the caller waits.
        poses = arrays["T_odom_cam"].astype(np.float64) if posed else [None] * len(self.views)
        reference = int(arrays["reference"]) if "reference" in arrays else None
        contents = [view.view.content for view in self.views]
        K = _crop_K(arrays["K"], contents)
        predicted = _crop_K(arrays["K_predicted"], contents) if "K_predicted" in arrays else [None] * len(self.views)
        views, outputs, of_window = [], [], []
        for index, view in enumerate(self.views):
            estimate = ViewEstimate(
                camera=view.camera,
                stamp_ns=view.stamp_ns,
                frame_id=view.frame_id,
                newest=view.newest,
                reference=index == reference,
                T_odom_cam=poses[index],
                size_hw=contents[index][2:],
                K=K[index],
                K_predicted=predicted[index],
                median_confidence=float(arrays.get(f"median/{index}", math.nan)),
            )
            views.append(estimate)
            if index in self.dense:
                outputs.append(_camera_output(estimate, arrays))
            if index in self.of_window:
                of_window.append(_window_output(index, estimate, arrays))
        base = arrays.get("T_odom_base") if posed else None
        merged = arrays.get("points") if posed and not unknown else None
        return Estimate(
            stamp_ns=self.stamp_ns,
            step=self.step,
            views=tuple(views),
            outputs=tuple(outputs),
            window_outputs=tuple(of_window),
            T_odom_base=None if base is None else base.astype(np.float64),
            scale=scale,
            merged_points=None
            if merged is None
            else PointBuffer(merged[:, : int(arrays["points_count"])], self.points_frame_id, dense=True),
            tracking=None if tracked is None else _tracking_estimate(tracked, not self.config.frames.publish_tf),
            mapping=self.mapping,
            warnings=self._warnings(views, unknown, {} if tracked is None else tracked.moved),
            timings_ms=timer.durations_ms(),
        )

    def _warnings(self, views: Sequence[ViewEstimate], unknown_scale: bool, moved: Mapping[str, str]) -> dict[str, str]:
        """What looks wrong about a camera, by name: no scale, a costly crop, a field of view that disagrees, a place
        on the robot (``moved``)."""
        warnings = {}
        for view in views:
            if not view.newest:
                continue
            plan = self.plans[view.camera]
            found = []
            if unknown_scale:
                found.append(_no_scale(self.config))
            if self.trained and view.camera in moved:
                found.append(moved[view.camera])
            # A rectified wide lens loses its rim on purpose (max_fov_deg).
            calibration = plan.calibration
            if calibration and not calibration.distorted and plan.lost_fraction > _LOST_CONTENT_WARNING:
                cx, cy = calibration.K[:2, 2]
                found.append(
                    f"{plan.lost_fraction:.0%} of the image lies outside the view about the principal point "
                    f"({cx:.0f}, {cy:.0f}): check CameraInfo"
                )
            if self.trained and plan.view.calibrated and view.K_predicted is not None:
                given, seen = (_fov_deg(K, view.size_hw[1]) for K in (view.K, view.K_predicted))
                if abs(seen / given - 1) * 100 > self.config.diagnostics.fov_tolerance_percent:
                    found.append(
                        f"CameraInfo gives {given:.0f} degrees of horizontal field of view, the network sees "
                        f"{seen:.0f}: check that CameraInfo belongs to these images"
                    )
            if found:
                warnings[view.camera] = "; ".join(found)
        return warnings


def _fov_deg(K: np.ndarray, width: int) -> float:
    return math.degrees(2 * math.atan(width / 2 / K[0, 0]))


def _crop_K(K: np.ndarray, contents: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """Intrinsics (N, 3, 3) float64 of the content rectangles from those of the canvas."""
    K = K.astype(np.float64)
    for matrix, (top, left, _, _) in zip(K, contents, strict=True):
        if top or left:
            matrix[:2, 2] -= left, top
    return K


def _scale_estimate(arrays: Mapping[str, np.ndarray], source: str) -> ScaleEstimate:
    if "metres_per_unit" not in arrays:
        return ScaleEstimate()
    return ScaleEstimate(source, float(arrays["metres_per_unit"]), float(arrays["metres_stddev"]))


def _tracked_scale(tracked: TrackedStep, config: PipelineConfig) -> ScaleEstimate:
    """Of a tracked window; where lengths must be metres and are not yet, NaN from the source that is waited for."""
    if tracked.source == "none":
        return ScaleEstimate(config.scale_sources[-1]) if config.scale_required else ScaleEstimate()
    return ScaleEstimate(tracked.source, tracked.report.metres_per_unit, tracked.report.scale_stddev)


def _tracking_estimate(tracked: TrackedStep, stands_back: bool) -> TrackingEstimate:
    report = tracked.report
    turns, shifts = np.linalg.norm(report.misfit.reshape(-1, 2, 3), axis=-1).T.tolist()
    cameras = [view.camera for view in tracked.newest]
    return TrackingEstimate(
        status=tracked.status,
        keyframe=tracked.keyframe,
        anew=tracked.anew,
        # Of lengths that are no metres nobody can say, and of the robot's own odometry the robot.
        covariance=tracked.covariance if report.metric and not stands_back else None,
        scale_sources=report.used,
        scale_jumped=report.jumped,
        scale_rejected=report.rejected,
        steady=report.steady,
        overlap=report.seen,
        misfit_rad=_known(cameras, turns),
        misfit_m=_known(cameras, shifts),
        moved=tracked.moved,
    )


def _known(cameras: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Camera -> value, of those that are known."""
    return {camera: value for camera, value in zip(cameras, values, strict=True) if math.isfinite(value)}


def _no_scale(config: PipelineConfig) -> str:
    """Why there are no lengths in this step."""
    if not config.tracks:
        return _NO_SCALE[config.scale_sources[0]]
    waited = "; or ".join(_WAITED_FOR[source] for source in config.scale_sources)
    return f"no metric scale yet, so no depth and no poses in this step: {waited}"


def _window_output(index: int, view: ViewEstimate, arrays: Mapping[str, np.ndarray]) -> CameraOutput:
    depth = arrays.get(f"window_depth/{index}")
    return CameraOutput(
        camera=view.camera,
        stamp_ns=view.stamp_ns,
        frame_id=view.frame_id,
        K=view.K if depth is None else arrays[f"window_K/{index}"].astype(np.float64),
        size_hw=view.size_hw if depth is None else (depth.shape[0], depth.shape[1]),
        depth=depth,
        confidence=arrays.get(f"window_confidence/{index}"),
    )


def _camera_output(view: ViewEstimate, arrays: Mapping[str, np.ndarray]) -> CameraOutput:
    depth, sky = arrays.get(f"depth/{view.camera}"), arrays.get(f"sky/{view.camera}")
    image = sky if depth is None else depth
    points = arrays.get(f"points/{view.camera}")
    return CameraOutput(
        camera=view.camera,
        stamp_ns=view.stamp_ns,
        frame_id=view.frame_id,
        K=view.K if image is None else arrays[f"image_K/{view.camera}"].astype(np.float64),
        size_hw=view.size_hw if image is None else (image.shape[0], image.shape[1]),
        depth=depth,
        confidence=arrays.get(f"confidence/{view.camera}"),
        points=None if points is None else PointBuffer(points, view.frame_id, dense=False),
        sky=sky,
        dynamic=arrays.get(f"dynamic/{view.camera}"),
    )
