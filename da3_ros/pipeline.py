"""Frame sets in, estimates out: the one data path that the live node and the offline replay both run.

FrameSet -> StreamingDA3 (window, network) -> WindowPrediction -> Placement (one continuous frame) -> Outputs (dense,
packed) -> Download -> StepRecord -> Estimate. On CUDA ``submit`` only queues: the upload of one step, the network of
the one before it and the download of the one before that run at the same time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from da3_ros.assembly import Outputs, wanted_of_window, wanted_views
from da3_ros.config import RANDOM_CHECKPOINT, PipelineConfig, PointsConfig
from da3_ros.datatypes import CameraCalibration, Estimate, FrameSet, OutputRequest
from da3_ros.estimates import PendingEstimate, StepRecord
from da3_ros.placement import PlacedWindow, Placement
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.device import choose_device, choose_dtype, choose_execution, describe_device, set_cpu_threads
from da3_ros.streaming.loading import load_network
from da3_ros.streaming.timing import StageTimer
from da3_ros.tracking import AnchorPolicy, TrackingSettings, WindowTracking
from da3_ros.tracking.map_session import DynamicStep, MapSession
from da3_ros.tracking.mapping import Mapper, MappingSettings
from da3_ros.tracking.voxel_map import VoxelMap

__all__ = ["PendingEstimate", "Pipeline", "PipelineConfig"]


class Pipeline:
    """Loads the network once; ``step`` then turns every frame set into an estimate. Not thread-safe.

    ``submit`` does not wait for the device: whoever calls it bounds how many results are pending. ``live``: nor does it
    wait for keyframes, loops and map, which then depend on timing; else the same sets give the same map each time.
    ``repeatable``: the same sets give the same bytes in every run on the device, a little slower (kernels by rule).
    Without ``tracks`` every window stands for itself, in its own unit, whatever the configuration: the engine alone.

    Raises ConfigError, WeightsError or UnavailableError when the configuration, the checkpoint or the machine do
    not allow it.
    """

    def __init__(
        self, config: PipelineConfig, live: bool = False, tracks: bool = True, *, repeatable: bool = False
    ):
        config.validate()
        self.config = config
        self.device = choose_device(config.model.device)
        dtype = choose_dtype(config.model.dtype, self.device)
        # Not live, keyframes and map are made in this thread, of arrays too small to be shared out.
        set_cpu_threads(config.model.cpu_threads, self.device, 4 if live else 1)
        self._trained = RANDOM_CHECKPOINT not in (config.model.checkpoint, config.model.metric_checkpoint)
        window = WindowConfig(
            sets=config.window.sets,
            cameras=len(config.cameras),
            stride=config.window.stride,
            decode=config.window.decode,
            process_res=config.model.process_res,
            process_res_method=config.model.process_res_method,
            ref_view=config.model.ref_view,
            use_ray_pose=config.model.use_ray_pose,
            metric_scale="metric_model" in config.scale_sources,
            pose_conditioning=config.model.pose_conditioning,
            scale_from_cameras=not {"rig", "odometry"}.isdisjoint(config.scale_sources),
            execution=config.model.execution,
            max_graphs=config.model.max_graphs,
            key_reduction=config.model.key_reduction,
            skip_below=config.window.skip_below,
            relates=_related_views(config) if config.maps and config.loops.enabled else 0,
            repeatable=repeatable,
        )
        model, origin = load_network(config.model, self.device, dtype, window)
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
            window,
            max_fov_deg={name: config.camera_config(name).max_fov_deg for name in config.cameras},
        )
        graphs = choose_execution(config.model.execution, self.device) != "eager"
        settings, tracks = tracking_settings(config), tracks and config.tracks
        self._tracking = WindowTracking(settings, self.device) if tracks else None
        self._dynamic = DynamicStep(config.map.dynamic_tolerance, self.device, settings.execution) if tracks else None
        self._mapping = self._make_mapping(live) if tracks and config.maps else None
        self._placement = Placement(
            self.device, graphs, self._tracking, config.scale_required, stands_back=not config.frames.publish_tf
        )
        self._outputs = Outputs(self.device, graphs)
        self._points = config.points
        self._steps = 0

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics: camera name -> (4, 4) T_base_cam in metres. Cameras left out are not known."""
        self._placement.set_rig(T_base_cam)
        if self._tracking is not None:
            self._tracking.set_rig(T_base_cam)
        self._stream.set_rig(T_base_cam)

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the network's images; known after the first step."""
        return self._stream.canvas_hw

    @property
    def skipped(self) -> int:
        """Sets so far that ``window.skip_below`` left out."""
        return self._stream.skipped

    @property
    def warms_up(self) -> bool:
        """Whether steps are compiled or captured, so that the first one takes long without ``warm_up``."""
        return self._stream.warms_up

    def warm_up(self, calibrations: Mapping[str, CameraCalibration]) -> None:
        """Compile and capture the steps of a full window for images of these cameras, which are to be all of them.

        ``calibrations``: by camera name, each for the size of the camera's images. Takes seconds, or tens of seconds
        where this network was never compiled on this machine before. The window is empty afterwards; images of another
        size or calibration are planned for as they come. Raises ConfigError when the window does not fit the device's
        memory, FrameError for a calibration that cannot be used.
        """
        self._stream.warm_up({name: ((one.height, one.width), one) for name, one in calibrations.items()})

    def update_points(self, points: PointsConfig) -> None:
        """Use other point cloud settings from the next step on."""
        self._points = points

    def reset(self) -> None:
        """Forget the window, as after a backward clock jump."""
        self._stream.reset()
        if self._tracking is not None:
            self._tracking.reset()
        if self._dynamic is not None:
            self._dynamic.reset()
        if self._mapping is not None:
            self._mapping.reset()
        self._steps = 0

    def close(self) -> None:
        """Release the network and its buffers."""
        if self._mapping is not None:
            self._mapping.close()
        self._stream.close()

    def step(self, frame_set: FrameSet, request: OutputRequest) -> Estimate | None:
        """Push ``frame_set`` into the window and estimate; None when ``window.stride`` skips this set.

        Only the outputs in ``request`` are computed. Raises FrameError when a frame cannot be used.
        """
        pending = self.submit(frame_set, request)
        return None if pending is None else pending.result(spin=True)

    @torch.inference_mode()
    def submit(self, frame_set: FrameSet, request: OutputRequest) -> PendingEstimate | None:
        """As ``step``, but the estimate is still to come; a frame that cannot be used is refused here and now.

        Neither later steps nor ``reset`` or ``update_points`` change what it will be.
        """
        timer = StageTimer(self.device)
        tracking, dense, evict = self._tracking, request.dense, None
        if tracking is not None:
            # Depth carries the scale: what the tracker gives must not depend on who listens.
            dense, evict = True, tracking.leaving(self._stream.slots)
        whole = self._stream.step(
            frame_set, timer, dense=dense, older=request.of_window, evict=evict, entered=self._note
        )
        if whole is None:
            return None
        prediction = whole.of_newest()  # all that tracking, map and masks go by
        window = self._placement.place(prediction, frame_set.ranges, frame_set.ranges_frame)
        masks = self._mask(frame_set, window) if request.dynamic else None
        timer.mark("tracking")
        plans = {view.camera: self._stream.plan(view.camera) for view in whole.views}
        download = self._outputs.start(
            replace(window, dynamic=masks), whole, plans, request, self._points, self.config.publish
        )
        timer.mark("output", download.ready)
        timer.mark("download", download.done)
        if masks is None:  # nobody asked for them, so the frame does not wait for them
            masks = self._mask(frame_set, window)
        self._steps += 1
        pending = mapping = None
        if tracking is not None and window.tracked is not None:
            pending = tracking.submit(self._steps, frame_set.stamp_ns, prediction, window.tracked, download)
            if self._mapping is not None:
                assert masks is not None
                self._mapping.submit(pending, prediction, window.tracked, masks, request.map_points)
                mapping = self._mapping.estimate()
                timer.mark("mapping")
        frames = self.config.frames
        record = StepRecord(
            stamp_ns=frame_set.stamp_ns,
            step=self._steps,
            views=prediction.views,
            dense=wanted_views(prediction, request),
            of_window=wanted_of_window(whole, request),
            plans=plans,
            points_frame_id=frames.odom if self._points.frame == "odom" else frames.base,
            config=self.config,
            trained=self._trained,
            tracked=None if pending is None else pending.settle,
            mapping=mapping,
        )
        return PendingEstimate(download, functools.partial(record.estimate, timer=timer))

    def _mask(self, frame_set: FrameSet, window: PlacedWindow) -> torch.Tensor | None:
        """Masks (M, H, W) uint8 of what moves in the newest views, kept out of later alignments; None untracked."""
        if self._dynamic is None or self._tracking is None or window.tracked is None:
            return None
        dynamic = self._dynamic.step(frame_set.stamp_ns, window.prediction, window.K, window.tracked)
        self._tracking.exclude(dynamic)
        return self._dynamic.full_size(dynamic, *self.canvas_hw)

    def map_snapshot(self) -> Future[VoxelMap] | None:
        """The map as it is now, None without one; to be called by the thread that submits, waited for by any."""
        return self._mapping.snapshot() if self._mapping is not None and self.config.map.enabled else None

    @property
    def mapper(self) -> Mapper:
        """Keyframes, loops and map, for the thread that submits; not of a live pipeline, nor of one without a map."""
        assert self._mapping is not None
        return self._mapping.mapper

    def _make_mapping(self, live: bool) -> MapSession:
        config = self.config
        return MapSession(
            replace(mapping_settings(config), waits=not live),
            self._stream.relate,
            self.device,
            body=config.cameras[0],
            percentile=config.points.min_confidence_percentile,
            map_frame=config.frames.map,
            period_s=config.map.period_s,
        )

    def _note(self, frame_set: FrameSet) -> None:
        """``frame_set`` is in the window now."""
        if self._tracking is not None:
            self._tracking.note(frame_set)


