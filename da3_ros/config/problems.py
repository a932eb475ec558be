"""What is wrong with a configuration, in sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from da3_ros.config.choices import ANY_VIEW_VARIANTS, METRIC_VARIANT, NESTED_VARIANTS, VARIANTS
from da3_ros.config.fields import to_flat, tree_parameters, value_problem

if TYPE_CHECKING:
    from da3_ros.config.tree import Config, PipelineConfig

# A camera's name becomes part of topic and parameter names.
_CAMERA_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
# Topic names as ROS 2 has them, relative, absolute or private (~/).
_TOPIC = re.compile(r"(~/|/)?[a-zA-Z_][a-zA-Z0-9_]*(/[a-zA-Z_][a-zA-Z0-9_]*)*")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_OUTPUT_NAMES = ("depth", "points", "confidence", "odometry", "path", "window")
_APACHE_METRIC = "depth-anything/DA3METRIC-LARGE"


def pipeline_problems(config: PipelineConfig) -> list[str]:
    """Values that do not fit, and cameras, frames and networks that do not go together."""
    problems = []
    flat = to_flat(config)
    for parameter in tree_parameters(type(config), config.cameras):
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
    return problems


def node_problems(config: Config) -> list[str]:
    """Synchronization and topics that do not fit the cameras."""
    problems = []
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
    if model.guided_upsampling and not model.half_resolution_head:
        problems.append(
            "model.guided_upsampling enlarges what model.half_resolution_head makes small: set that to true as well"
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
