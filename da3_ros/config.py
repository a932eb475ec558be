"""The one configuration tree: every parameter's default, description, range and choices, written once.

ROS parameter declaration, YAML files, the README table and command line options are all made from it. Names are
dotted (``sync.slop_s``); the cameras' own part is ``camera.<name>.<field>`` for each name in ``cameras``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from da3_ros.errors import ConfigError

ANY_VIEW_VARIANTS = ("da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant")
SINGLE_VIEW_VARIANTS = ("da3metric-large", "da3mono-large")
NESTED_VARIANTS = ("da3nested-giant-large",)
VARIANTS = (*ANY_VIEW_VARIANTS, *SINGLE_VIEW_VARIANTS, *NESTED_VARIANTS)
METRIC_VARIANT = "da3metric-large"
REFERENCE_VIEWS = ("saddle_balanced", "saddle_sim_range", "first", "middle")
PROCESS_RES_METHODS = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")
RANDOM_CHECKPOINT = "random"


def param(
    default: Any,
    description: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
    dynamic: bool = False,
) -> Any:
    """A configuration field. ``ge``/``le`` are inclusive; ``dynamic`` ones may change while the node is active."""
    metadata = {"description": description, "ge": ge, "le": le, "choices": choices, "dynamic": dynamic}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class CameraConfig:
    """One camera: ``camera.<name>.*``."""

    image_topic: str = param(
        "", "image topic; empty: <name>/image_raw, or <name>/image_raw/compressed with transport compressed"
    )
    camera_info_topic: str = param(
        "",
        "CameraInfo topic; empty: camera_info beside the image topic; 'none': uncalibrated, the network's own "
        "intrinsics are used",
    )
    transport: str = param("raw", "raw: sensor_msgs/Image; compressed: CompressedImage", choices=("raw", "compressed"))
    frame_id: str = param("", "optical frame to use instead of the one in the image header")
    rectified: bool = param(False, "the images are rectified already: use CameraInfo.P and ignore its distortion")
    max_fov_deg: float = param(
        110.0, "widest horizontal field of view of the rectified view (degrees)", ge=20.0, le=150.0
    )


@dataclass(frozen=True)
class SyncConfig:
    """How images of several cameras become sets."""

    slop_s: float = param(0.02, "largest difference of stamps within a set (seconds)", ge=0.0, le=10.0)
    queue: int = param(10, "images kept for each camera while waiting for the others", ge=1, le=1000)
    timeout_s: float = param(
        0.5, "a camera silent for longer is done without until it returns (seconds)", ge=0.01, le=60.0
    )
    min_cameras: int = param(1, "fewest cameras that make a set", ge=1, le=64)
    pending_sets: int = param(2, "complete sets that may wait for the network; the oldest is dropped", ge=1, le=1000)


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    variant: str = param("da3-small", "network variant", choices=VARIANTS)
    checkpoint: str = param(
        "",
        "safetensors file, folder, or hub id (owner/name or owner/name@revision), fetched once and then taken from "
        "the hub's cache; empty: the variant's own, published or (da3-nano) in this package; 'random': untrained "
        "weights, for tests of the plumbing only",
    )
    metric_checkpoint: str = param(
        "",
        "da3metric-large beside an any-view variant: makes its depth and poses metric and finds the sky. Named as for "
        "checkpoint, for example depth-anything/DA3METRIC-LARGE (Apache-2.0); empty: none",
    )
    accept_noncommercial: bool = param(
        False, "accept weights that are published for non-commercial use only (CC BY-NC 4.0: see da3-ros weights list)"
    )
    device: str = param("auto", "auto (CUDA where torch has it, else CPU; logged), cpu, cuda or cuda:<n>")
    dtype: str = param(
        "auto",
        "arithmetic of the network; auto: float16 on CUDA, float32 on CPU",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    matmul: str = param(
        "auto",
        "number format of the matrix products in the transformer blocks. as_dtype: as model.dtype; bfloat16; "
        "approximations (docs/performance.md): int8, fp8 (on CUDA from compute capability 8.9 on); auto: bfloat16 on "
        "CPUs that multiply in it, if model.dtype is auto too, else as_dtype",
        choices=("auto", "as_dtype", "bfloat16", "int8", "fp8"),
    )
    half_resolution_head: bool = param(
        False, "approximation: the last convolutions run at 8/14 of the images' size, and depth is enlarged to it"
    )
    key_reduction: int = param(
        1,
        "approximation for windows of more than 16 views: layers across views average keys and values over squares of "
        "so many patches to a side; 1: exact",
        ge=1, le=4,
    )  # fmt: skip
    process_res: int = param(
        504, "longest side of the network's images, shortest with lower_bound_* (pixels, rounded to 14)", ge=56, le=2044
    )
    process_res_method: str = param(
        "upper_bound_resize",
        "upper_bound: the longest side becomes process_res, lower_bound: the shortest; then resize: both sides go to "
        "the nearest multiple of 14, crop: a margin of up to 13 pixels is cut off",
        choices=PROCESS_RES_METHODS,
    )
    use_ray_pose: bool = param(False, "camera poses from the ray map instead of the camera decoder (slower)")
    ref_view: str = param("saddle_balanced", "how the reference view is chosen", choices=REFERENCE_VIEWS)
    pose_conditioning: str = param(
        "none",
        "rig: tell the network where the cameras stand (CameraInfo and /tf_static of each) and put depth and poses "
        "onto the rig, in metres with two cameras or more; needs window.sets 1, for a rig says nothing of how the "
        "robot moved between sets. odometry: tell it where the cameras were at each image, by the robot's own "
        "odometry (frames.odom -> frames.base on /tf, waited for up to sync.timeout_s) and the rig; needs "
        "frames.publish_tf false. See docs/known-cameras.md",
        choices=("none", "rig", "odometry"),
    )
    execution: str = param(
        "auto",
        "how steps run. compiled: torch.compile and CUDA graphs, with a warm-up of tens of seconds for each new size "
        "of network images and window (seconds once that was compiled on the machine); graphs: CUDA graphs of torch's "
        "own kernels; eager: neither; auto: compiled on CUDA, eager on the CPU",
        choices=("auto", "eager", "graphs", "compiled"),
    )
    max_graphs: int = param(
        16,
        "CUDA graphs that are kept: one for each number of new views, of views in the window and of views to decode "
        "that comes up (cameras that are missing)",
        ge=2, le=256,
    )  # fmt: skip
    cpu_threads: int = param(0, "torch threads on CPU; 0: all cores but one, which is left to ROS", ge=0, le=1024)

    @property
    def has_poses(self) -> bool:
        """Whether there are poses, intrinsics and confidence; single-view networks predict depth and sky only."""
        return self.variant not in SINGLE_VIEW_VARIANTS

    @property
    def has_metres(self) -> bool:
        """Whether a metric network is loaded."""
        return self.variant in (METRIC_VARIANT, *NESTED_VARIANTS) or bool(self.metric_checkpoint)

    @property
    def has_sky(self) -> bool:
        """Whether a network that finds the sky is loaded."""
        return self.has_metres or not self.has_poses


@dataclass(frozen=True)
class WindowParameters:
    """The sliding window."""

    sets: int = param(
        4, "synchronized sets in the window; views = sets x cameras; no effect with single-view variants", ge=1, le=64
    )
    stride: int = param(1, "sets by which the window advances between two network steps", ge=1, le=64)
    skip_below: float = param(
        0.0,
        "leave out sets that barely differ from the last one that was used: nowhere in an image have squares of 14 "
        "network pixels changed by so many grey levels on average. No estimate is published for them, but one a "
        "second at least; the host waits for the images on the GPU. 0: leave none out",
        ge=0.0, le=255.0,
    )  # fmt: skip
    keyframe_min_motion: float = param(
        0.05,
        "a set becomes a keyframe, which may stay in the window as an anchor, when the cameras have moved by this "
        "share of the scene's median depth since the last one, or turned by as many radians, or both together; 0: "
        "every set",
        ge=0.0, le=10.0,
    )  # fmt: skip
    keyframe_min_overlap: float = param(
        0.25, "anchors leave of which the newest set sees less than this share", ge=0.0, le=1.0
    )
    keyframe_recent: int = param(
        2, "newest sets that are in the window in any case; window.sets or more: no anchors, only the newest sets",
        ge=1, le=64,
    )  # fmt: skip


@dataclass(frozen=True)
class ScaleConfig:
    """Where metres come from."""

    source: str = param(
        "auto",
        "source of metric scale. rig: the distances between the cameras (/tf_static); odometry: the robot's own, "
        "frames.odom -> frames.base with frames.publish_tf false, or scale.odometry_topic; range: scale.range_topic; "
        "metric_model: da3metric-large, by itself, nested, or as metric_checkpoint; none: lengths are in a unit of "
        "their own; auto: all of these that are there, each by its uncertainty",
        choices=("auto", "none", "metric_model", "rig", "odometry", "range"),
    )
    odometry_topic: str = param(
        "",
        "nav_msgs/Odometry of the robot's own odometry (pose of frames.base), as source of scale; empty: its "
        "transforms frames.odom -> frames.base, which need frames.publish_tf false",
    )
    range_topic: str = param(
        "",
        "distances that another sensor measures, as source of scale at a few pixels. Its frame is that of a camera, or "
        "it needs a transform to frames.base, and so do the cameras; empty: none",
    )
    range_type: str = param(
        "range",
        "messages of scale.range_topic. range: sensor_msgs/Range; depth: rectified depth images, sensor_msgs/Image "
        "32FC1 or 16UC1",
        choices=("range", "depth"),
    )
    range_info_topic: str = param("", "CameraInfo of a depth image on scale.range_topic; empty: camera_info beside it")
    time_constant_s: float = param(
        5.0, "time constant with which sources correct the scale that windows hand on (seconds)", ge=0.0, le=600.0
    )
    jump_after: int = param(
        5, "consecutive steps in which a source must contradict the scale until its own is taken over", ge=1, le=1000
    )


@dataclass(frozen=True)
class LoopsConfig:
    """Keyframes of the drive, and the places where it comes back to where it was."""

    enabled: bool = param(
        True,
        "close loops: correct map -> odom where a place is seen again; needs a network with poses and GTSAM "
        "(pip install gtsam)",
    )
    keyframes: int = param(
        1000, "most keyframes that are kept; beyond, the most redundant ones are given up", ge=10, le=3000
    )
    keyframe_motion: float = param(
        0.15,
        "a set becomes a keyframe of the map when the robot has moved by this share of the scene's median depth since "
        "the last one, or turned by as many radians, or both together",
        ge=0.01, le=10.0,
    )  # fmt: skip
    min_similarity: float = param(
        0.4, "how alike two places must look (cosine) to be looked at with the network", ge=-1.0, le=1.0
    )
    interval: int = param(
        10, "steps from one window of the network across two places to the next, at least", ge=1, le=100000
    )
    delay: int = param(
        10, "steps after which its result counts; should it take longer, that step waits for it", ge=1, le=1000
    )


@dataclass(frozen=True)
class MapConfig:
    """The cloud of all keyframes, and what moves."""

    enabled: bool = param(True, "keep a map: ~/map_points, ~/save_map")
    voxel_m: float = param(0.1, "side of the map's voxels (metres, or odom's unit without scale)", ge=0.001, le=100.0)
    max_voxels: int = param(1000000, "most voxels; further ones are left out", ge=1000, le=100000000)
    period_s: float = param(5.0, "time between two messages on ~/map_points (seconds)", ge=0.1, le=3600.0)
    save_path: str = param("map.ply", "where ~/save_map writes, .ply or .pcd; relative to where the node was started")
    dynamic_tolerance: float = param(
        0.15,
        "how much nearer than an older view saw (relative) a surface must be to count as moving",
        ge=0.01, le=1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class FramesConfig:
    """Names of coordinate frames (REP 105) and who publishes them."""

    map: str = param("map", "map frame")
    odom: str = param("odom", "frame of all poses")
    base: str = param("base_link", "robot frame; needs base -> camera on /tf_static")
    publish_tf: bool = param(
        True, "broadcast odom -> base (rig known) and odom -> <camera frame>_estimated for each camera"
    )


@dataclass(frozen=True)
class PublishConfig:
    """Which topics exist. A topic without subscribers costs nothing in any case."""

    depth: bool = param(True, "<c>/depth/image_rect")
    camera_info: bool = param(True, "<c>/depth/camera_info: intrinsics of the published depth")
    confidence: bool = param(True, "<c>/confidence")
    dynamic: bool = param(True, "<c>/dynamic: mono8, 255 where something moves")
    sky: bool = param(True, "<c>/sky: mono8, 255 where there is sky; only with a metric, mono or nested network")
    points: bool = param(True, "<c>/points: organised coloured cloud of each camera")
    merged_points: bool = param(True, "points: one cloud of all cameras")
    window: bool = param(True, "window: poses and intrinsics of all views of the window")
    odometry: bool = param(True, "odometry: pose of the base, or of the first camera where the rig is not known")
    path: bool = param(True, "path: the last path_length poses of odometry")
    path_length: int = param(1000, "poses kept in path", ge=1, le=100000)
    depth_encoding: str = param("32FC1", "32FC1: metres; 16UC1: millimetres (REP 118)", choices=("32FC1", "16UC1"))
    depth_resolution: str = param(
        "network", "network: as the network made it; input: at the size of the image", choices=("network", "input")
    )


@dataclass(frozen=True)
class PointsConfig:
    """Point clouds."""

    stride: int = param(1, "every n-th pixel in both directions", ge=1, le=64, dynamic=True)
    min_confidence_percentile: float = param(
        20.0, "drop this share of least confident pixels of each view (percent)", ge=0.0, le=100.0, dynamic=True
    )
    max_range_m: float = param(
        0.0, "drop points farther than this (metres, or network units without scale); 0: keep all",
        ge=0.0, le=1e6, dynamic=True,
    )  # fmt: skip
    voxel_m: float = param(
        0.0, "voxel size of the merged cloud (metres, or network units without scale); 0: no voxel filter",
        ge=0.0, le=100.0, dynamic=True,
    )  # fmt: skip
    frame: str = param("odom", "frame of the merged cloud", choices=("odom", "base"))


@dataclass(frozen=True)
class DiagnosticsConfig:
    """What is reported on /diagnostics."""

    period_s: float = param(1.0, "time between two reports (seconds)", ge=0.1, le=60.0)
    silent_after_s: float = param(2.0, "a camera without images for longer is an error (seconds)", ge=0.1, le=600.0)
    extrinsics_angle_deg: float = param(
        1.0, "warn when a camera has turned on its mount by more, by what the cameras see (degrees)", ge=0.1, le=90.0
    )
    extrinsics_distance_m: float = param(
        0.03, "warn when a camera has moved on its mount by more, by what the cameras see (metres)", ge=0.001, le=10.0
    )
    fov_tolerance_percent: float = param(
        15.0, "warn when predicted and calibrated field of view differ by more (percent)", ge=0.1, le=1000.0
    )


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
        there = {
            "rig": self.tracks and len(self.cameras) > 1,
            "odometry": self.tracks and (not self.frames.publish_tf or bool(self.scale.odometry_topic)),
            "range": self.tracks and bool(self.scale.range_topic),
            "metric_model": self.model.has_metres,
        }
        return tuple(source for source, possible in there.items() if possible and wanted in ("auto", source))

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
        problems = _problems(self)
        if problems:
            raise ConfigError("; ".join(problems))


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


# A camera's name becomes part of topic and parameter names.
_CAMERA_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
# Topic names as ROS 2 has them, relative, absolute or private (~/).
_TOPIC = re.compile(r"(~/|/)?[a-zA-Z_][a-zA-Z0-9_]*(/[a-zA-Z_][a-zA-Z0-9_]*)*")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_OUTPUT_NAMES = ("depth", "points", "confidence", "odometry", "path", "window")
_APACHE_METRIC = "depth-anything/DA3METRIC-LARGE"


@dataclass(frozen=True)
class Parameter:
    """One leaf of the tree, under its dotted name."""

    name: str
    type: type
    default: Any
    description: str
    ge: float | None
    le: float | None
    choices: tuple[str, ...] | None
    dynamic: bool


def parameters(cameras: tuple[str, ...] = (), config_type: type = Config) -> list[Parameter]:
    """All parameters of ``config_type`` in order; the ``camera`` part once for each name in ``cameras``."""
    found = []
    hints = get_type_hints(config_type)
    for item in fields(config_type):
        if item.name == "camera":
            for name in cameras:
                found += _section(f"camera.{name}", CameraConfig)
        elif dataclasses.is_dataclass(hints[item.name]):
            found += _section(item.name, hints[item.name])
        else:
            found.append(_leaf(item.name, item, hints[item.name]))
    return found


def _section(prefix: str, section: type) -> list[Parameter]:
    hints = get_type_hints(section)
    return [_leaf(f"{prefix}.{item.name}", item, hints[item.name]) for item in fields(section)]


def _leaf(name: str, item: dataclasses.Field, hint: Any) -> Parameter:
    kind = hint if isinstance(hint, type) else tuple
    assert item.default is not MISSING, name
    return Parameter(name=name, type=kind, default=item.default, **item.metadata)


def to_flat(config: PipelineConfig) -> dict[str, Any]:
    """Dotted name -> value for every parameter of ``config``; tuples become lists."""
    flat = {}
    for parameter in parameters(config.cameras, type(config)):
        value: Any = config
        parts = parameter.name.split(".")
        if parts[0] == "camera":
            value, parts = config.camera_config(parts[1]), parts[2:]
        for part in parts:
            value = getattr(value, part)
        flat[parameter.name] = list(value) if isinstance(value, tuple) else value
    return flat


def from_flat(values: Mapping[str, Any], config_type: type = Config) -> Any:
    """Build and validate a configuration from dotted names; what is not named keeps its default.

    Raises ConfigError for unknown names, wrong types and everything that ``validate`` finds.
    """
    named = values.get("cameras", ())
    cameras = tuple(named) if _type_fits(tuple, named) else ()
    known = {parameter.name: parameter for parameter in parameters(cameras, config_type)}
    problems = []
    tree: dict[str, Any] = {}
    per_camera: dict[str, dict[str, Any]] = {name: {} for name in cameras}
    for name, value in values.items():
        parameter = known.get(name)
        if parameter is None:
            problems.append(f"there is no parameter '{name}'{_hint(name, known)}")
            continue
        if not _type_fits(parameter.type, value):
            problems.append(value_problem(parameter, value))
            continue
        value = parameter.type(value) if parameter.type in (float, tuple) else value
        parts = name.split(".")
        if parts[0] == "camera":
            per_camera[parts[1]][parts[2]] = value
        elif len(parts) == 2:
            tree.setdefault(parts[0], {})[parts[1]] = value
        else:
            tree[name] = value
    hints = get_type_hints(config_type)
    sections = {key: hints[key](**value) if isinstance(value, dict) else value for key, value in tree.items()}
    sections["camera"] = {name: CameraConfig(**value) for name, value in per_camera.items()}
    config = config_type(**sections)
    problems += _problems(config)
    if problems:
        raise ConfigError("; ".join(problems))
    return config


_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text", tuple: "a list of texts"}


def value_problem(parameter: Parameter, value: Any) -> str:
    """What is wrong with ``value`` for ``parameter`` by its type, range or choices; empty when it fits."""
    if not _type_fits(parameter.type, value):
        return f"{parameter.name} must be {_KINDS[parameter.type]}, not {value!r}"
    if parameter.ge is not None and parameter.le is not None and not parameter.ge <= value <= parameter.le:
        return f"{parameter.name} must be within [{parameter.ge:g}, {parameter.le:g}], not {value!r}"
    if parameter.choices and value not in parameter.choices:
        return f"{parameter.name} must be one of {', '.join(parameter.choices)}, not {value!r}"
    return ""


def _type_fits(kind: type, value: Any) -> bool:
    if kind is tuple:
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _hint(name: str, known: Mapping[str, Parameter]) -> str:
    if name.startswith("camera.") and not any(other.startswith(name.rpartition(".")[0] + ".") for other in known):
        return " (its camera is not in the parameter 'cameras')"
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _problems(config: PipelineConfig) -> list[str]:
    problems = []
    flat = to_flat(config)
    for parameter in parameters(config.cameras, type(config)):
        value = flat[parameter.name]
        problem = value_problem(parameter, value)
        if problem:
            problems.append(problem)
    if not config.cameras:
        problems.append("cameras is empty: name at least one camera")
    if len(set(config.cameras)) != len(config.cameras):
        problems.append(f"cameras has a name twice: {', '.join(config.cameras)}")
    for name in config.cameras:
        if not _CAMERA_NAME.fullmatch(name):
            problems.append(f"camera name {name!r} must be letters, digits and _, starting with a letter")
        elif name in _OUTPUT_NAMES:
            problems.append(f"camera name '{name}' is also the name of an output topic: choose another")
    if not _DEVICE.fullmatch(config.model.device):
        problems.append(f"model.device must be auto, cpu, cuda or cuda:<n>, not {config.model.device!r}")
    for name in ("map", "odom", "base"):
        if not getattr(config.frames, name):
            problems.append(f"frames.{name} is empty: give a frame name")
    if len({config.frames.map, config.frames.odom, config.frames.base}) < 3:
        problems.append("frames.map, frames.odom and frames.base must be three different frames")
    if config.window.stride > config.window.sets:
        problems.append(f"window.stride ({config.window.stride}) must not exceed window.sets ({config.window.sets})")
    problems += _model_problems(config)
    if isinstance(config, Config):
        if config.sync.min_cameras > max(1, len(config.cameras)):
            problems.append(
                f"sync.min_cameras ({config.sync.min_cameras}) exceeds the number of cameras ({len(config.cameras)})"
            )
        topics = [config.image_topic(name) for name in config.cameras]
        for topic in sorted({topic for topic in topics if topics.count(topic) > 1}):
            problems.append(f"image topic '{topic}' is given to two cameras")
        named: list[tuple[str, str | None]] = [
            (f"camera.{name}.image_topic", config.image_topic(name)) for name in config.cameras
        ]
        named += [(f"camera.{name}.camera_info_topic", config.camera_info_topic(name)) for name in config.cameras]
        for parameter_name, given in named:
            if given is not None and not _TOPIC.fullmatch(given):
                problems.append(
                    f"{parameter_name} '{given}' is not a topic name: use letters, digits and _ between slashes"
                )
    return problems


def _model_problems(config: PipelineConfig) -> list[str]:
    """Combinations of networks, scale and cameras that cannot work."""
    problems = []
    model, source = config.model, config.scale.source
    if model.variant in VARIANTS and model.metric_checkpoint and model.variant not in ANY_VIEW_VARIANTS:
        problems.append(
            f"model.metric_checkpoint goes with {', '.join(ANY_VIEW_VARIANTS)}, but model.variant is {model.variant}: "
            "leave it empty"
        )
    if source == "metric_model" and not model.has_metres:
        problems.append(
            f"scale.source is metric_model, but {model.variant} alone is not metric: set model.metric_checkpoint (for "
            f"example {_APACHE_METRIC}) or choose {METRIC_VARIANT} or {', '.join(NESTED_VARIANTS)}"
            if model.has_poses
            else f"scale.source is metric_model, but {model.variant} predicts relative depth: choose {METRIC_VARIANT}"
        )
    if source == "none" and model.variant == METRIC_VARIANT:
        problems.append(f"scale.source is none, but {METRIC_VARIANT} gives metres and nothing else: set it to auto")
    if model.pose_conditioning == "rig":
        problems += _rig_problems(config)
    elif source == "rig" and len(config.cameras) < 2:
        problems.append("scale.source is rig, but one camera has no distance to another: set it to auto")
    if model.pose_conditioning == "odometry":
        problems += _odometry_problems(config)
    elif source == "odometry" and config.frames.publish_tf and not config.scale.odometry_topic:
        problems.append(
            f"scale.source is odometry, so the robot publishes {config.frames.odom} -> {config.frames.base} and this "
            "node must not: set frames.publish_tf to false, or name its nav_msgs/Odometry in scale.odometry_topic"
        )
    if source == "range" and not config.scale.range_topic:
        problems.append("scale.source is range, but no sensor is named: set scale.range_topic")
    if model.pose_conditioning != "none":
        problems += _known_camera_problems(config)
    if not model.has_poses:
        if model.use_ray_pose:
            problems.append(
                f"model.use_ray_pose is set, but {model.variant} sees each view alone and predicts no poses"
            )
        bare = [name for name in config.cameras if config.camera_config(name).camera_info_topic == "none"]
        if bare:
            problems.append(
                f"{model.variant} predicts no intrinsics and needs a CameraInfo for every camera, but "
                f"camera_info_topic is 'none' for {', '.join(bare)}: name its topic, or choose another model.variant"
            )
    return problems


def _rig_problems(config: PipelineConfig) -> list[str]:
    """What keeps a rig from conditioning the network."""
    problems = []
    if config.window.sets != 1:
        problems.append(
            f"model.pose_conditioning is rig, which says nothing of how the robot moved between the "
            f"{config.window.sets} sets of the window: set window.sets to 1"
        )
    if config.scale.source == "rig" and len(config.cameras) < 2:
        problems.append("scale.source is rig, but one camera has no distance to another: set it to auto")
    return problems


def _odometry_problems(config: PipelineConfig) -> list[str]:
    """What keeps the robot's odometry from conditioning the network."""
    problems = []
    if config.frames.publish_tf:
        problems.append(
            f"model.pose_conditioning is odometry, so the robot publishes {config.frames.odom} -> {config.frames.base} "
            "and this node must not: set frames.publish_tf to false"
        )
    if config.scale.source == "none":
        problems.append(
            "scale.source is none, but model.pose_conditioning is odometry, whose poses are in metres: set it to auto"
        )
    if config.window.sets == 1 and len(config.cameras) == 1 and config.scale_source == "odometry":
        problems.append(
            "model.pose_conditioning is odometry, but a window of one view shows no distance that would give the "
            "scale: raise window.sets"
        )
    return problems


def _known_camera_problems(config: PipelineConfig) -> list[str]:
    """What keeps any known cameras from conditioning the network."""
    problems = []
    conditioning = f"model.pose_conditioning is {config.model.pose_conditioning}"
    if not config.model.has_poses:
        problems.append(f"{conditioning}, but {config.model.variant} sees each view alone: set it to none")
    bare = [name for name in config.cameras if config.camera_config(name).camera_info_topic == "none"]
    if bare:
        problems.append(
            f"{conditioning} and needs a CameraInfo for every camera, but camera_info_topic is 'none' for "
            f"{', '.join(bare)}: name its topic"
        )
    return problems