def _related_views(config: PipelineConfig) -> int:
    """Of the network's window across two places."""
    return max(2, config.window.sets * len(config.cameras))


def mapping_settings(config: PipelineConfig) -> MappingSettings:
    """What ``config`` says of loops and map."""
    loops, map_ = config.loops, config.map
    return MappingSettings(
        window_views=_related_views(config),
        loops=loops.enabled,
        map=map_.enabled,
        keyframes=loops.keyframes,
        keyframe_motion=loops.keyframe_motion,
        min_similarity=loops.min_similarity,
        interval=loops.interval,
        delay=loops.delay,
        voxel_m=map_.voxel_m,
        max_voxels=map_.max_voxels,
        tolerance=map_.dynamic_tolerance,
    )


def tracking_settings(config: PipelineConfig) -> TrackingSettings:
    """What ``config`` says of tracking."""
    window, scale, diagnostics = config.window, config.scale, config.diagnostics
    return TrackingSettings(
        sources=config.scale_sources,
        sets=window.sets,
        cameras=len(config.cameras),
        time_constant_s=scale.time_constant_s,
        jump_after=scale.jump_after,
        policy=AnchorPolicy(window.keyframe_min_motion, window.keyframe_min_overlap, window.keyframe_recent),
        drift_angle_deg=diagnostics.extrinsics_angle_deg,
        drift_distance_m=diagnostics.extrinsics_distance_m,
        execution=choose_execution(config.model.execution, choose_device(config.model.device)),
        steadies=config.frames.publish_tf,
    )
