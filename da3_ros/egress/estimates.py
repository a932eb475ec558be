"""What becomes of an estimate: which topics there are, with which messages, and which transforms."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration, CameraOutput, Estimate, OutputRequest
from da3_ros.egress.messages import MessageBuilder

ESTIMATED_SUFFIX = "_estimated"
MAP_POINTS = "~/map_points"
# Below a camera's name: what has all of its views in the window, in each step anew. Topics of the newest set keep
# stamps that only grow, which those who match topics by stamps rely on.
OF_WINDOW = "window/"
IMAGE, INFO, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"


def output_topics(config: Config) -> dict[str, str]:
    """Every topic that ``config.publish`` asks for, under its namespace-relative name, and its type."""
    publish, model = config.publish, config.model
    topics = []
    for camera in config.cameras:
        topics += [
            (publish.depth, f"{camera}/depth/image_rect", IMAGE),
            (publish.camera_info, f"{camera}/depth/camera_info", INFO),
            (publish.sky and model.has_sky, f"{camera}/sky", IMAGE),
            (publish.points, f"{camera}/points", CLOUD),
            (publish.confidence and model.has_poses, f"{camera}/confidence", IMAGE),
            (publish.dynamic and config.tracks, f"{camera}/dynamic", IMAGE),
        ]
        if config.window.decode == "all" and model.has_poses:
            topics += [
                (publish.depth, f"{camera}/{OF_WINDOW}depth/image_rect", IMAGE),
                (publish.camera_info, f"{camera}/{OF_WINDOW}depth/camera_info", INFO),
                (publish.confidence, f"{camera}/{OF_WINDOW}confidence", IMAGE),
            ]
    if model.has_poses:
        topics += [
            (publish.merged_points, "points", CLOUD),
            (publish.window, "window", "da3_ros/msg/WindowEstimate"),
            (publish.odometry, "odometry", "nav_msgs/msg/Odometry"),
            (publish.path, "path", "nav_msgs/msg/Path"),
            (config.maps and config.map.enabled, MAP_POINTS, CLOUD),
        ]
    return {topic: kind for wanted, topic, kind in topics if wanted}


def output_request(cameras: Sequence[str], heard: Callable[[str], bool]) -> OutputRequest:
    """What must be computed for the topics that are ``heard`` (by their namespace-relative names)."""

    def of(*names: str) -> frozenset[str]:
        return frozenset(camera for camera in cameras if any(heard(f"{camera}/{name}") for name in names))

    return OutputRequest(
        # The depth's camera_info is made with the depth, so that the two always agree.
        depth=of("depth/image_rect", "depth/camera_info"),
        confidence=of("confidence"),
        points=of("points"),
        sky=of("sky"),
        dynamic=of("dynamic"),
        merged_points=heard("points"),
        map_points=heard(MAP_POINTS),
        window_depth=of(f"{OF_WINDOW}depth/image_rect", f"{OF_WINDOW}depth/camera_info"),
        window_confidence=of(f"{OF_WINDOW}confidence"),
    )


class EstimateMessages:
    """Makes the messages of one estimate after the other; keeps the poses of ``path``."""

    def __init__(self, build: MessageBuilder, config: Config):
        self._build = build
        self._config = config
        self._T_map_odom = np.eye(4)  # that was given last
        self._followed = FollowedPose(config)
        self._poses: deque[Any] = deque(maxlen=config.publish.path_length)

    def of(self, estimate: Estimate, description: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Topics and what makes their messages, whether they are in ``output_topics`` or not.

        Topics below ``<c>/window`` have one message for each view of the camera, oldest first; all others have one.
        ``description`` is ``Pipeline.description``.
        """
        build, odom, stamp_ns = self._build, self._config.frames.odom, estimate.stamp_ns
        for output in estimate.outputs:
            yield from self._of_camera(output)
        for output in estimate.window_outputs:
            yield from self._of_camera(output, OF_WINDOW)
        if estimate.merged_points is not None:
            cloud = estimate.merged_points
            yield "points", lambda: build.cloud(cloud, stamp_ns)
        if estimate.mapping is not None and estimate.mapping.points is not None:
            map_cloud = estimate.mapping.points
            yield MAP_POINTS, lambda: build.cloud(map_cloud, stamp_ns)
        if estimate.has_poses:
            yield "window", lambda: build.window(estimate, odom, description)
        tracked = self._followed.of(estimate)
        if self._followed.anew:
            self._poses.clear()
        if tracked is not None:
            T_odom_child, pose_ns, child = tracked
            self._poses.append(build.pose_stamped(T_odom_child, pose_ns, odom))
            covariance = None if estimate.tracking is None else estimate.tracking.covariance
            yield "odometry", lambda: build.odometry(T_odom_child, pose_ns, odom, child, covariance)
            yield "path", lambda: build.path(self._poses, pose_ns, odom)

    def transforms(self, estimate: Estimate) -> list[Any]:
        """odom -> base, and odom -> <camera frame>_estimated of the newest set, where they are known."""
        build, odom, base = self._build, self._config.frames.odom, self._config.frames.base
        found = []
        if estimate.T_odom_base is not None:
            found.append(build.transform(estimate.T_odom_base, estimate.stamp_ns, odom, base))
        newest = [view for view in estimate.views if view.newest and view.frame_id]
        shared = shared_frames({view.camera: view.frame_id for view in newest})
        for view in newest:
            if view.frame_id not in shared and view.T_odom_cam is not None:
                child = view.frame_id + ESTIMATED_SUFFIX
                found.append(build.transform(view.T_odom_cam, view.stamp_ns, odom, child))
        return found

    def static_transforms(self, stamp_ns: int) -> list[Any]:
        """map -> odom (REP 105): the identity, until ``correction`` has another one."""
        frames = self._config.frames
        self._T_map_odom = np.eye(4)
        return [self._build.transform(np.eye(4), stamp_ns, frames.map, frames.odom)]

    def correction(self, estimate: Estimate) -> list[Any]:
        """map -> odom for /tf_static, where a loop or a reset has changed it since the last estimate.

        Static, so that it holds for every stamp from the moment on at which it is known.
        """
        if estimate.mapping is None or np.array_equal(estimate.mapping.T_map_odom, self._T_map_odom):
            return []
        frames, self._T_map_odom = self._config.frames, estimate.mapping.T_map_odom
        return [self._build.transform(self._T_map_odom, estimate.stamp_ns, frames.map, frames.odom)]

    def resume(self, poses: Iterable[Any], child: str | None) -> None:
        """Go on with a path of ``poses`` (PoseStamped), and an odometry that was of the frame ``child``."""
        self._poses.extend(poses)
        self._followed.resume(child)

    def forget_path(self) -> None:
        """Start the path anew, as after a reset."""
        self._poses.clear()
        self._followed = FollowedPose(self._config)

    def _of_camera(self, output: CameraOutput, below: str = "") -> Iterator[tuple[str, Callable[[], Any]]]:
        build, stamp_ns, frame_id, name = self._build, output.stamp_ns, output.frame_id, output.camera
        depth, confidence, sky, points = output.depth, output.confidence, output.sky, output.points
        if depth is not None:
            yield f"{name}/{below}depth/image_rect", lambda: build.image(depth, stamp_ns, frame_id)
            # A rectified pinhole image of exactly the depth's size.
            pinhole = CameraCalibration(output.size_hw[1], output.size_hw[0], output.K)
            yield f"{name}/{below}depth/camera_info", lambda: build.camera_info(pinhole, stamp_ns, frame_id)
        if confidence is not None:
            yield f"{name}/{below}confidence", lambda: build.image(confidence, stamp_ns, frame_id)
        if sky is not None:
            yield f"{name}/sky", lambda: build.image(sky, stamp_ns, frame_id)
        if output.dynamic is not None:
            dynamic = output.dynamic
            yield f"{name}/dynamic", lambda: build.image(dynamic, stamp_ns, frame_id)
        if points is not None:
            yield f"{name}/points", lambda: build.cloud(points, stamp_ns)


