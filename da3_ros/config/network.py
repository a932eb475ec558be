"""The network, its window, and where metres come from."""

from __future__ import annotations

from dataclasses import dataclass

from da3_ros.config.choices import (
    BUNDLED_VARIANT,
    METRIC_VARIANT,
    NESTED_VARIANTS,
    PROCESS_RES_METHODS,
    REFERENCE_VIEWS,
    SINGLE_VIEW_VARIANTS,
    VARIANTS,
)
from da3_ros.config.fields import param


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
    guided_upsampling: bool = param(
        False,
        "with half_resolution_head: where depth jumps, it is enlarged by the image's colours; elsewhere interpolated",
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
        "own kernels; eager: neither; uncompiled: graphs on CUDA, eager on the CPU; auto: compiled on CUDA, eager on "
        "the CPU, but da3-ros replay and evaluate compile nothing for recordings shorter than five minutes",
        choices=("auto", "eager", "graphs", "uncompiled", "compiled"),
    )
    max_graphs: int = param(
        16,
        "CUDA graphs that are kept: one for each number of new views, of views in the window and of views to decode "
        "that comes up (cameras that are missing)",
        ge=2, le=256,
    )  # fmt: skip
    cpu_threads: int = param(
        0,
        "torch threads on the CPU; 0: all cores but one, which is left to ROS; beside a GPU at most 4, in da3-ros "
        "replay and evaluate 1",
        ge=0, le=1024,
    )  # fmt: skip

    @property
    def has_poses(self) -> bool:
        """Whether there are poses, intrinsics and confidence; single-view networks predict depth and sky only."""
        return self.variant not in SINGLE_VIEW_VARIANTS

    @property
    def has_metres(self) -> bool:
        """Whether a metric network is loaded."""
        return self.variant in (METRIC_VARIANT, *NESTED_VARIANTS) or bool(self.metric_checkpoint)

    @property
    def has_lengths(self) -> bool:
        """Whether the ways between predicted cameras are in the unit of the depth, so that known ways tell its metres.

        Not with the da3-nano of this package: they are too short by a factor, in the right directions, which nothing
        notices.
        """
        return self.has_poses and (self.variant != BUNDLED_VARIANT or bool(self.checkpoint))

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
    decode: str = param(
        "newest",
        "views of which depth and confidence are made. newest: those of the newest set; all: older ones too, anew in "
        "each step, for <c>/window/depth/image_rect and <c>/window/confidence; no effect with single-view variants",
        choices=("newest", "all"),
    )
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
        "their own; auto: all of these that are there, each by its uncertainty, but neither rig nor odometry with the "
        "da3-nano of this package, whose ways between cameras are too short",
        choices=("auto", "none", "metric_model", "rig", "odometry", "range"),
    )
    odometry_topic: str = param(
        "",
        "nav_msgs/Odometry of the robot's own odometry, of frames.base or a frame with a static transform to it, in "
        "frames.odom (in any frame with frames.publish_tf, where only its way counts), as source of scale; empty: its "
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
