"""What is wrong with tracking and scale, for /diagnostics."""

from __future__ import annotations

import math

from diagnostic_msgs.msg import DiagnosticStatus

from da3_ros.config import PipelineConfig
from da3_ros.datatypes import Estimate
from da3_ros.ros.findings import RECENT_S, Finding, Report, Sources
from da3_ros.tracking.records import TRACKING

_CONTRADICTED = {
    "rig": "scale, or the network sees the cameras in other directions from each other than /tf_static does,",
    "odometry": "scale, or the network sees the robot move in other directions,",
}
_FINE = ("started", "tracking", "still", "rotating")


def tracking_report(sources: Sources, now_s: float) -> Report:
    """The state of the frame odom, its scale and the rig; of the newest estimate."""
    estimate = sources.stats.last_estimate()
    refused = sources.stats.last_refused()
    findings = []
    if refused is not None and now_s - refused[1] < RECENT_S:
        findings.append(Finding(DiagnosticStatus.ERROR, "odometry refused", refused[0]))
    if sources.active() is None:
        return Report("tracking", "", "not active", (), {})
    if estimate is None or estimate.tracking is None:
        return Report("tracking", "", "no estimate yet", tuple(findings), {})
    tracking, scale = estimate.tracking, estimate.scale
    known = math.isfinite(scale.metres_per_unit)
    values: dict[str, object] = {
        "state": tracking.status,
        "scale source": scale.source,
        "metres per unit": scale.metres_per_unit,
        "scale deviation (%)": 100 * scale.stddev / scale.metres_per_unit if known else math.nan,
        "scale sources in this step": ", ".join(tracking.scale_sources) or "none",
        "overlap with older views (%)": 100 * tracking.overlap,
        "depth that agrees (%)": 100 * tracking.steady,
        "messages of odometry refused": sources.stats.counts()["odometry refused"],
        "starts of odom anew": sources.stats.counts()["starts of odom anew"],
    }
    for camera, angle in tracking.misfit_rad.items():
        values[f"{camera} against the body (deg)"] = math.degrees(angle)
    for camera, distance in tracking.misfit_m.items():
        values[f"{camera} against the body (cm)"] = 100 * distance
    summary = f"{tracking.status}, scale from {scale.source}"
    findings += _findings(sources.config, estimate)
    anew = sources.stats.last_anew()
    if anew is not None and now_s - anew[1] < RECENT_S and anew[0] != tracking.status:
        findings.append(Finding(DiagnosticStatus.WARN, f"{anew[0]} lately", TRACKING[anew[0]]))
    return Report("tracking", "", summary, tuple(findings), values)


def _findings(config: PipelineConfig, estimate: Estimate) -> list[Finding]:
    tracking, found = estimate.tracking, []
    assert tracking is not None
    if tracking.status not in _FINE:
        level = DiagnosticStatus.ERROR if tracking.status == "lost" else DiagnosticStatus.WARN
        found.append(Finding(level, tracking.status, TRACKING[tracking.status]))
    known = estimate.scale.source != "none" and config.frames.publish_tf
    if tracking.covariance is None and tracking.status != "lost" and known:
        text = "the way was lost once since the last reset, so odometry has no covariance: call ~/reset to start anew"
        found.append(Finding(DiagnosticStatus.WARN, "lost before", text))
    if estimate.scale.source == "none" and config.scale.source != "none":
        by_ways = (
            "publish the transforms of two cameras or more on /tf_static, give the robot's odometry (frames.publish_tf "
            "false)"
            if config.model.has_lengths
            else "take another model.variant, whose ways between cameras can be compared with those of the rig"
        )
        text = (
            "nothing gives metric scale: depth, clouds and poses are in a unit of their own, NOT metres, and "
            f"{config.frames.base} is taken to be where its camera is, in its own axes: {by_ways}, give "
            "scale.range_topic, or load a metric network (model.metric_checkpoint)"
        )
        found.append(Finding(DiagnosticStatus.WARN, "no metres", text))
    for source in tracking.scale_rejected:
        text = f"{source} contradicts the {_CONTRADICTED.get(source, 'scale')} and is left out of it"
        found.append(Finding(DiagnosticStatus.WARN, f"rejected {source}", text))
    for source in tracking.scale_jumped:
        found.append(Finding(DiagnosticStatus.WARN, f"jump {source}", f"the scale jumped to what {source} says"))
    return found
