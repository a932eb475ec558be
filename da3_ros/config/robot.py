"""What the robot gives and gets: cameras and their synchronization, frames, loops and map, topics, diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

from da3_ros.config.fields import param


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
