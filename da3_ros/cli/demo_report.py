"""What a recording of the node says about a run: frames in, out and dropped, rate, latencies, which network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from da3_ros.cli.demo_bag import camera_info_topic, ground_truth_topic, image_topic
from da3_ros.cli.demo_sheet import Panels
from da3_ros.errors import UnavailableError
from da3_ros.evaluation.recorded_run import RecordedRun

# The pipeline's first stage is mostly the way of the pixels to the device, so that is what users call it.
_STAGE_NAMES = {"prepare": "upload"}
NO_POSES = "none: the network sees each view alone, or found no scale for them"


@dataclass(frozen=True)
class CameraCounts:
    """Frames of one camera: sent by the player, received by the node, published as depth, dropped on the way."""

    sent: int
    received: int
    out: int
    dropped: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """One run. ``estimates``: windows with poses; of a network without poses, depth images of its busiest camera."""

    cameras: Mapping[str, CameraCounts]
    sets: int
    estimates: int
    poses: bool  # whether the node published any
    rate_hz: float | None  # None with a single estimate
    latency_ms: Mapping[str, tuple[float, float]]  # stage -> p50, p95
    variant: str
    weights: str
    trained: bool
    device: str
    dtype: str
    scale_source: str
    topics: Mapping[str, int]  # recorded messages

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)


def read_report(recording: Path, sent: Mapping[str, int], sets: int, cameras: tuple[str, ...]) -> Report:
    """Make the report from the node's recorded topics; ``sent``: messages that the player sent, by topic.

    Raises UnavailableError when the node published no estimate, and when there is no recording.
    """
    try:
        with Reader(recording) as reader:
            topics = {connection.topic: connection.msgcount for connection in reader.connections}
    except (ReaderError, OSError) as error:
        raise UnavailableError(
            f"there is no recording of the node in {recording} ({' '.join(str(error).split())}): see "
            f"{recording.parent / 'recorder.log'}"
        ) from error
    run = RecordedRun(cameras)
    for topic, time_ns, message in _messages(recording, run.topics):
        run.take(topic, time_ns, message)
    if not run.estimates or not run.reported:
        raise UnavailableError("the node published no estimate: see its log")
    pipeline = run.status("pipeline")
    return Report(
        cameras={name: _camera_counts(name, sent, run, topics) for name in cameras},
        sets=sets,
        estimates=run.estimates,
        poses=run.has_windows,
        rate_hz=run.rate_hz,
        latency_ms={_STAGE_NAMES.get(stage, stage): times for stage, times in run.latency_ms.items()},
        variant=pipeline["model variant"],
        weights=pipeline.get("model checkpoint", "unknown"),
        trained=pipeline["model weights_trained"] == "True",
        device=pipeline.get("model device", "unknown"),
        dtype=pipeline.get("model dtype", "unknown"),
        scale_source=pipeline["model scale"],
        topics=dict(sorted(topics.items())),
    )


def _camera_counts(
    name: str, sent: Mapping[str, int], run: RecordedRun, topics: Mapping[str, int]
) -> CameraCounts:
    sent_images = sum(sent.get(image_topic(name, transport), 0) for transport in ("raw", "compressed"))
    out = topics.get(f"/{name}/depth/image_rect", 0)
    return CameraCounts(
        sent=sent_images,
        received=int(run.status(f"camera {name}").get("images received", 0)),
        out=out,
        dropped=sent_images - out,
        reasons=run.dropped(name),
    )


def table(report: Report, title: str, pace: str) -> str:
    """The figures for a terminal."""
    width = max(10, *map(len, (*report.cameras, *report.latency_ms)))
    lines = [title, f"{'frames':<{width}} {'sent':>8} {'received':>9} {'out':>8} {'dropped':>8}"]
    for name, counts in report.cameras.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.reasons.items())
        lines.append(
            f"{name:<{width}} {counts.sent:>8} {counts.received:>9} {counts.out:>8} {counts.dropped:>8}"
            + (f"  ({reasons})" if reasons else "")
        )
    lines.append(f"{'latency':<{width}} {'p50 ms':>8} {'p95 ms':>9}")
    for stage, (p50, p95) in report.latency_ms.items():
        lines.append(f"{stage:<{width}} {p50:>8.1f} {p95:>9.1f}")
    scale = "none: lengths are in the network's own unit" if report.scale_source == "none" else report.scale_source
    rate = "" if report.rate_hz is None else f"{report.rate_hz:.2f} sets a second, "
    facts = {
        "rate": f"{rate}{report.estimates} estimates from {report.sets} sets ({pace})",
        "device": f"{report.device}, {report.dtype}",
        "model": report.variant,
        "weights": report.weights if report.trained else f"{report.weights}: the numbers mean nothing",
        "scale": scale,
    }
    if not report.poses:
        facts["poses"] = NO_POSES
    return "\n".join(lines + [f"{name:<{width}} {fact}" for name, fact in facts.items()])


def read_panels(
    sequence: Path, recording: Path, cameras: tuple[str, ...], moments: int
) -> list[tuple[int, dict[str, Panels]]]:
    """Images and maps of up to ``moments`` evenly spaced stamps (ns) for which every camera has a depth image.

    Raises UnavailableError when the recording is of something else.
    """
    maps: dict[int, dict[tuple[str, str], np.ndarray]] = defaultdict(dict)
    wanted = {
        f"/{name}/{topic}": (name, kind)
        for name in cameras
        for topic, kind in (("depth/image_rect", "depth"), ("confidence", "confidence"))
    }
    _collect(recording, wanted, maps)
    complete = [stamp for stamp in sorted(maps) if all((name, "depth") in maps[stamp] for name in cameras)]
    chosen = [complete[round(i)] for i in np.linspace(0, len(complete) - 1, min(moments, len(complete)))]
    shown = {stamp: maps[stamp] for stamp in chosen}
    pictures = {ground_truth_topic(name): (name, "true depth") for name in cameras}
    pictures |= {image_topic(name, kind): (name, "rgb") for name in cameras for kind in ("raw", "compressed")}
    _collect(sequence, pictures, shown, only=True)
    if any((name, "rgb") not in shown[stamp] for stamp in chosen for name in cameras):
        raise UnavailableError(
            "the recording holds answers to images that were not sent: somebody else publishes in the same ROS domain; "
            "choose another ROS_DOMAIN_ID"
        )
    regions = _regions(sequence, recording, cameras)
    return [
        (
            stamp,
            {
                name: Panels(
                    shown[stamp][name, "rgb"], shown[stamp].get((name, "true depth")),
                    shown[stamp].get((name, "depth")), shown[stamp].get((name, "confidence")),
                    **({"region": regions[name]} if name in regions else {}),
                )
                for name in cameras
            },
        )
        for stamp in chosen
    ]  # fmt: skip


def _regions(sequence: Path, recording: Path, cameras: tuple[str, ...]) -> dict[str, tuple[float, float, float, float]]:
    """Which part of its image each camera's depth shows, from the intrinsics of both (distortion left aside)."""
    topics = {camera_info_topic(name): name for name in cameras}
    images = {topics[topic]: info for topic, _, info in _messages(sequence, set(topics))}
    topics = {f"/{name}/depth/camera_info": name for name in cameras}
    depths = {topics[topic]: info for topic, _, info in _messages(recording, set(topics))}
    regions = {}
    for name in images.keys() & depths.keys():
        image, depth = images[name], depths[name]
        corners = np.array([[-0.5, -0.5], [depth.width - 0.5, depth.height - 0.5]])
        rays = (corners - depth.k[[2, 5]]) / depth.k[[0, 4]]
        pixels = rays * image.k[[0, 4]] + image.k[[2, 5]] + 0.5
        regions[name] = tuple((pixels / (image.width, image.height)).reshape(-1).tolist())
    return regions


