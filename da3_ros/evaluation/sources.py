"""Estimates that the node (or a replay) has recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.egress.estimates import MAP_POINTS
from da3_ros.errors import InputError
from da3_ros.evaluation.recorded_run import DIAGNOSTICS, RecordedRun
from da3_ros.evaluation.score import EstimatedFrame
from da3_ros.evaluation.stamped import stamp_of
from da3_ros.evaluation.truth import depth_from_image
from da3_ros.geometry.clouds import unpack_points
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.transforms import STATIC_TOPIC, TransformTree
from da3_ros.replay.estimates import resolve
from da3_ros.replay.progress import watched_messages

_WINDOW = "da3_ros/msg/WindowEstimate"


@dataclass(frozen=True)
class WindowPose:
    """Where one network step has one view of its window. ``T_odom_cam`` (4, 4), None where it has no pose."""

    frame_id: str
    stamp_ns: int
    T_odom_cam: np.ndarray | None


def recorded_estimates(
    bag: Bag, cameras: Sequence[str], namespace: str, run: RecordedRun
) -> Iterator[EstimatedFrame | list[WindowPose]]:
    """Depth, confidence and poses of ``cameras`` from the topics of a node in ``namespace``, in order of the stamps,
    and where windows were recorded, the poses of their views. ``run`` is told what it wants to know.

    Raises InputError where there is no depth with intrinsics.
    """
    prefix = f"/{namespace.strip('/')}".rstrip("/")
    depths = {f"{prefix}/{camera}/depth/image_rect": camera for camera in cameras}
    infos = {f"{prefix}/{camera}/depth/camera_info": camera for camera in cameras}
    confidences = {f"{prefix}/{camera}/confidence": camera for camera in cameras}
    window = f"{prefix}/window"
    missing = [topic for topic in (*depths, *infos) if topic not in bag.topics]
    if missing:
        raise InputError(f"the recording of estimates has no topic {missing[0]}: record what the node publishes")
    parts: dict[tuple[str, int], dict[str, Any]] = {}
    wanted = {"depth", "K", *(["confidence"] if set(confidences) & set(bag.topics) else [])}
    if window in bag.topics and bag.topics[window].type == _WINDOW:
        wanted.add("T")
    else:
        window = ""
    for found in watched_messages(bag, {*depths, *infos, *confidences, window, DIAGNOSTICS} & set(bag.topics)):
        message = found.message
        run.take(found.topic, found.receive_ns, message)
        if found.topic == DIAGNOSTICS:
            continue
        if found.topic == window:
            poses = []
            for view in message.views:
                pose = WindowPose(view.header.frame_id, stamp_of(view), _pose_matrix(view.pose))
                poses.append(pose)
                if view.newest:
                    parts.setdefault((view.camera, pose.stamp_ns), {})["T"] = pose.T_odom_cam
            yield poses
        elif found.topic in depths:
            key = depths[found.topic], stamp_of(message)
            parts.setdefault(key, {})["depth"] = depth_from_image(message, found.topic)
        elif found.topic in infos:
            parts.setdefault((infos[found.topic], stamp_of(message)), {})["K"] = np.array(message.k).reshape(3, 3)
        else:
            key = confidences[found.topic], stamp_of(message)
            parts.setdefault(key, {})["confidence"] = depth_from_image(message, found.topic)
        for key in [key for key, part in parts.items() if wanted <= part.keys()]:
            part = parts.pop(key)
            yield EstimatedFrame(*key, part["depth"], part["K"], part.get("confidence"), part.get("T"))
            # What never becomes complete (a message was lost) must not pile up.
            parts = {other: part for other, part in parts.items() if other[1] > key[1] - 10_000_000_000}


def recorded_map(bag: Bag, frames: FramesConfig, namespace: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The last map that a node in ``namespace`` has sent, and where it lies: T_odom_map (4, 4), points (n, 3) and their
    colours (n, 3) uint8 RGB; None without one."""
    topic = resolve(MAP_POINTS, namespace)
    if topic not in bag.topics:
        return None
    static = [name for name in bag.topics if name.rpartition("/")[2] == STATIC_TOPIC]
    tree, last = TransformTree(), None
    for found in bag.messages([topic, *static]):
        if found.topic == topic:
            last = found.message
        else:
            tree.add(found.message)
    if last is None:
        return None
    T_odom_map = tree.lookup(frames.odom, frames.map)
    data = np.frombuffer(last.data, np.uint8).reshape(-1, last.point_step)
    return np.eye(4) if T_odom_map is None else T_odom_map, *unpack_points(data)


def _pose_matrix(pose: Any) -> np.ndarray | None:
    """(4, 4); None for what is no pose."""
    place, turn = pose.position, pose.orientation
    try:
        R = matrix_from_quat_xyzw(np.array((turn.x, turn.y, turn.z, turn.w)))
    except InputError:
        return None
    T = T_from(R, np.array((place.x, place.y, place.z)))
    return T if np.isfinite(T).all() else None
