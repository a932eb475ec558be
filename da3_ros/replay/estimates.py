"""A recording's messages to estimates, as the node makes them of live ones: synchronizer, decoder, rig, pipeline.

The time of recording stands for the host's clock, so that every run decides alike which images belong together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from da3_ros.config import Config
from da3_ros.datatypes import Estimate, FrameSet, OutputRequest
from da3_ros.egress.estimates import shared_frames
from da3_ros.errors import FrameError, InputError
from da3_ros.heap import keep_freed_memory
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.ingest.convert import rosbags_converter
from da3_ros.ingest.frame_sets import Decoder, gpu_jpeg_decoder
from da3_ros.ingest.from_msg import stamp_from_header
from da3_ros.ingest.odometry import attach_odometry
from da3_ros.ingest.ranges import RangeReadings, reading_from_depth, reading_from_range
from da3_ros.ingest.sync import FrameSynchronizer, MatchedSet
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, TransformTree
from da3_ros.replay.ahead import Picture, PicturesAhead, Read
from da3_ros.replay.odometry import OdometryHistory
from da3_ros.turns import short_turns
from da3_ros.usable import pose_problem, submit_usable

_PENDING = 2  # steps whose results may still be on their way from the device
_NS = 1_000_000_000
_ROOM = 1000  # images of each camera that may wait for the others


class Pending(Protocol):
    """An estimate that the device may still be at work on."""

    def result(self) -> Estimate:
        """Wait for it."""


class StepPipeline(Protocol):
    """What replay needs of ``da3_ros.pipeline.Pipeline``."""

    def submit(self, frame_set: FrameSet, request: OutputRequest) -> Pending | None:
        """One frame set in; None when the window advanced without a network step."""

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics by camera name."""

    def reset(self) -> None:
        """Forget the window."""


@dataclass(frozen=True)
class ReplayedEstimate:
    """``receive_ns``: the time of recording of the message that completed the set."""

    receive_ns: int
    estimate: Estimate


@dataclass(frozen=True)
class ClockReset:
    """Stamps went backwards before set ``number``: nothing from before may be mixed with what follows."""

    number: int
    text: str


@dataclass(frozen=True)
class Boundary:
    """Everything of the sets before ``number`` has been given, and nothing of that set."""

    number: int


