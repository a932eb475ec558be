"""Writes what a replay gives, in parts: whoever is interrupted goes on behind the last whole part.

A part covers a fixed number of sets and ends with a chunk, so that the bytes do not depend on interruptions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rosbags.typesys.store import Typestore

from da3_ros.config import Config, to_flat
from da3_ros.egress.bag import BagWriter, DamagedError
from da3_ros.egress.estimates import EstimateMessages, output_topics
from da3_ros.egress.message_types import message_builder, message_types
from da3_ros.egress.path_bytes import PathBytes
from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.replay.estimates import ReplayedEstimate, resolve

PART_SETS = 100
_STATE, _RUN = "state.json", "run.json"
# What is being written, what is gone on with until that has it, and what is deleted then.
_WRITTEN, _BEFORE, _TAKEN_OVER = "written", "before", "taken over"


@dataclass(frozen=True)
class Progress:
    """What whole parts hold: ``sets`` sets, in the first ``size`` bytes; ``step`` is that of the last estimate and
    ``reset`` the first set since the last clock jump."""

    sets: int = 0
    step: int = 0
    reset: int = 0
    size: int = 0


class Recording:
    """The output ``path`` of one replay of ``bag``: with the suffix .mcap one file, else a rosbag2 folder.

    ``namespace`` is that of the node; ``passed`` are topics of ``bag`` that go through. ``run`` describes the run:
    parts that were left behind by an equal one are used. Raises InputError where ``path`` exists, where parts of
    another run lie beside it, and where a topic to pass has the name of an output.
    """

    def __init__(
        self, path: Path, bag: Bag, config: Config, namespace: str, passed: frozenset[str], run: Mapping[str, Any]
    ):
        if path.exists():
            raise InputError(f"{path} exists already: give another --output, or delete it")
        self._path, self._bag, self._config, self._passed = path, bag, config, passed
        self._folder = path.with_name(path.name + ".parts")
        self._names = {topic: resolve(topic, namespace) for topic in output_topics(config)}
        clash = sorted(passed & set(self._names.values()))
        if clash:
            raise InputError(f"the recording has a topic {clash[0]}, and so has the output: give a --namespace")
        self._messages = EstimateMessages(message_builder(), config)
        self._path_bytes = PathBytes()
        self._tf = config.frames.publish_tf and config.model.has_poses
        self.untranslated: set[str] = set()  # passed topics of ROS 1 whose types ROS 2 does not know
        self.done = self._earlier({**run, "config": to_flat(config), "namespace": namespace, "passed": sorted(passed)})
        self._step, self._reset = self.done.step, self.done.reset
        self._offset: int | None = None if self.done.sets else 0
        self._writing = not self.done.sets
        self._writer = BagWriter(self._folder / _WRITTEN, "recording" if path.suffix == ".mcap" else path.name)
        self._writer.__enter__()
        if self.done.sets:
            self._go_on()
        elif self._tf:
            static = message_builder().transforms(self._messages.static_transforms(bag.start_ns))
            self._write("/tf_static", bag.start_ns, static)

    @property
    def folder(self) -> Path:
        """Where the output grows until it is whole."""
        return self._folder

    @property
    def first(self) -> int:
        """The first set that the network must see: those before are in a part, and in no window that is to come.

        The frame odom, its scale and the anchors in the window go back to the last reset, and so does the choice of
        sets by ``window.skip_below``: from there on the network runs again. Where known cameras make every window
        stand for itself, the window is all that the pipeline remembers.
        """
        window = self._config.window
        if self._config.tracks or window.skip_below > 0:
            return self.done.reset
        first = max(self.done.reset, self.done.sets - window.sets)
        # The window advances by whole strides from the last reset on.
        return first - (first - self.done.reset) % window.stride

    def skip(self, number: int) -> bool:
        """Whether the network may leave set ``number`` out."""
        return number < self.first

    def pass_through(self, messages: Sequence[RawMessage]) -> None:
        """Write original messages, of topics that are to be passed."""
        for raw in messages if self._writing else ():
            data = self._bag.to_ros2(raw)
            if data is None:
                self.untranslated.add(raw.topic)
            else:
                kind = self._bag.topics[raw.topic].type
                self._writer.write_raw(raw.topic, kind, raw.receive_ns, data, self._bag.ros2_types())

    def boundary(self, number: int) -> None:
        """All that came of the sets before ``number``, a multiple of PART_SETS, has been written."""
        if self._writing and number:
            progress = Progress(number, self._step, self._reset, self._writer.flush())
            new = self._folder / f"{_STATE}.new"
            new.write_text(json.dumps(asdict(progress)))
            new.replace(self._folder / _STATE)
        self._writing = self._writing or number >= self.done.sets

    def reset(self, number: int) -> None:
        """Stamps went back before set ``number``."""
        if self._writing:
            self._reset, self._step = number, 0
            self._messages.forget_path()

    def write(self, replayed: ReplayedEstimate, description: Mapping[str, Any]) -> None:
        """Write an estimate; those of sets that are in a part already only filled the window."""
        corrected = self._messages.correction(replayed.estimate) if self._tf else []
        if not self._writing:
            return
        if corrected:
            self._write("/tf_static", replayed.receive_ns, message_builder().transforms(corrected))
        if self._offset is None:
            self._offset = self._step + 1 - replayed.estimate.step
        estimate = replace(replayed.estimate, step=replayed.estimate.step + self._offset)
        self._step = estimate.step
        if self._tf:
            transforms = self._messages.transforms(estimate)
            if transforms:
                self._write("/tf", replayed.receive_ns, message_builder().transforms(transforms))
        for topic, make_message in self._messages.of(estimate, description):
            if topic == "path" and topic in self._names:
                path = make_message()
                data = self._path_bytes.serialize(path)
                self._writer.write_raw(
                    self._names[topic], path.__msgtype__, replayed.receive_ns, data, message_types()
                )
            elif topic in self._names:
                self._write(self._names[topic], replayed.receive_ns, make_message())

    def finish(self) -> None:
        """Close the recording and bring it to its place."""
        self._writer.__exit__(None)
        try:
            (self._writer.file if self._path.suffix == ".mcap" else self._writer.path).rename(self._path)
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        shutil.rmtree(self._folder)

    def abort(self) -> None:
        """Leave the whole parts for the next run."""
        self._writer.__exit__(KeyboardInterrupt)

    def _write(self, topic: str, receive_ns: int, message: Any) -> None:
        self._writer.write(topic, receive_ns, message)

    def _earlier(self, run: Mapping[str, Any]) -> Progress:
        """How far an earlier equal run has come; what it has written is in the folder _BEFORE then."""
        text = json.dumps(run, sort_keys=True, default=str)
        file, state = self._folder / _RUN, self._folder / _STATE
        if not self._folder.exists():
            try:
                self._folder.mkdir(parents=True)
            except OSError as error:
                raise InputError(f"{self._folder} cannot be made: {error.strerror or error}") from error
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            raise InputError(
                f"{self._folder} belongs to another replay (of another recording, or with other parameters or weights)"
                ": delete it, or give another --output"
            )
        written, before = self._folder / _WRITTEN, self._folder / _BEFORE
        try:
            progress = Progress(**json.loads(state.read_text())) if state.is_file() else Progress()
            if progress.sets and not before.exists():
                written.rename(before)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{self._folder} is damaged ({error}): delete it") from error
        for rest in (written, self._folder / _TAKEN_OVER):
            shutil.rmtree(rest, ignore_errors=True)
        return progress

    def _go_on(self) -> None:
        """Take over the whole parts of the run before."""
        last: dict[str | None, bytes] = {}  # message of each topic that goes on

        def taken(topic: str, data: bytes) -> None:
            if topic in followed:
                last[topic] = data

        def types(topic: str) -> Typestore:
            return self._bag.ros2_types() if topic in self._passed else message_types()

        path, odometry = followed = [self._names.get(name) for name in ("path", "odometry")]
        before = self._folder / _BEFORE
        try:
            self._writer.take_over(before / self._writer.file.name, self.done.size, types, taken)
        except DamagedError as error:
            raise InputError(f"{error}: delete {self._folder}") from error
        before.rename(self._folder / _TAKEN_OVER)  # whole or gone, whenever this run is killed
        shutil.rmtree(self._folder / _TAKEN_OVER)
        if self.done.step:
            way: Any = message_types().deserialize_cdr(last[path], "nav_msgs/msg/Path") if path in last else None
            pose: Any = (
                message_types().deserialize_cdr(last[odometry], "nav_msgs/msg/Odometry") if odometry in last else None
            )
            self._messages.resume([] if way is None else way.poses, None if pose is None else pose.child_frame_id)
