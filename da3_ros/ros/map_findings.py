"""Keyframes, loops and map, for /diagnostics."""

from __future__ import annotations

import math

from diagnostic_msgs.msg import DiagnosticStatus

from da3_ros.ros.findings import Finding, Report, Sources

_MIB = 1 << 20


def map_report(sources: Sources) -> Report:
    """What the drive has left behind; of the newest estimate."""
    estimate = sources.stats.last_estimate()
    if estimate is None or estimate.mapping is None or sources.active() is None:
        return Report("map", "", "no estimate yet" if sources.active() is not None else "not active", (), {})
    report = estimate.mapping.report
    values: dict[str, object] = {
        "keyframes": report.keyframes,
        "keyframe memory (MiB)": report.keyframe_bytes / _MIB,
        "voxels": report.voxels,
        "loops": report.loops,
        "windows across two places": report.windows,
        "map -> odom (m)": report.correction_m,
        "map -> odom (deg)": math.degrees(report.correction_rad),
        "restarts, where odom began anew": report.restarts,
        "steps left out of keyframes": report.left_out,
    }
    values |= {f"refused, {reason}": count for reason, count in report.refused.items()}
    values |= {f"{part} longest (ms)": duration for part, duration in report.durations_ms.items()}
    findings = []
    if report.map_full:
        text = f"the map is full with {report.voxels} voxels: raise map.max_voxels or map.voxel_m"
        findings.append(Finding(DiagnosticStatus.WARN, "map full", text))
    summary = f"{report.keyframes} keyframes, {report.loops} loops, {report.voxels} voxels"
    return Report("map", "", summary, tuple(findings), values)
