"""What is wrong, from the counters: which camera, since when, why, and what to change. No messages are made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticStatus

from da3_ros.config import Config
from da3_ros.ingest.sync_statistics import CameraStatistics
from da3_ros.ros.stats import CameraRecord, Stats

# A dropped frame counts as the camera's present state for so long.
RECENT_S = 5.0
_LEFT_OUT = ", so its images are left out"
# Images that reach the node this much after those of the other cameras hold every set up noticeably.
_LATE_S = 0.1


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``key`` names its kind, so that the log can be throttled by it."""

    level: bytes
    key: str
    text: str


@dataclass(frozen=True)
class Report:
    """The state of one part of the node; ``summary`` is its message while there are no findings."""

    name: str
    hardware_id: str
    summary: str
    findings: tuple[Finding, ...]
    values: Mapping[str, object]


class Network(Protocol):
    """What reports ask of the ROS graph, of the synchronizer and of TF while the node is active."""

    since_s: float  # when it became active

    def explain_images(self, camera: str) -> str:
        """Why no image of ``camera`` arrives."""

    def explain_info(self, camera: str) -> str:
        """Why no CameraInfo of ``camera`` arrives."""

    def publishers(self, camera: str) -> str:
        """Who publishes images of ``camera``, with the QoS that they offer, and what is requested."""

    def sync_statistics(self) -> Mapping[str, CameraStatistics]:
        """The synchronizer's view of each camera."""

    def recent_drops(self, camera: str) -> Mapping[str, int]:
        """Reason -> images that the synchronizer dropped lately."""

    def rig_problems(self) -> Mapping[str, str]:
        """Camera -> why its place on the robot is not known."""


@dataclass(frozen=True)
class Sources:
    """Where reports take their facts from. ``active`` gives None while the node is not active."""

    config: Config
    stats: Stats
    description: Mapping[str, Any]
    active: Callable[[], Network | None]
    listened: Callable[[], list[str]]


def camera_report(sources: Sources, camera: str, now_s: float) -> Report:
    """The state of one camera."""
    record = sources.stats.camera(camera)
    values: dict[str, object] = {
        "rate (Hz)": record.rate.hz(now_s),
        "images received": record.received,
        "age of last image (s)": "none yet" if record.last_arrival_s is None else now_s - record.last_arrival_s,
        "last stamp (ns)": "none yet" if record.last_stamp_ns is None else record.last_stamp_ns,
        "frame_id": sources.config.camera_config(camera).frame_id or record.frame_id,
        "CameraInfo": _info_state(sources.config, camera, record),
    }
    network = sources.active()
    if network is None:
        return Report(f"camera {camera}", camera, "not active", (), values)
    statistics = network.sync_statistics().get(camera)
    dropped = dict(record.dropped)
    if statistics is not None:
        dropped |= statistics.dropped
        values["in sets"] = statistics.matched
        values["stamps later than other cameras (ms)"] = _milliseconds(statistics.skew_ns)
    values["images dropped"] = sum(dropped.values())
    values |= {f"dropped: {reason}": count for reason, count in sorted(dropped.items())}
    values["last error"] = record.last_error or "none"
    values["publishers"] = network.publishers(camera)
    findings = _image_findings(sources, network, camera, record, now_s)
    findings += _drop_findings(network.recent_drops(camera))
    findings += _sync_findings(sources.config, network.sync_statistics(), camera)
    problem = network.rig_problems().get(camera)
    if problem:
        findings.append(Finding(DiagnosticStatus.WARN, "rig", problem))
    warning = sources.stats.warning(camera)
    if warning:
        findings.append(Finding(DiagnosticStatus.WARN, "calibration", warning))
    return Report(f"camera {camera}", camera, f"{record.rate.hz(now_s):.1f} Hz", tuple(findings), values)


def _image_findings(
    sources: Sources, network: Network, camera: str, record: CameraRecord, now_s: float
) -> list[Finding]:
    """Silence, missing calibration, frames that cannot be used."""
    since_s = network.since_s
    limit_s = sources.config.diagnostics.silent_after_s
    last_s = record.last_arrival_s
    silent_s = now_s - (since_s if last_s is None else max(last_s, since_s))
    if silent_s > limit_s:
        what = "no image yet, for" if last_s is None else "no image for"
        text = f"{what} {silent_s:.1f} s: {network.explain_images(camera)}"
        return [Finding(DiagnosticStatus.ERROR, "silent", text)]
    findings = []
    if _expects_info(sources.config, camera) and not record.info_received and now_s - since_s > limit_s:
        text = (
            f"images come, but no CameraInfo: {network.explain_info(camera)}; for intrinsics from the network set "
            f"camera.{camera}.camera_info_topic to 'none'"
        )
        findings.append(Finding(DiagnosticStatus.ERROR, "no CameraInfo", text))
    elif record.last_error_s is not None and now_s - record.last_error_s < RECENT_S:
        text = f"{record.last_error} ({record.dropped[record.last_error_reason]} frames dropped so far)"
        findings.append(Finding(DiagnosticStatus.ERROR, "frames dropped", text))
    return findings


