"""Writes what a replay gives, in parts: whoever is interrupted goes on behind the last whole part.

A part covers a fixed number of sets, so that its bytes do not depend on interruptions; at the end all parts become
one recording.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from da3_ros.config import Config, to_flat
from da3_ros.egress.bag import BagWriter, message_builder, message_types, new_recording
from da3_ros.egress.estimates import EstimateMessages, output_topics
from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.replay.estimates import ReplayedEstimate, resolve

PART_SETS = 100
_STATE, _RUN = "state.json", "run.json"


@dataclass(frozen=True)
class Progress:
    """What whole parts hold: ``sets`` sets; ``step`` is that of the last estimate and ``reset`` the first set since
    the last clock jump."""

    sets: int = 0
    step: int = 0
    reset: int = 0
    parts: int = 0


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
        self._tf = config.frames.publish_tf and config.model.has_poses
        self.untranslated: set[str] = set()  # passed topics of ROS 1 whose types ROS 2 does not know
        self.done = self._resume({**run, "config": to_flat(config), "namespace": namespace, "passed": sorted(passed)})
        self._step, self._reset, self._part = self.done.step, self.done.reset, self.done.parts
        self._offset: int | None = None if self.done.sets else 0
        self._writer: BagWriter | None = None
        if not self.done.sets:
            self._open_part()
            if self._tf:
                static = message_builder().transforms(self._messages.static_transforms(bag.start_ns))
                self._write("/tf_static", bag.start_ns, static)

    def skip(self, number: int) -> bool:
        """Whether the network may leave set ``number`` out: it is in a part, and in no window that is still to come.

        The frame odom, its scale and the anchors in the window go back to the last reset, and so does the choice of
        sets by ``window.skip_below``: from there on the network runs again. Where known cameras make every window
        stand for itself, the window is all that the pipeline remembers.
        """
        window = self._config.window
        if self._config.tracks or window.skip_below > 0:
            return number < self.done.reset
        first = max(self.done.reset, self.done.sets - window.sets)
        # The window advances by whole strides from the last reset on.
        return number < first - (first - self.done.reset) % window.stride

    def pass_through(self, raw: RawMessage) -> None:
        """Write an original message, if its topic is to be passed."""
        if self._writer is None or raw.topic not in self._passed:
            return
        data = self._bag.to_ros2(raw)
        if data is None:
            self.untranslated.add(raw.topic)
        else:
            kind = self._bag.topics[raw.topic].type
            self._writer.write_raw(raw.topic, kind, raw.receive_ns, data, self._bag.ros2_types())

    def boundary(self, number: int) -> None:
        """All that came of the sets before ``number``, a multiple of PART_SETS, has been written."""
        if self._writer is not None and number:
            self._close_part(number)
        if self._writer is None and number >= self.done.sets:
            self._open_part()

    def reset(self, number: int) -> None:
        """Stamps went back before set ``number``."""
        if self._writer is not None:
            self._reset, self._step = number, 0
            self._messages.forget_path()

    def write(self, replayed: ReplayedEstimate, description: Mapping[str, Any]) -> None:
        """Write an estimate; those of sets that are in a part already only filled the window."""
        corrected = self._messages.correction(replayed.estimate) if self._tf else []
        if self._writer is None:
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
            if topic in self._names:
                self._write(self._names[topic], replayed.receive_ns, make_message())

    def finish(self, sets: int) -> None:
        """Close the last part and make one recording of all."""
        if self._writer is not None:
            self._close_part(sets)
        with new_recording(self._path) as writer:
            for number in range(self._part):
                part = Bag([self._part_folder(number)])
                for raw in part.raw():
                    kind = part.topics[raw.topic].type
                    writer.write_raw(raw.topic, kind, raw.receive_ns, raw.data, part.ros2_types())
        shutil.rmtree(self._folder)

    def abort(self) -> None:
        """Give up the part that is not whole."""
        if self._writer is not None:
            self._writer.__exit__(KeyboardInterrupt)
            self._writer = None

    def _write(self, topic: str, receive_ns: int, message: Any) -> None:
        assert self._writer is not None
        self._writer.write(topic, receive_ns, message)

    def _part_folder(self, number: int) -> Path:
        return self._folder / f"part_{number:05d}"

    def _open_part(self) -> None:
        folder = self._part_folder(self._part)
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = BagWriter(folder).__enter__()

    def _close_part(self, sets: int) -> None:
        assert self._writer is not None
        self._writer.__exit__(None)
        self._writer = None
        progress = Progress(sets, self._step, self._reset, self._part + 1)
        (self._part_folder(self._part) / _STATE).write_text(json.dumps(asdict(progress)))
        self._part += 1

    def _resume(self, run: Mapping[str, Any]) -> Progress:
        """What an earlier equal run has done."""
        text = json.dumps(run, sort_keys=True, default=str)
        file = self._folder / _RUN
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
        progress = Progress()
        while (state := self._part_folder(progress.parts) / _STATE).is_file():
            progress = Progress(**json.loads(state.read_text()))
        self._messages.resume_path(self._last_path(progress) if progress.step else ())
        return progress

    def _last_path(self, progress: Progress) -> list[Any]:
        """Poses of the newest path in the parts."""
        topic = self._names.get("path")
        for number in reversed(range(progress.parts)):
            part = Bag([self._part_folder(number)])
            if topic in part.topics:
                *_, last = part.raw([topic])
                message: Any = message_types().deserialize_cdr(last.data, part.topics[topic].type)
                return message.poses
        return []
