"""Everything that exists while the node is configured; activating adds the cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode

from da3_ros.config import Config
from da3_ros.datatypes import Estimate, FrameSet
from da3_ros.errors import FrameError, UnavailableError
from da3_ros.ingest.frame_sets import NO_INFO, Decoder, gpu_jpeg_decoder
from da3_ros.ingest.sync import ClockJump
from da3_ros.ros.active import ActiveCameras
from da3_ros.ros.camera_infos import await_calibrations
from da3_ros.ros.decode import cv_bridge_converter
from da3_ros.ros.diagnostics import Diagnostics
from da3_ros.ros.engine import Engine, EngineHooks, ImageSet, StepPipeline
from da3_ros.ros.findings import Sources
from da3_ros.ros.intake import Intake
from da3_ros.ros.log import Throttle
from da3_ros.ros.publishers import EstimatePublishers
from da3_ros.ros.qos import unused_overrides
from da3_ros.ros.ranges import RangeSubscription
from da3_ros.ros.stats import Stats
from da3_ros.ros.tf import Rig, RobotOdometry, TfOutput
from da3_ros.tracking.cloud_file import write_cloud

_WARN_PERIOD_S = 5.0
_MAP_TIMEOUT_S = 10.0  # that saving the map waits for the step in work
_INFO_TIMEOUT_S = 3.0  # that configuring waits for the cameras; discovery takes DDS up to a second
_CLOSE_TIMEOUT_S = 10.0  # after a warm-up that failed


class Session:
    """Loads the model, warms it up and makes the publishers; ``activate`` and ``start`` then let images in.

    ``fail`` gets exceptions of the worker threads. Raises Da3Error when the configuration does not work out.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: Config,
        make_pipeline: Callable[[Config], StepPipeline],
        fail: Callable[[BaseException], None],
    ):
        self._node = node
        self._config = config
        self._fail = fail
        self._throttle = Throttle(_WARN_PERIOD_S)
        self._stats = Stats(config.cameras)
        self._active: ActiveCameras | None = None
        with ExitStack() as undo:
            self._publishers = EstimatePublishers(node, config)
            undo.callback(self._publishers.close)
            self._intake = Intake(node, fail)  # of transforms and odometry
            self._rig = Rig(node, config, self._intake, self._warn)
            undo.callback(self._rig.close)
            self._odometry = (
                RobotOdometry(
                    node, self._rig.buffer, config, self._frame_dropped, self._odometry_refused, self._intake
                )
                if config.uses_odometry
                else None
            )
            if self._odometry is not None:
                undo.callback(self._odometry.close)
            self._ranges = (
                RangeSubscription(node, self._rig.buffer, config, self._warn)
                if "range" in config.scale_sources
                else None
            )
            if self._ranges is not None:
                undo.callback(self._ranges.close)
            undo.callback(self._intake.close)
            self._intake.start()
            self._tf = TfOutput(node, config)
            self._decoder = Decoder(config, self._frame_dropped, cv_bridge_converter, gpu_jpeg_decoder(config))
            hooks = EngineHooks(
                decode=self._decode,
                request=self._publishers.request,
                rig=self._rig.update,
                publish=self._publish,
                dropped=self._frame_dropped,
                failed=fail,
            )
            self._engine = Engine(config, make_pipeline, hooks, self._stats)
            undo.callback(self._engine.close, _CLOSE_TIMEOUT_S)
            self._warm_up()
            undo.pop_all()
        sources = Sources(
            config, self._stats, self._engine.description, lambda: self._active, self._publishers.listened
        )
        self._diagnostics = Diagnostics(node, config, sources)
        details = ", ".join(f"{key} {value}" for key, value in self._engine.description.items())
        node.get_logger().info(f"configured for {', '.join(config.cameras)}: {details}")

    def activate(self, overrides: Mapping[str, Any]) -> None:
        """Subscribe to the cameras; nothing comes before ``start``.

        ``overrides``: parameter overrides by name, to find QoS ones without effect.

        Raises ConfigError for topics and QoS overrides that cannot be used.
        """
        self._active = ActiveCameras(
            self._node,
            self._config,
            self._stats,
            self._rig,
            submit=self._submit,
            on_jump=self._on_jump,
            dropped=self._frame_dropped,
            failed=self._fail,
        )
        self._decoder.use(self._active.subscriptions.info)
        self._rig.forget()
        self._engine.reset(self._publishers.forget_path)
        self._tf.announce()
        for name in unused_overrides(overrides, self._node):
            self._node.get_logger().warning(f"the parameter {name} has no effect: the node has no such topic")

    def start(self) -> None:
        """Let images in, once the publishers may send."""
        assert self._active is not None
        self._active.start()

    def deactivate(self) -> None:
        """Unsubscribe and forget what waits; the model stays loaded."""
        active, self._active = self._active, None
        if active is not None:
            active.close()
        self._engine.drain()

    def reset(self, reason: str) -> bool:
        """Forget images, window and path; False when the node is not active."""
        if self._active is None:
            return False
        self._active.synchronizer.reset()
        self._forget(reason)
        return True

    def save_map(self) -> str:
        """Write the map to ``map.save_path``; what was written, for people to read. Takes seconds, in any thread.

        Raises Da3Error where there is no map or it cannot be written.
        """
        snapshot = self._engine.map_snapshot(_MAP_TIMEOUT_S)
        if snapshot is None:
            raise UnavailableError(
                "there is no map: set map.enabled and frames.publish_tf to true, and have a network that predicts poses"
            )
        path, cloud = Path(self._config.map.save_path).expanduser().absolute(), snapshot.cloud()
        write_cloud(path, cloud)
        return f"{len(cloud)} points written to {path}"

    def update(self, config: Config) -> None:
        """Take over dynamic parameters."""
        self._engine.update_points(config.points)

    def close(self, timeout_s: float) -> bool:
        """Release everything; False when a step is still running after ``timeout_s``."""
        self.deactivate()
        self._diagnostics.close()
        ended = self._engine.close(timeout_s)
        self._intake.close()
        self._tf.close()
        if self._odometry is not None:
            self._odometry.close()
        if self._ranges is not None:
            self._ranges.close()
        self._rig.close()
        self._publishers.close()
        return ended

    def _warm_up(self) -> None:
        """Spare the first set the warm-up, if all cameras say now what their images will be like."""
        if not self._engine.warms_up:
            return
        try:
            self._engine.warm_up(await_calibrations(self._node, self._config, _INFO_TIMEOUT_S))
        except (UnavailableError, FrameError) as error:
            self._node.get_logger().info(
                f"the warm-up waits for the first set of images, and those that come meanwhile are dropped: {error}"
            )

    def _submit(self, image_set: ImageSet) -> None:
        self._stats.count("sets")
        self._engine.submit(image_set)

    def _decode(self, image_set: ImageSet) -> FrameSet | None:
        frame_set = self._decoder.decode(image_set.images)
        if frame_set is not None and self._ranges is not None:
            frame_set = self._ranges.attach(frame_set)
        if frame_set is None or self._odometry is None:
            return frame_set
        start_s = time.monotonic()
        frame_set = self._odometry.attach(frame_set)
        self._stats.stage("wait for odometry", (time.monotonic() - start_s) * 1e3)
        return frame_set

    def _publish(self, estimate: Estimate, description: Mapping[str, Any]) -> None:
        if self._active is None:  # deactivated while this step was under way
            return
        self._publishers.publish(estimate, description, meanwhile=lambda: self._tf.publish(estimate))

    def _on_jump(self, jump: ClockJump) -> None:
        """Stamps went backwards: nothing from before may be mixed with what follows."""
        reason = f"time went back by {jump.by_ns / 1e9:.3f} s, first seen at camera '{jump.camera}'"
        self._stats.clock_jumped(reason, time.monotonic())
        self._rig.clear()
        if self._odometry is not None:
            self._odometry.clear()
        if self._ranges is not None:
            self._ranges.clear()
        self._forget(reason)

    def _forget(self, reason: str) -> None:
        self._node.get_logger().warning(f"reset of synchronization, window and path: {reason}")
        self._engine.reset(self._publishers.forget_path)

    def _warn(self, text: str) -> None:
        more = self._throttle.passes(("", text), time.monotonic())
        if more is not None:
            self._node.get_logger().warning(f"{text}{more}")

    def _odometry_refused(self, text: str) -> None:
        self._stats.odometry_refused(text, time.monotonic())  # diagnostics say it

    def _frame_dropped(self, error: FrameError) -> None:
        if error.reason == NO_INFO:  # normal at first; diagnostics speak up when it does not come at all
            self._stats.frame_awaits_info(error.camera, error.reason)
            return
        now_s = time.monotonic()
        self._stats.frame_dropped(error.camera, error.reason, str(error), now_s)
        more = self._throttle.passes((error.camera, error.reason), now_s)
        if more is not None:
            self._node.get_logger().warning(f"{error}; the frame is dropped{more}")
