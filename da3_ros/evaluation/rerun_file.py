"""A recording for the Rerun viewer (https://rerun.io): pictures, depth, confidence, clouds, map, frames, ways, errors.

Rerun is optional: ``pip install rerun-sdk``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from da3_ros.errors import InputError, UnavailableError
from da3_ros.evaluation.cloud_sample import cloud_frame, point_colours
from da3_ros.evaluation.depth import depth_errors, pair_depths
from da3_ros.evaluation.score import SeenFrame
from da3_ros.evaluation.stamped import StampedMessages
from da3_ros.evaluation.trajectory import Similarity3, fit_worlds
from da3_ros.evaluation.truth import depth_at_truth, scaled_intrinsics
from da3_ros.evaluation.up_axis import UpAxis, up_of_cameras
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import COMPRESSED_IMAGE

_ESTIMATE, _TRUTH = "estimate", "truth"
_COLOURS = {_ESTIMATE: (230, 120, 40), _TRUTH: (40, 170, 120)}
_TIMELINE = "stamp"
_JPEG_QUALITY = 85
_AXES_M = 0.3


def load_rerun() -> Any:
    """The module rerun. Raises UnavailableError where it is not installed."""
    try:
        import rerun
    except ImportError as error:
        raise UnavailableError(
            f"--rerun needs the Rerun SDK, which cannot be imported ({error}): pip install rerun-sdk (0.2 GB to "
            "download)"
        ) from error
    return rerun


class RerunFile:
    """Writes ``path`` while it is shown the frames of ``bag``; ``topics``: image topic by camera.

    To be used in a with statement; the file appears when it is complete. Cameras are below ``estimate`` and ``truth``.
    At the end the estimate's world is laid onto that of the truth: its poses are written then, and its unit of length
    goes to depth and points, since the viewer draws no camera whose world is scaled. Raises UnavailableError without
    Rerun and InputError for a file that cannot be written.
    """

    def __init__(self, path: Path, bag: Bag, topics: Mapping[str, str]):
        self._rr = load_rerun()
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._pictures = {
            camera: StampedMessages(bag, topic, bag.topics[topic].type, 0)
            for camera, topic in topics.items()
            if topic in bag.topics
        }
        self._compressed = {camera for camera, topic in topics.items() if topic in bag.topics
                            and bag.topics[topic].type == COMPRESSED_IMAGE}  # fmt: skip
        self._cameras = list(topics)
        self._ways: dict[str, dict[tuple[str, int], np.ndarray]] = {_ESTIMATE: {}, _TRUTH: {}}
        self._bodies: dict[tuple[str, int], np.ndarray] = {}
        self._map: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._stream: Any = None

    def __enter__(self) -> RerunFile:
        rr = self._rr
        self._stream = rr.RecordingStream("da3_ros", recording_id=self._path.stem)
        self._stream.set_log_time_enabled(False)
        try:
            self._stream.save(self._part, default_blueprint=self._layout())
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self._path} cannot be written: {error}") from error
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._finish()
        self._stream.disconnect()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def add(self, seen: SeenFrame) -> None:
        """The next frame."""
        frame, calibration, true, T_world_cam = seen.estimate, seen.calibration, seen.true, seen.T_true_cam
        rr = self._rr
        self._stream.set_time(_TIMELINE, timestamp=np.datetime64(frame.stamp_ns, "ns"))
        picture = self._picture(frame.camera, frame.stamp_ns)
        points = cloud_frame(seen)
        own = f"{_ESTIMATE}/{frame.camera}"
        if frame.T_world_cam is not None:
            self._ways[_ESTIMATE][frame.camera, frame.stamp_ns] = frame.T_world_cam
        self._log(f"{own}/depth", _pinhole(rr, frame.K, frame.depth.shape))
        self._log(f"{own}/depth", rr.DepthImage(_finite(frame.depth)))
        if frame.confidence is not None:
            self._log(f"{own}/confidence", rr.Image(_finite(frame.confidence)))
        self._log(f"{own}/points", rr.Points3D(points.points, colors=point_colours(points, picture), radii=-1.5))
        if true is not None:
            self._true_pose(frame.camera, frame.stamp_ns, T_world_cam)
            K = scaled_intrinsics(calibration.K, calibration, *true.shape)
            self._log(f"{_TRUTH}/{frame.camera}/depth", _pinhole(rr, K, true.shape))
            self._log(f"{_TRUTH}/{frame.camera}/depth", rr.DepthImage(_finite(true), meter=1.0))
            self._log(f"{_TRUTH}/{frame.camera}/points", rr.Points3D(points.true, colors=_COLOURS[_TRUTH], radii=-1.5))
            pairs = pair_depths(depth_at_truth(frame.depth, frame.K, true.shape, calibration), true)
            raw, aligned = depth_errors(pairs), depth_errors(pairs, "median")
            for name, value in (
                ("abs_rel", raw.abs_rel),
                ("abs_rel_medians_aligned", aligned.abs_rel),
                ("scale", aligned.scale),
            ):
                if np.isfinite(value):
                    self._log(f"errors/{frame.camera}/{name}", rr.Scalars(value))
        elif T_world_cam is not None:
            self._true_pose(frame.camera, frame.stamp_ns, T_world_cam)

    def add_body(self, frame: str, stamp_ns: int, T_world_body: np.ndarray) -> None:
        """Where the estimate has ``frame``, the robot's base, or without a rig that of its first camera."""
        self._bodies[frame, stamp_ns] = T_world_body

    def add_map(self, T_world_map: np.ndarray, points: np.ndarray, colours: np.ndarray) -> None:
        """The estimate's map, ``points`` (n, 3) with ``colours`` (n, 3) uint8 RGB: the last one is shown."""
        self._map = T_world_map, points, colours

    def _picture(self, camera: str, stamp_ns: int) -> np.ndarray | None:
        """Log the picture; BGR pixels for the colours of the points, None where it is missing or not readable."""
        from rosbags.image import ImageError, message_to_cvimage

        message = self._pictures[camera].nearest(stamp_ns) if camera in self._pictures else None
        if message is None:
            return None
        try:
            pixels: Any = message_to_cvimage(message, "bgr8")
        except (ImageError, cv2.error, ValueError):
            return None
        kind = next(
            (each for each in ("jpeg", "png") if each in getattr(message, "format", "").replace("jpg", "jpeg")), ""
        )
        if camera in self._compressed and kind:
            logged = self._rr.EncodedImage(contents=bytes(message.data), media_type=f"image/{kind}")
        else:
            logged = self._rr.Image(np.ascontiguousarray(pixels[..., ::-1])).compress(jpeg_quality=_JPEG_QUALITY)
        self._log(f"pictures/{camera}", logged)
        return pixels

    def _true_pose(self, camera: str, stamp_ns: int, T: np.ndarray | None) -> None:
        if T is not None:
            self._log(f"{_TRUTH}/{camera}", _transform(self._rr, T))
            self._ways[_TRUTH][camera, stamp_ns] = T

    def _finish(self) -> None:
        """The estimated poses in the world of the truth, their unit, and the ways of all cameras."""
        estimate, truth = self._ways[_ESTIMATE], self._ways[_TRUTH]
        both = [(estimate[key], truth[key]) for key in sorted(estimate.keys() & truth.keys(), key=lambda key: key[1])]
        similarity = fit_worlds(both)[0] if both else Similarity3(1.0, np.eye(3), np.zeros(3))
        for (camera, stamp_ns), T in sorted(estimate.items(), key=lambda item: item[0][1]):
            aligned = similarity.poses(T[None])[0]
            estimate[camera, stamp_ns] = aligned
            self._stream.set_time(_TIMELINE, timestamp=np.datetime64(stamp_ns, "ns"))
            self._log(f"{_ESTIMATE}/{camera}", _transform(self._rr, aligned))
        for (frame, stamp_ns), T in sorted(self._bodies.items(), key=lambda item: item[0][1]):
            self._stream.set_time(_TIMELINE, timestamp=np.datetime64(stamp_ns, "ns"))
            self._log(f"{_ESTIMATE}/frames/{frame}", _transform(self._rr, similarity.poses(T[None])[0]))
        self._stream.reset_time()
        for frame in dict.fromkeys(frame for frame, _ in self._bodies):
            axes = self._rr.Arrows3D(vectors=_AXES_M * np.eye(3), colors=255 * np.eye(3, dtype=np.uint8))
            self._log(f"{_ESTIMATE}/frames/{frame}", axes, static=True)
        if self._map is not None:
            T_world_map, points, colours = self._map
            own = f"{_ESTIMATE}/frames/map"
            self._log(own, _transform(self._rr, similarity.poses(T_world_map[None])[0]), static=True)
            self._log(f"{own}/points", self._rr.Points3D(points, colors=colours, radii=-1.0), static=True)
            self._log(f"{own}/points", self._rr.Transform3D(scale=similarity.scale), static=True)
        cameras = np.array([*(truth or estimate).values()]).reshape(-1, 4, 4)
        up = up_of_cameras(-cameras[:, :3, 1].mean(axis=0), cameras[:, :3, 3]) if len(cameras) else UpAxis()
        name = f"RIGHT_HAND_{'XYZ'[up.axis]}_{'UP' if up.sign > 0 else 'DOWN'}"
        for world in self._ways:
            self._log(world, getattr(self._rr.ViewCoordinates, name), static=True)
        for camera in self._cameras:
            own, scale = f"{_ESTIMATE}/{camera}", similarity.scale
            # Static values stand for those of all times.
            self._log(f"{own}/depth", self._rr.DepthImage.from_fields(meter=1.0 / scale), static=True)
            self._log(f"{own}/points", self._rr.Transform3D(scale=scale), static=True)
        for world, ways in self._ways.items():
            lines = [
                np.stack([T[:3, 3] for (name, _), T in sorted(ways.items()) if name == camera])
                for camera in dict.fromkeys(name for name, _ in ways)
            ]
            if lines:
                strips = self._rr.LineStrips3D(lines, colors=_COLOURS[world])
                self._log(f"{world}/trajectory", strips, static=True)

    def _layout(self) -> Any:
        import rerun.blueprint as rrb

        views = [
            rrb.Vertical(
                rrb.Spatial2DView(origin=f"pictures/{camera}", name=camera),
                rrb.Tabs(
                    rrb.Spatial2DView(origin=f"{_ESTIMATE}/{camera}/depth", name=f"{camera}: depth"),
                    rrb.Spatial2DView(origin=f"{_ESTIMATE}/{camera}/confidence", name="confidence"),
                    rrb.Spatial2DView(origin=f"{_TRUTH}/{camera}/depth", name="true depth"),
                ),
            )
            for camera in self._cameras
        ]
        # A picture that no camera projects cannot be in space.
        flat = [f"- /{_ESTIMATE}/{camera}/confidence" for camera in self._cameras]
        return rrb.Blueprint(
            rrb.Horizontal(
                rrb.Spatial3DView(origin="/", name="world", contents=[f"/{_ESTIMATE}/**", f"/{_TRUTH}/**", *flat]),
                rrb.Vertical(rrb.Horizontal(*views), rrb.TimeSeriesView(origin="errors", name="errors")),
            ),
            collapse_panels=True,
        )

    def _log(self, entity: str, what: Any, static: bool = False) -> None:
        self._stream.log(entity, what, static=static)


def _transform(rr: Any, T: np.ndarray) -> Any:
    return rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3])


def _pinhole(rr: Any, K: np.ndarray, shape: tuple[int, ...]) -> Any:
    # Rerun counts pixels from the image's corner.
    moved = np.array(K, dtype=np.float64)
    moved[:2, 2] += 0.5
    return rr.Pinhole(image_from_camera=moved, resolution=[shape[1], shape[0]], camera_xyz=rr.ViewCoordinates.RDF)


def _finite(values: np.ndarray) -> np.ndarray:
    """Rerun takes 0 for no depth."""
    return np.where(np.isfinite(values), values, 0).astype(np.float32)