def _collect(
    bag: Path,
    wanted: Mapping[str, tuple[str, str]],
    maps: dict[int, dict[tuple[str, str], np.ndarray]],
    only: bool = False,
) -> None:
    """Add the images on the topics ``wanted`` to ``maps`` by stamp; ``only`` to stamps that are there already."""
    for topic, _, message in _messages(bag, set(wanted)):
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        if not only or stamp in maps:
            maps[stamp][wanted[topic]] = _pixels(message)


def _pixels(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 or (H, W) float32 of the images that the demo writes and the node publishes."""
    if not hasattr(message, "encoding"):
        import io

        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(message.data.tobytes())).convert("RGB"))
    if message.encoding == "rgb8":
        return message.data.reshape(message.height, message.width, 3)
    if message.encoding == "16UC1":
        millimetres = message.data.view(np.uint16).reshape(message.height, message.width)
        return np.where(millimetres == 0, np.nan, millimetres / 1000).astype(np.float32)
    return message.data.view(np.float32).reshape(message.height, message.width)


def _messages(bag: Path, topics: set[str]) -> Iterator[tuple[str, int, Any]]:
    """Topic, recorded time (ns) and message of everything on ``topics``."""
    with Reader(bag) as reader:
        chosen = [connection for connection in reader.connections if connection.topic in topics]
        store = get_typestore(Stores.ROS2_KILTED)
        for connection in chosen:
            if connection.msgtype not in store.types:
                store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, time_ns, data in reader.messages(chosen):
            yield connection.topic, time_ns, store.deserialize_cdr(data, connection.msgtype)
