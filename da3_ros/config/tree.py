"""The one configuration tree of pipeline and node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from da3_ros.config.fields import param
from da3_ros.config.network import ModelConfig, ScaleConfig, WindowParameters
from da3_ros.config.problems import node_problems, pipeline_problems
from da3_ros.config.robot import (
    CameraConfig,
    DiagnosticsConfig,
    FramesConfig,
    LoopsConfig,
    MapConfig,
    PointsConfig,
    PublishConfig,
    SyncConfig,
)
from da3_ros.errors import ConfigError


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that ``Pipeline`` needs: frame sets in, estimates out."""

    cameras: tuple[str, ...] = param((), "names of the cameras, in the order of the views")
    camera: Mapping[str, CameraConfig] = field(default_factory=dict)
    model: ModelConfig = field(default_factory=ModelConfig)
    window: WindowParameters = field(default_factory=WindowParameters)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    loops: LoopsConfig = field(default_factory=LoopsConfig)
    map: MapConfig = field(default_factory=MapConfig)
    frames: FramesConfig = field(default_factory=FramesConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    points: PointsConfig = field(default_factory=PointsConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)

    @property
    def tracks(self) -> bool:
        """Whether windows are put into one continuous frame; known cameras put each where they are themselves."""
        return self.model.has_poses and self.model.pose_conditioning == "none"

    @property
    def maps(self) -> bool:
        """Whether keyframes are kept: of tracked windows, for loops or a map. Where the robot localises itself, the
        frame map is its own."""
        return self.tracks and self.frames.publish_tf and (self.loops.enabled or self.map.enabled)

    @property
    def scale_sources(self) -> tuple[str, ...]:
        """The sources of metric scale that ``scale.source`` allows and that can be there, the strongest first."""
        conditioning, wanted = self.model.pose_conditioning, self.scale.source
        if conditioning != "none":
            given = (conditioning,) if wanted in ("auto", conditioning) else ()
            if conditioning == "rig" and len(self.cameras) == 1:
                given = ()
            return given or (("metric_model",) if self.model.has_metres and wanted != "none" else ())
        by_ways = self.tracks and (self.model.has_lengths or wanted != "auto")
        there = {
            "rig": by_ways and len(self.cameras) > 1,
            "odometry": by_ways and (not self.frames.publish_tf or bool(self.scale.odometry_topic)),
            "range": self.tracks and bool(self.scale.range_topic),
            "metric_model": self.model.has_metres,
        }
        return tuple(source for source, possible in there.items() if possible and wanted in ("auto", source))

    @property
    def uses_odometry(self) -> bool:
        """Whether the robot's own odometry is put onto frames: for the network, as a source of scale, or since the
        windows are to lie where it is, odom being the robot's own."""
        stands_back = self.tracks and not self.frames.publish_tf
        return stands_back or "odometry" in (self.model.pose_conditioning, *self.scale_sources)

    @property
    def scale_source(self) -> str:
        """All of ``scale_sources`` for people to read, or ``none``."""
        return "+".join(self.scale_sources) or "none"

    @property
    def scale_required(self) -> bool:
        """Whether lengths are metres or nothing: where a source was named, or is part of the network."""
        return self.scale.source not in ("auto", "none") or "metric_model" in self.scale_sources

    @property
    def range_info_topic(self) -> str:
        """CameraInfo of a depth image on scale.range_topic."""
        folder, slash, _ = self.scale.range_topic.rpartition("/")
        return self.scale.range_info_topic or f"{folder}{slash}camera_info"

    def camera_config(self, name: str) -> CameraConfig:
        """The configuration of camera ``name``; defaults where nothing was set."""
        return self.camera.get(name, CameraConfig())

    def validate(self) -> None:
        """Check every value and every relation between values.

        Raises ConfigError with all problems found, one a line.
        """
        problems = self.problems()
        if problems:
            raise ConfigError("; ".join(problems))

    def problems(self) -> list[str]:
        """What is wrong with the values and with how they go together, a sentence each."""
        return pipeline_problems(self)


@dataclass(frozen=True)
class Config(PipelineConfig):
    """The node's whole configuration."""

    sync: SyncConfig = field(default_factory=SyncConfig)
    autostart: bool = param(False, "configure and activate at start-up; false: wait for a lifecycle manager to do it")

    def image_topic(self, name: str) -> str:
        """Image topic of camera ``name``, with the default filled in."""
        camera = self.camera_config(name)
        suffix = "/compressed" if camera.transport == "compressed" else ""
        return camera.image_topic or f"{name}/image_raw{suffix}"

    def camera_info_topic(self, name: str) -> str | None:
        """CameraInfo topic of camera ``name``, with the default filled in; None for an uncalibrated camera."""
        topic = self.camera_config(name).camera_info_topic
        if topic == "none":
            return None
        image = self.image_topic(name)
        if self.camera_config(name).transport == "compressed":
            image = image.removesuffix("/compressed")
        folder, slash, _ = image.rpartition("/")
        return topic or f"{folder}{slash}camera_info"

    def problems(self) -> list[str]:
        """As PipelineConfig has it, topics and synchronization too."""
        return [*super().problems(), *node_problems(self)]
