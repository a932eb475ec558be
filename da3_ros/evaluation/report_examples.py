"""Depth maps that the report shows: some at even distances in time, and the worst one, small and as PNG data URIs."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.depth import fit_depth, pair_depths
from da3_ros.evaluation.even import EvenlyKept
from da3_ros.evaluation.score import EstimatedFrame, SeenFrame
from da3_ros.evaluation.stamped import stamp_of
from da3_ros.evaluation.truth import depth_at_truth
from da3_ros.ingest.bag import Bag
from da3_ros.replay.progress import watched_messages

_EVEN = 5  # of each camera
_LONGEST_SIDE = 320  # of the maps
_NO_VALUE = (128, 128, 128)


@dataclass(frozen=True)
class DepthExample:
    """One frame, (h, w) each. With truth all is at the true depth's pixels, and ``depth`` is times ``scale``, the ratio
    of the medians; ``error``: |depth - true| / true, its mean ``abs_rel``. Without: as the network gives it."""

    camera: str
    stamp_ns: int
    depth: np.ndarray
    confidence: np.ndarray | None = None
    true: np.ndarray | None = None
    error: np.ndarray | None = None
    scale: float = 1.0
    abs_rel: float = float("nan")
    picture: np.ndarray | None = None  # (h, w, 3) uint8 BGR


class DepthExamples:
    """Keeps few of the frames that it is shown, however long the recording is."""

    def __init__(self, max_depth: float = float("inf")):
        self._max_depth = max_depth
        self._even: dict[str, EvenlyKept[DepthExample]] = {}
        self._worst: dict[str, DepthExample] = {}

    def add(self, seen: SeenFrame) -> None:
        """The next frame of its camera."""
        camera = seen.estimate.camera
        even = self._even.setdefault(camera, EvenlyKept(_EVEN))
        wanted = even.next_is_wanted()
        if seen.true is None and not wanted:
            return
        example = self._example(seen.estimate, seen.true, seen.calibration)
        if wanted or self._is_worst(example):
            example = replace(example, confidence=_confidence(seen))
        self._compare(example)
        if wanted:
            even.keep(example)

    def merge(self, later: DepthExamples) -> None:
        """Take over those of ``later``, whose frames come after those that were seen here."""
        for camera, examples in later._even.items():
            self._even.setdefault(camera, EvenlyKept(_EVEN)).extend(examples.kept)
        for worst in later._worst.values():
            self._compare(worst)

    def chosen(self) -> list[tuple[str, DepthExample]]:
        """What to show, each with why: by camera and time, and the worst one of a camera after the others, unless it
        is among them."""
        found = []
        for camera, examples in self._even.items():
            worst = self._worst.get(camera)
            shown = [*examples.kept]
            if worst is not None and worst.stamp_ns not in [example.stamp_ns for example in shown]:
                shown.append(worst)
            found += [
                ("worst frame" if worst is not None and example.stamp_ns == worst.stamp_ns else "", example)
                for example in shown
            ]
        return found

    def _compare(self, example: DepthExample) -> None:
        if self._is_worst(example):
            self._worst[example.camera] = example

    def _is_worst(self, example: DepthExample) -> bool:
        """Of its camera, so far."""
        worst = self._worst.get(example.camera)
        return bool(np.isfinite(example.abs_rel)) and (worst is None or example.abs_rel > worst.abs_rel)

    def _example(self, frame: EstimatedFrame, true: np.ndarray | None, calibration: CameraCalibration) -> DepthExample:
        if true is None:
            step = _step(frame.depth)
            return DepthExample(frame.camera, frame.stamp_ns, frame.depth[::step, ::step].copy())
        step = _step(true)
        depth = depth_at_truth(frame.depth, frame.K, true.shape, calibration, step)
        true = true[::step, ::step]
        true = np.where(true <= self._max_depth, true, np.nan)
        scale, _ = fit_depth(pair_depths(depth, true), "median")
        depth = depth * np.float32(scale if np.isfinite(scale) else 1.0)
        error = np.where(np.isfinite(depth), np.abs(depth - true) / true, np.nan)
        abs_rel = float(np.nanmean(error)) if np.isfinite(error).any() else float("nan")
        return DepthExample(frame.camera, frame.stamp_ns, depth, None, true, error, scale, abs_rel)


def _confidence(seen: SeenFrame) -> np.ndarray | None:
    """At the pixels of the example of a frame."""
    frame, true = seen.estimate, seen.true
    if frame.confidence is None:
        return None
    if true is None:
        step = _step(frame.depth)
        return frame.confidence[::step, ::step].copy()
    return depth_at_truth(frame.confidence, frame.K, true.shape, seen.calibration, _step(true))


def read_pictures(
    bag: Bag, topics: dict[str, str], wanted: Collection[tuple[str, int]]
) -> tuple[dict[tuple[str, int], np.ndarray], list[str]]:
    """Small pictures (h, w, 3) uint8 BGR by camera and stamp, from the image ``topics`` of the cameras.

    Also, in sentences, which of those that are ``wanted`` cannot be shown.
    """
    # Imported here: only the report converts pictures on the CPU.
    from rosbags.image import ImageError, message_to_cvimage

    cameras = {topic: camera for camera, topic in topics.items()}
    pictures: dict[tuple[str, int], np.ndarray] = {}
    notes = []
    for found in watched_messages(bag, cameras.keys() & bag.topics.keys(), "pictures for the page") if wanted else ():
        key = cameras[found.topic], stamp_of(found.message)
        if key in wanted and key not in pictures:
            try:
                pixels: Any = message_to_cvimage(found.message, "bgr8")
            except (ImageError, cv2.error, ValueError) as error:  # what only the node's own converter reads
                kind = getattr(found.message, "encoding", "") or getattr(found.message, "format", "")
                notes.append(
                    f"the picture of {key[0]} with stamp {key[1]} is not shown: its encoding '{kind}' cannot be "
                    f"converted ({' '.join(str(error).split()) or type(error).__name__})"
                )
                continue
            scale = min(1.0, _LONGEST_SIDE / max(pixels.shape[:2]))
            pictures[key] = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return pictures, notes


def with_pictures(
    examples: Sequence[tuple[str, DepthExample]], pictures: Mapping[tuple[str, int], np.ndarray]
) -> list[tuple[str, DepthExample]]:
    """The same with the pictures that belong to them."""
    return [(why, replace(each, picture=pictures.get((each.camera, each.stamp_ns)))) for why, each in examples]


def value_range(*maps: np.ndarray | None) -> tuple[float, float]:
    """The 2nd and the 98th percentile of the finite values, for the colours; (0, 1) where there are none."""
    finite = np.concatenate([each[np.isfinite(each)] for each in maps if each is not None])
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (2, 98)).tolist()
    return low, max(high, low + 1e-6)


def coloured(values: np.ndarray, span: tuple[float, float], palette: int) -> np.ndarray:
    """(h, w, 3) uint8 BGR of ``values``: ``span`` over one of OpenCV's palettes, grey where they are not finite."""
    finite = np.isfinite(values)
    part = (np.where(finite, values, span[0]) - span[0]) / (span[1] - span[0])
    colours = cv2.applyColorMap((np.clip(part, 0, 1) * 255).round().astype(np.uint8), palette)
    colours[~finite] = _NO_VALUE
    return colours


def png_uri(pixels: np.ndarray) -> str:
    """A data URI of (h, w, 3) uint8 BGR."""
    written, data = cv2.imencode(".png", pixels)
    if not written:
        raise InputError(f"an image of shape {pixels.shape} cannot be written as PNG")
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"


def _step(values: np.ndarray) -> int:
    return -(-max(values.shape) // _LONGEST_SIDE)