def _drop_findings(recent: Mapping[str, int]) -> list[Finding]:
    """Stamps that do not increase, and waiting that was too much for the queue."""
    texts = {
        "backward": "had stamps older than the image before: the driver must stamp images in the order it sends them",
        "duplicate": "had the stamp of the image before: the driver must stamp every image, or two publish this topic",
        "queue": "were dropped while they waited for the other cameras: raise sync.queue, or look for the late camera",
    }
    return [
        Finding(DiagnosticStatus.WARN, reason, f"{recent[reason]} of the last images {text}")
        for reason, text in texts.items()
        if reason in recent
    ]


def _sync_findings(config: Config, statistics: Mapping[str, CameraStatistics], camera: str) -> list[Finding]:
    """Stamps that fit no other camera's, and images that arrive after everybody else's."""
    own = statistics.get(camera)
    if own is None or not own.alive:
        return []
    findings = []
    if own.skew_ns is not None and abs(own.skew_ns) > config.sync.slop_s * 1e9:
        direction = "later" if own.skew_ns > 0 else "earlier"
        mend = "synchronize the cameras' clocks"
        if not own.other_clock:
            mend += " or triggers, or raise sync.slop_s"
        text = (
            f"stamps are {_duration(own.skew_ns)} {direction} than those of the other cameras, more than "
            f"sync.slop_s ({config.sync.slop_s * 1e3:.0f} ms){_LEFT_OUT if own.other_clock else ''}: {mend}"
        )
        findings.append(Finding(DiagnosticStatus.WARN, "skew", text))
        return findings  # arrival minus stamp then tells of the clock, not of lateness
    others = [
        other.delay_ns
        for name, other in statistics.items()
        if name != camera and other.alive and not other.other_clock and other.delay_ns is not None
    ]
    if own.delay_ns is not None and others:
        late_s = (own.delay_ns - max(others)) / 1e9
        if late_s > _LATE_S:
            text = (
                f"the late camera: its images arrive {late_s * 1e3:.0f} ms after those of all others, which wait for "
                "it; look at its driver, its exposure and its network"
            )
            findings.append(Finding(DiagnosticStatus.WARN, "late", text))
    return findings


def sync_report(sources: Sources, now_s: float) -> Report:
    """The state of the synchronizer: which cameras the sets have, and what was lost."""
    network = sources.active()
    if network is None:
        return Report("synchronization", "", "not active", (), {})
    statistics = network.sync_statistics()
    counts = sources.stats.counts()
    silent = [camera for camera, own in statistics.items() if not own.alive]
    left_out = [
        camera if camera in silent else f"{camera} ({_clock_difference(own)})"
        for camera, own in statistics.items()
        if camera in silent or own.other_clock
    ]
    late = max(statistics, key=lambda camera: statistics[camera].completed_sets)
    values: dict[str, object] = {
        "sets": counts["sets"],
        "clock jumps": counts["clock jumps"],
        "last to arrive": f"{late} ({statistics[late].completed_sets} sets)",
        "cameras not waited for": ", ".join(left_out) or "none",
    }
    findings = []
    jump = sources.stats.last_jump()
    if jump is not None and now_s - jump[1] < RECENT_S:
        findings.append(Finding(DiagnosticStatus.WARN, "clock jump", jump[0]))
    if now_s - network.since_s > sources.config.diagnostics.silent_after_s:
        findings += _set_findings(sources.config, network, left_out, now_s)
    return Report("synchronization", "", f"{counts['sets']} sets", tuple(findings), values)


