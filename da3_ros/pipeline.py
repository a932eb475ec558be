"""Frame sets in, estimates out: the one data path that the live node and the offline replay both run.

FrameSet -> StreamingDA3 (window, network) -> WindowPrediction -> gauge in odom -> dense outputs -> Estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from da3_ros.config import RANDOM_CHECKPOINT, PipelineConfig, PointsConfig
from da3_ros.datatypes import (
    CameraOutput,
    Estimate,
    FrameSet,
    OutputRequest,
    PointBuffer,
    ScaleEstimate,
    ViewEstimate,
    WindowPrediction,
)
from da3_ros.geometry.se3 import T_BODY_OPTICAL
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.device import choose_device, choose_dtype, describe_device, set_cpu_threads
from da3_ros.streaming.loading import load_network
from da3_ros.streaming.outputs import (
    DenseView,
    crop_view,
    download,
    encode_depth,
    encode_sky,
    merge_points,
    pack_selected,
    resize_depth,
    select_points,
)
from da3_ros.streaming.timing import StageTimer
from da3_ros.tracking import anchor_window, invert_rigid

__all__ = ["Pipeline", "PipelineConfig"]

# A crop about the principal point that costs more of the image than this is worth a warning.
_LOST_CONTENT_WARNING = 0.25
_NO_SCALE = {
    "metric_model": "the metric network finds nothing to take the scale from (only sky?): no depth and no poses in "
    "this step",
    "rig": "the predicted poses do not show the distances between the cameras (one camera only, or /tf_static and the "
    "images contradict each other): no scale, no depth and no poses in this step",
}


@dataclass(frozen=True)
class _Window:
    """One network step, before it is an Estimate."""

    prediction: WindowPrediction
    T_odom_cam: torch.Tensor | None  # (N, 4, 4), on the device; None for networks without poses
    T_odom_base: torch.Tensor | None  # (4, 4), on the device; None when no camera's extrinsics are known
    K: torch.Tensor  # (N, 3, 3) in use, canvas pixels, OpenCV pixel centres, on the device
    K_predicted: torch.Tensor | None  # (N, 3, 3) likewise, from the network


class Pipeline:
    """Loads the network once; ``step`` then turns every frame set into an estimate. Not thread-safe.

    Raises ConfigError, WeightsError or UnavailableError when the configuration, the checkpoint or the machine do
    not allow it.
    """

    def __init__(self, config: PipelineConfig):
        config.validate()
        self.config = config
        self.device = choose_device(config.model.device)
        dtype = choose_dtype(config.model.dtype, self.device)
        if self.device.type == "cpu":
            set_cpu_threads(config.model.cpu_threads)
        self._trained = RANDOM_CHECKPOINT not in (config.model.checkpoint, config.model.metric_checkpoint)
        model, origin = load_network(config.model, self.device, dtype)
        self.description: dict[str, Any] = {
            "variant": config.model.variant,
            **origin,
            "scale": config.scale_source,
            "weights_trained": self._trained,
            "device": describe_device(self.device),
            "dtype": str(dtype).removeprefix("torch."),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        self._stream = StreamingDA3(
            model,
            WindowConfig(
                sets=config.window.sets,
                cameras=len(config.cameras),
                stride=config.window.stride,
                process_res=config.model.process_res,
                process_res_method=config.model.process_res_method,
                ref_view=config.model.ref_view,
                use_ray_pose=config.model.use_ray_pose,
                metric_scale=config.scale_source == "metric_model",
                pose_conditioning=config.model.pose_conditioning,
                rig_scale=config.scale_source == "rig",
            ),
            max_fov_deg={name: config.camera_config(name).max_fov_deg for name in config.cameras},
        )
        self._points = config.points
        self._T_base_cam: dict[str, np.ndarray] = {}
        self._steps = 0

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics: camera name -> (4, 4) T_base_cam in metres. Cameras left out are not known."""
        self._T_base_cam = dict(T_base_cam)
        self._stream.set_rig(T_base_cam)

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the network's images; known after the first step."""
        return self._stream.canvas_hw

    def update_points(self, points: PointsConfig) -> None:
        """Use other point cloud settings from the next step on."""
        self._points = points

    def reset(self) -> None:
        """Forget the window, as after a backward clock jump."""
        self._stream.reset()
        self._steps = 0

    def close(self) -> None:
        """Release the network and its buffers."""
        self._stream.close()

    def step(self, frame_set: FrameSet, request: OutputRequest) -> Estimate | None:
        """Push ``frame_set`` into the window and estimate; None when ``window.stride`` skips this set.

        Only the outputs in ``request`` are computed. Raises FrameError when a frame cannot be used.
        """
        timer = StageTimer(self.device)
        prediction = self._stream.step(frame_set, timer, dense=request.dense)
        if prediction is None:
            return None
        window = self._place(prediction)
        dense = self._dense_views(window, request)
        arrays = download(self._assemble(window, dense, request))
        timer.mark("output")
        self._steps += 1
        return self._estimate(frame_set.stamp_ns, window, dense, arrays, timer)

    def _place(self, prediction: WindowPrediction) -> _Window:
        """Poses in odom, in metres where there is a scale, and the intrinsics to use."""
        views = prediction.views
        calibrated_K = self._upload(np.stack([view.view.K for view in views]))
        if prediction.T_cam_world is None or prediction.K is None:
            return _Window(prediction, None, None, calibrated_K, None)
        T_cam_world = prediction.T_cam_world
        if prediction.metres_per_unit is not None:
            T_cam_world = T_cam_world.clone()
            T_cam_world[:, :3, 3] *= prediction.metres_per_unit
        T_odom_cam = anchor_window(T_cam_world, self._upload(self._T_base_cam.get(views[0].camera, T_BODY_OPTICAL)))
        T_odom_base = None
        newest = [index for index, view in enumerate(views) if view.newest]
        placed = [index for index in newest if views[index].camera in self._T_base_cam]
        if placed:
            index = max(placed, key=lambda placed_index: views[placed_index].stamp_ns)  # its stamp is the set's
            T_base_cam = self._T_base_cam[views[index].camera]
            T_odom_base = T_odom_cam[index] @ invert_rigid(self._upload(T_base_cam))
        # The network counts pixels from the image's corner, OpenCV and ROS from the first pixel's centre.
        K_predicted = prediction.K - self._upload(np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
        calibrated = self._upload(np.array([view.view.calibrated for view in views], dtype=np.float32))
        K = torch.where(calibrated[:, None, None] > 0, calibrated_K, K_predicted)
        return _Window(prediction, T_odom_cam, T_odom_base, K, K_predicted)

    def _upload(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(self.device, non_blocking=True)

    def _dense_views(self, window: _Window, request: OutputRequest) -> dict[int, DenseView]:
        """Cropped maps of the decoded views that somebody wants, by index into the window's views."""
        prediction = window.prediction
        wanted = request.depth | request.confidence | request.points | request.sky
        metres_per_unit = 1.0 if prediction.metres_per_unit is None else prediction.metres_per_unit
        dense = {}
        for row, index in enumerate(prediction.decoded):
            camera = prediction.views[index].camera
            if camera in wanted or request.merged_points:
                dense[index] = crop_view(
                    self._stream.plan(camera),
                    prediction.depth[row],
                    None if prediction.depth_conf is None else prediction.depth_conf[row],
                    prediction.colours[row],
                    None if prediction.sky is None else prediction.sky[row],
                    window.K[index],
                    metres_per_unit,
                )
        return dense

    def _assemble(
        self, window: _Window, dense: Mapping[int, DenseView], request: OutputRequest
    ) -> dict[str, torch.Tensor]:
        """Everything that goes to the host, on the device and in its final layout, by name."""
        prediction, publish = window.prediction, self.config.publish
        optional = {
            "T_odom_cam": window.T_odom_cam,
            "T_odom_base": window.T_odom_base,
            "K_predicted": window.K_predicted,
            "reference": prediction.reference_index,
            "metres_per_unit": prediction.metres_per_unit,
            "metres_stddev": prediction.metres_stddev,
        }
        out = {"K": window.K} | {name: tensor for name, tensor in optional.items() if tensor is not None}
        clouds, poses = [], []
        for index, view in dense.items():
            name = view.camera
            if view.confidence is not None:
                out[f"median/{index}"] = view.confidence.nanmedian()
                if name in request.confidence:
                    out[f"confidence/{name}"] = view.confidence.contiguous()
            if name in request.depth | request.sky:
                depth, K = resize_depth(view, self._stream.plan(name), publish.depth_resolution)
                out[f"image_K/{name}"] = K
                if name in request.depth:
                    out[f"depth/{name}"] = encode_depth(depth, publish.depth_encoding)
                if name in request.sky and prediction.sky is not None:
                    out[f"sky/{name}"] = encode_sky(depth)
            if name in request.points or request.merged_points:
                cloud = select_points(view, self._points)
                clouds.append(cloud)
                poses.append(self._T_merged_cam(window, index))
                if name in request.points:
                    out[f"points/{name}"] = pack_selected(cloud)
        known = [pose for pose in poses if pose is not None]
        if request.merged_points and clouds and len(known) == len(clouds):
            out["points"] = merge_points(clouds, known, self._points.voxel_m)
        return out

    def _T_merged_cam(self, window: _Window, index: int) -> torch.Tensor | None:
        """Pose of a view in the frame of the merged cloud; None without poses, or without the rig for the base."""
        if self._points.frame == "odom":
            return None if window.T_odom_cam is None else window.T_odom_cam[index]
        if window.T_odom_base is None or window.T_odom_cam is None:
            return None
        return invert_rigid(window.T_odom_base) @ window.T_odom_cam[index]

    def _estimate(
        self,
        stamp_ns: int,
        window: _Window,
        dense: Mapping[int, DenseView],
        arrays: Mapping[str, np.ndarray],
        timer: StageTimer,
    ) -> Estimate:
        """Gather what came back from the device."""
        scale = _scale_estimate(arrays, self.config.scale_source)
        unknown = scale.source != "none" and not math.isfinite(scale.metres_per_unit)  # see _NO_SCALE
        posed = "T_odom_cam" in arrays and not unknown
        views, outputs = [], []
        for index, view in enumerate(window.prediction.views):
            _, _, height, width = view.view.content
            estimate = ViewEstimate(
                camera=view.camera,
                stamp_ns=view.stamp_ns,
                frame_id=view.frame_id,
                newest=view.newest,
                reference="reference" in arrays and index == int(arrays["reference"]),
                T_odom_cam=arrays["T_odom_cam"][index].astype(np.float64) if posed else None,
                size_hw=(height, width),
                K=_crop_K(arrays["K"][index], view.view.content),
                K_predicted=_crop_K(arrays["K_predicted"][index], view.view.content)
                if "K_predicted" in arrays
                else None,
                median_confidence=float(arrays.get(f"median/{index}", math.nan)),
            )
            views.append(estimate)
            if index in dense:
                outputs.append(_camera_output(estimate, arrays))
        base = arrays.get("T_odom_base") if posed else None
        merged = arrays.get("points") if posed else None
        frames = self.config.frames
        return Estimate(
            stamp_ns=stamp_ns,
            step=self._steps,
            views=tuple(views),
            outputs=tuple(outputs),
            T_odom_base=None if base is None else base.astype(np.float64),
            scale=scale,
            merged_points=None
            if merged is None
            else PointBuffer(merged, frames.odom if self._points.frame == "odom" else frames.base, dense=True),
            warnings=self._warnings(views, unknown),
            timings_ms=timer.durations_ms(),
        )

    def _warnings(self, views: Sequence[ViewEstimate], unknown_scale: bool) -> dict[str, str]:
        """What looks wrong about a camera, by name: no scale, a costly crop, a field of view that disagrees."""
        warnings = {}
        for view in views:
            if not view.newest:
                continue
            plan = self._stream.plan(view.camera)
            found = []
            if unknown_scale:
                found.append(_NO_SCALE[self.config.scale_source])
            # A rectified wide lens loses its rim on purpose (max_fov_deg).
            calibration = plan.calibration
            if calibration and not calibration.distorted and plan.lost_fraction > _LOST_CONTENT_WARNING:
                cx, cy = calibration.K[:2, 2]
                found.append(
                    f"{plan.lost_fraction:.0%} of the image lies outside the view about the principal point "
                    f"({cx:.0f}, {cy:.0f}): check CameraInfo"
                )
            if self._trained and plan.view.calibrated and view.K_predicted is not None:
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


def _crop_K(K: np.ndarray, content: tuple[int, int, int, int]) -> np.ndarray:
    """Intrinsics (3, 3) float64 of the content rectangle from those of the canvas."""
    K = K.astype(np.float64)
    K[:2, 2] -= content[1], content[0]
    return K


def _scale_estimate(arrays: Mapping[str, np.ndarray], source: str) -> ScaleEstimate:
    if "metres_per_unit" not in arrays:
        return ScaleEstimate()
    return ScaleEstimate(source, float(arrays["metres_per_unit"]), float(arrays["metres_stddev"]))


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
    )