class FollowedPose:
    """The one pose that ``odometry`` and ``path`` follow: the base's, or without a rig that of the first camera of
    ``cameras``.

    Another camera's pose would be a jump, and so would that camera's where the base was followed before: where what is
    followed is not among an estimate there is none. Once the base is there it stays the base. ``anew``: with the last
    estimate the way began anew.
    """

    def __init__(self, config: Config):
        self._config = config
        self._child: str | None = None
        self.anew = False

    def resume(self, child: str | None) -> None:
        """Go on after estimates in which the frame ``child`` was followed, None for none."""
        self._child = child

    def of(self, estimate: Estimate) -> tuple[np.ndarray, int, str] | None:
        """T_odom_child (4, 4), stamp and child frame; None in a step without it, or without poses."""
        base = self._config.frames.base
        found = None
        if estimate.T_odom_base is not None:
            found = estimate.T_odom_base, estimate.stamp_ns, base
        elif self._child != base:
            for view in estimate.views:
                if view.newest and view.camera == self._config.cameras[0] and view.T_odom_cam is not None:
                    found = view.T_odom_cam, view.stamp_ns, view.frame_id
        self.anew = estimate.tracking is not None and estimate.tracking.anew
        if found is not None:
            self.anew |= self._child not in (None, found[2])
            self._child = found[2]
        return found


def shared_frames(frame_ids: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Frame id -> the cameras that share it, for every frame id that more than one camera has.

    ``frame_ids``: camera -> optical frame id.
    """
    by_frame: dict[str, list[str]] = {}
    for camera, frame_id in frame_ids.items():
        if frame_id:
            by_frame.setdefault(frame_id, []).append(camera)
    return {frame: tuple(cameras) for frame, cameras in by_frame.items() if len(cameras) > 1}