def _set_findings(config: Config, network: Network, left_out: Sequence[str], now_s: float) -> list[Finding]:
    """No sets, or sets without the cameras ``left_out`` (described)."""
    statistics = network.sync_statistics()
    present = [camera for camera, own in statistics.items() if own.alive and not own.other_clock]
    if len(present) < config.sync.min_cameras:
        silent = [camera for camera, own in statistics.items() if not own.alive]
        strange = [text for text in left_out if text not in silent]
        text = (
            f"only {len(statistics) - len(silent)} of {len(statistics)} cameras send, and sync.min_cameras is "
            f"{config.sync.min_cameras}: no sets"
        )
        if strange:
            text = (
                f"only {len(present)} of {len(statistics)} cameras can be in a set, and sync.min_cameras is "
                f"{config.sync.min_cameras}: no sets; not waited for: {', '.join(strange)}"
            )
        if silent:
            text += f"; silent: {', '.join(silent)}"
        return [Finding(DiagnosticStatus.ERROR, "too few cameras", text)]
    ages_s = [own.match_age_ns / 1e9 for own in statistics.values() if own.match_age_ns is not None]
    no_set_s = min([now_s - network.since_s, *ages_s])
    if no_set_s > config.diagnostics.silent_after_s:
        return [Finding(DiagnosticStatus.ERROR, "no sets", _why_no_set(config, network, present, no_set_s))]
    if left_out:
        return [Finding(DiagnosticStatus.WARN, "cameras missing", f"sets go on without {', '.join(left_out)}")]
    return []


def _why_no_set(config: Config, network: Network, present: Sequence[str], no_set_s: float) -> str:
    """The cameras whose images fit no others', and by how much their stamps differ."""
    statistics = network.sync_statistics()
    head = f"{', '.join(present)} send, but no images have fitted together for {no_set_s:.1f} s"
    misfits = []
    for camera in present:
        lost = network.recent_drops(camera).get("unmatched", 0)
        if not lost:
            continue
        own = statistics[camera]
        text = f"{camera}: {lost} of the last images fit no others'"
        if own.skew_ns is not None:
            text += f", nearest stamps {_duration(own.skew_ns)} away"
        others = [statistics[name].delay_ns for name in present if name != camera]
        delays = [delay_ns for delay_ns in others if delay_ns is not None]
        if own.delay_ns is not None and delays:
            # Of images that arrive together, which tells more than the nearest stamps: those repeat every period.
            text += f", {_relative(median_low(delays) - own.delay_ns)} on arrival"
        misfits.append(text)
    if not misfits:
        return f"{head}: raise sync.queue or sync.slop_s, or look for the late camera"
    return (
        f"{head} within sync.slop_s ({config.sync.slop_s * 1e3:.0f} ms); {'; '.join(misfits)}: synchronize the "
        "cameras' clocks or triggers, or raise sync.slop_s"
    )


def _clock_difference(own: CameraStatistics) -> str:
    return "another clock" if own.skew_ns is None else f"its clock is {_relative(own.skew_ns)}"


def _relative(nanoseconds: int) -> str:
    return f"{_duration(nanoseconds)} {'ahead' if nanoseconds > 0 else 'behind'}"


def _duration(nanoseconds: int) -> str:
    """The size of a time difference, in ms or, when that would be unreadable, in s."""
    size = abs(nanoseconds)
    return f"{size / 1e6:.0f} ms" if size < 10_000_000_000 else f"{size / 1e9:.0f} s"


def pipeline_report(sources: Sources, now_s: float) -> Report:
    """The state of the network: rate, stage times, drops, and which model it is."""
    stats, description = sources.stats, sources.description
    hz = stats.step_hz(now_s)
    values: dict[str, object] = {"rate (Hz)": hz}
    for name, value in description.items():
        values[f"model {name}"] = value
    values["topics with listeners"] = ", ".join(sources.listened())
    for name, count in sorted(stats.counts().items()):
        values[name] = count
    for name, times in stats.stages().items():
        values[f"{name} p50 (ms)"] = times.p50
        values[f"{name} p95 (ms)"] = times.p95
    findings = []
    if not description["weights_trained"]:
        text = "the weights are random: all depths and poses are meaningless; set model.checkpoint"
        findings.append(Finding(DiagnosticStatus.WARN, "untrained", text))
    summary = f"{hz:.1f} Hz, {description['variant']} on {description['device']}"
    state = summary if sources.active() is not None else "not active"
    return Report("pipeline", str(description["device"]), state, tuple(findings), values)


def _expects_info(config: Config, camera: str) -> bool:
    return config.camera_info_topic(camera) is not None


def _info_state(config: Config, camera: str, record: CameraRecord) -> str:
    if not _expects_info(config, camera):
        return "not used: intrinsics from the network"
    return f"{record.info_received} received" if record.info_received else "none yet"


def _milliseconds(nanoseconds: int | None) -> object:
    return "unknown" if nanoseconds is None else nanoseconds / 1e6