class BagReplay:
    """Replays ``bag`` for the cameras of ``config``; ``namespace`` is that of the node.

    ``notes`` explains each reason of ``dropped`` once. Raises InputError for topics that the recording lacks.
    """

    def __init__(self, bag: Bag, config: Config, pipeline: StepPipeline, namespace: str = ""):
        self._bag, self._config, self._pipeline = bag, config, pipeline
        self._namespace = namespace
        self._unusable: Counter[tuple[str, str]] = Counter()
        self.notes: dict[tuple[str, str], str] = {}
        self.sets = 0
        self._images = {resolve(config.image_topic(name), namespace): name for name in config.cameras}
        self._infos: dict[str, list[str]] = {}
        for name in config.cameras:
            topic = config.camera_info_topic(name)
            if topic is not None:
                self._infos.setdefault(resolve(topic, namespace), []).append(name)
        self._transforms = {name for name, topic in bag.topics.items() if topic.type in TRANSFORM_TYPES}
        self._readings, scale = RangeReadings(), config.scale
        self._range_info: Any = None
        self._ranges: dict[str, Callable[[Any], None]] = {}  # topic -> what is done with its messages
        if "range" in config.scale_sources:
            take = self._take_range if scale.range_type == "range" else self._take_depth
            self._ranges[resolve(scale.range_topic, namespace)] = take
            if scale.range_type == "depth":
                self._ranges[resolve(config.range_info_topic, namespace)] = self._take_range_info
        self._check_topics()
        self._info: dict[str, Any] = {}
        self._tree = TransformTree()
        self._rig: dict[str, np.ndarray] = {}
        self._odometry: OdometryHistory | None = None
        on_gpu = gpu_jpeg_decoder(config)
        self._decoder = Decoder(config, self._drop, rosbags_converter, on_gpu)
        self._decoder.use(self._info.get)
        sync = config.sync
        self._timeout_ns = round(sync.timeout_s * _NS)
        self._ahead = {  # topics whose pictures the CPU decodes
            topic: camera
            for topic, camera in self._images.items()
            if on_gpu is None and config.camera_config(camera).transport == "compressed"
        }
        # Nothing is lost for want of room: what comes while one camera is silent waits for as long as the timeout.
        self._sync = FrameSynchronizer(
            config.cameras, round(sync.slop_s * _NS), max(sync.queue, _ROOM), self._timeout_ns, sync.min_cameras
        )

    @property
    def topics(self) -> set[str]:
        """Everything that is read of the recording."""
        return {*self._images, *self._infos, *self._transforms, *self._ranges}

    @property
    def dropped(self) -> Counter[tuple[str, str]]:
        """Images and estimates so far that could not be used, by (camera, reason)."""
        found = self._unusable.copy()
        for camera, statistics in self._sync.statistics().items():
            found.update({(camera, reason): count for reason, count in statistics.dropped.items()})
        return found

    def run(
        self,
        request: OutputRequest,
        start_ns: int = 0,
        stop_ns: int = 2**63 - 1,
        skip: Callable[[int], bool] = lambda number: False,
        seen: Callable[[RawMessage], None] = lambda raw: None,
        also: frozenset[str] = frozenset(),
        boundary: int = 0,
    ) -> Iterator[ReplayedEstimate | ClockReset | Boundary]:
        """Estimates in order, and a Boundary before every ``boundary``-th set (0: none).

        ``skip``: whether the network may leave the set of this number out. ``seen`` gets every message before what
        becomes of it, those of the topics ``also`` included.
        """
        self._prepare(start_ns)
        keep_freed_memory()
        with short_turns(), PicturesAhead(self._ahead, self._bag.deserialize) as ahead:
            messages = ahead.read(self._bag.raw(self.topics | also, start_ns, stop_ns))
            yield from self._run(messages, request, skip, seen, boundary)

    def _run(
        self,
        messages: Iterator[Read],
        request: OutputRequest,
        skip: Callable[[int], bool],
        seen: Callable[[RawMessage], None],
        boundary: int,
    ) -> Iterator[ReplayedEstimate | ClockReset | Boundary]:
        pending: deque[tuple[int, Pending]] = deque()
        now_ns: int | None = None
        for raw, begun in messages:
            for at_ns in self._silence(now_ns, raw.receive_ns):
                yield from self._steps(self._sync.poll(at_ns), at_ns, request, skip, pending, boundary)
            now_ns = raw.receive_ns if now_ns is None else max(now_ns, raw.receive_ns)
            seen(raw)
            if raw.topic not in self.topics:
                continue
            matched = self._take(raw, Picture(self._bag.deserialize(raw)) if begun is None else begun(), now_ns)
            jump = self._sync.take_reset()
            if jump is not None:
                yield from self._finish(pending, 0)
                self._pipeline.reset()
                self._readings.clear()
                text = f"time went back by {jump.by_ns / 1e9:.3f} s, first seen at camera '{jump.camera}'"
                yield ClockReset(self.sets, text)
            yield from self._steps(matched, now_ns, request, skip, pending, boundary)
        # Whatever is still waited for does not come.
        for number in range(4 * (len(self._config.cameras) + 1) if now_ns is not None else 0):
            assert now_ns is not None
            polled = self._sync.poll(now_ns + (number + 1) * self._timeout_ns // 2)
            yield from self._steps(polled, now_ns, request, skip, pending, boundary)
        yield from self._finish(pending, 0)

    def _check_topics(self) -> None:
        for topics, kinds, mend in (
            (self._images, (IMAGE, COMPRESSED_IMAGE), "set camera.{}.image_topic, or leave the camera out"),
            (
                {topic: names[0] for topic, names in self._infos.items()},
                (CAMERA_INFO,),
                "set camera.{}.camera_info_topic, to 'none' for the network's own intrinsics",
            ),
        ):
            for topic, name in topics.items():
                if topic not in self._bag.topics:
                    there = sorted(t for t, found in self._bag.topics.items() if found.type in kinds)
                    raise InputError(
                        f"the recording has no topic {topic} of camera '{name}' (there are: "
                        f"{', '.join(there) or 'none'}): {mend.format(name)}"
                    )
        for topic in self._ranges:
            if topic not in self._bag.topics:
                raise InputError(
                    f"the recording has no topic {topic}: set scale.range_topic, scale.range_type and "
                    "scale.range_info_topic"
                )
        for topic, name in self._images.items():
            wanted = COMPRESSED_IMAGE if self._config.camera_config(name).transport == "compressed" else IMAGE
            found = self._bag.topics[topic].type
            if found != wanted:
                raise InputError(f"{topic} has messages of type {found}, but camera.{name}.transport asks for {wanted}")

    def _prepare(self, start_ns: int) -> None:
        """What is latched or sent now and then counts from the start: static transforms and first calibrations."""
        for topic in self._transforms:
            if topic.rpartition("/")[2] == STATIC_TOPIC:
                for found in self._bag.messages([topic]):
                    self._add_transforms(found.message)
        if self._config.uses_odometry:
            topic = self._config.scale.odometry_topic
            topic = resolve(topic, self._namespace) if topic else ""
            self._odometry = OdometryHistory(self._bag, self._config.frames, self._tree, topic)
        for topic, cameras in self._infos.items():
            first = next(self._bag.messages([topic], start_ns), None)
            if first is not None:
                self._info.update(dict.fromkeys(cameras, first.message))

    def _silence(self, last_ns: int | None, next_ns: int) -> Iterator[int]:
        """When the node's timer would look whether a camera is to be waited for any longer, between two messages."""
        half_ns = self._timeout_ns // 2
        if last_ns is not None:
            for number in range(1, min((next_ns - last_ns) // half_ns, 8) + 1):
                yield last_ns + number * half_ns

    def _take(self, raw: RawMessage, picture: Picture, now_ns: int) -> list[MatchedSet]:
        message = picture.message
        camera = self._images.get(raw.topic)
        if message is None:
            self._drop(FrameError(camera or raw.topic, "message", f"a message of {raw.topic} cannot be deserialized"))
            return []
        if raw.topic in self._ranges:
            self._ranges[raw.topic](message)
        if raw.topic in self._infos:
            self._info.update(dict.fromkeys(self._infos[raw.topic], message))
        elif raw.topic in self._transforms:
            self._add_transforms(message)
        elif camera is not None:
            try:
                return self._sync.add(camera, stamp_from_header(message.header, camera), picture, now_ns)
            except FrameError as error:
                self._drop(error)
        return []

    def _T_base(self, frame_id: str) -> np.ndarray | None:
        return self._tree.lookup(self._config.frames.base, frame_id)

    def _take_range(self, message: Any) -> None:
        self._readings.add(reading_from_range(message))

    def _take_range_info(self, message: Any) -> None:
        self._range_info = message

    def _take_depth(self, message: Any) -> None:
        if self._range_info is None:
            return
        try:
            self._readings.add(reading_from_depth(message, self._range_info))
        except InputError as error:
            self._drop(FrameError("range", "message", str(error)))

    def _add_transforms(self, message: Any) -> None:
        try:
            self._tree.add(message)
        except InputError as error:
            self._drop(FrameError("tf", "transform", str(error)))

    def _steps(
        self,
        matched: list[MatchedSet],
        now_ns: int,
        request: OutputRequest,
        skip: Callable[[int], bool],
        pending: deque[tuple[int, Pending]],
        boundary: int,
    ) -> Iterator[ReplayedEstimate | Boundary]:
        for each in matched:
            number, self.sets = self.sets, self.sets + 1
            if boundary and number % boundary == 0:
                yield from self._finish(pending, 0)
                yield Boundary(number)
            if skip(number):
                continue
            messages = {camera: picture.message for camera, picture in each.items.items()}
            decoded = {camera: picture.pixels for camera, picture in each.items.items() if picture.pixels is not None}
            frame_set = self._decoder.decode(messages, decoded)
            if frame_set is not None and self._odometry is not None:
                frame_set = attach_odometry(
                    frame_set,
                    self._config.frames,
                    self._odometry.at,
                    self._drop,
                    required=self._config.model.pose_conditioning == "odometry",
                )
            if frame_set is None:
                continue
            if self._ranges:
                frame_set = self._readings.attach(frame_set, self._T_base)
            self._place({frame.camera: frame.frame_id for frame in frame_set.frames})
            submitted = submit_usable(
                frame_set,
                self._config.sync.min_cameras,
                lambda usable: self._pipeline.submit(usable, request),
                self._drop,
            )
            if submitted.result is not None:
                pending.append((now_ns, submitted.result))
            yield from self._finish(pending, _PENDING)

    def _finish(self, pending: deque[tuple[int, Pending]], keep: int) -> Iterator[ReplayedEstimate]:
        while len(pending) > keep:
            receive_ns, submitted = pending.popleft()
            estimate = submitted.result()
            problem = pose_problem(estimate)
            if problem is not None:
                self._drop(problem)
            else:
                yield ReplayedEstimate(receive_ns, estimate)

    def _place(self, frame_ids: Mapping[str, str]) -> None:
        """Tell the pipeline where the cameras stand, if that has changed."""
        known = {camera: T for camera, T in self._rig.items() if camera not in frame_ids}
        shared = shared_frames(frame_ids)
        for camera, frame_id in frame_ids.items():
            T = self._tree.lookup(self._config.frames.base, frame_id) if frame_id and frame_id not in shared else None
            if T is not None:
                known[camera] = T
        same = known.keys() == self._rig.keys() and all(np.array_equal(T, self._rig[c]) for c, T in known.items())
        if not same:
            self._rig = known
            self._pipeline.set_rig(known)

    def _drop(self, error: FrameError) -> None:
        key = error.camera, error.reason
        self._unusable[key] += 1
        self.notes.setdefault(key, str(error))


def resolve(topic: str, namespace: str) -> str:
    """The full name of a topic of a node in ``namespace``, which has the name da3_node."""
    if topic.startswith("~/"):
        topic = f"da3_node/{topic[2:]}"
    return topic if topic.startswith("/") else "/" + "/".join(part for part in (namespace.strip("/"), topic) if part)
