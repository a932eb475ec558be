"""The node's state on /diagnostics, one status for each camera, the synchronizer and the pipeline, and in the log.

What is wrong is worked out in ``findings``; here it becomes messages and, throttled, log lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from da3_ros.config import Config
from da3_ros.ros.findings import Finding, Report, Sources, camera_report, pipeline_report, sync_report
from da3_ros.ros.log import Throttle
from da3_ros.ros.map_findings import map_report
from da3_ros.ros.tracking_findings import tracking_report

_LOG_PERIOD_S = 10.0


class Diagnostics:
    """Reports every ``config.diagnostics.period_s`` from the moment it is made until ``close``."""

    def __init__(self, node: Node, config: Config, sources: Sources):
        self._node = node
        self._config = config
        self._sources = sources
        self._throttle = Throttle(_LOG_PERIOD_S)
        self._open: dict[str, set[str]] = {}  # status name -> keys of the findings that it had last time
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady: reports go on while simulated time stands still.
        self._timer = node.create_timer(
            config.diagnostics.period_s, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def report(self) -> None:
        """Publish the state of now and log what is wrong."""
        now_s = time.monotonic()
        reports = [camera_report(self._sources, camera, now_s) for camera in self._config.cameras]
        reports += [sync_report(self._sources, now_s), pipeline_report(self._sources, now_s)]
        if self._config.tracks:
            reports.append(tracking_report(self._sources, now_s))
        if self._config.maps:
            reports.append(map_report(self._sources))
        message = DiagnosticArray(status=[to_status(report, self._node.get_name()) for report in reports])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        for report in reports:
            self._log(report.name, report.findings, now_s)

    def close(self) -> None:
        """Stop reporting."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _log(self, name: str, findings: Sequence[Finding], now_s: float) -> None:
        logger = self._node.get_logger()
        for finding in findings:
            more = self._throttle.passes((name, finding.key), now_s)
            if more is None:
                continue
            text = f"{name}: {finding.text}"
            if finding.level == DiagnosticStatus.ERROR:
                logger.error(text)
            elif finding.level == DiagnosticStatus.WARN:
                logger.warning(text)
            else:
                logger.info(text)
        gone = self._open.get(name, set()) - {finding.key for finding in findings}
        for key in gone:
            self._throttle.forget((name, key))
        if gone and not findings:
            logger.info(f"{name}: all is well again")
        self._open[name] = {finding.key for finding in findings}


def to_status(report: Report, node_name: str) -> DiagnosticStatus:
    """One DiagnosticStatus, named as diagnostic_updater does it: ``<node>: <report>``."""
    worst = max((finding.level for finding in report.findings), default=DiagnosticStatus.OK)
    return DiagnosticStatus(
        level=worst,
        name=f"{node_name}: {report.name}",
        message="; ".join(finding.text for finding in report.findings) or report.summary,
        hardware_id=report.hardware_id,
        values=to_values(report.values),
    )


def to_values(values: Mapping[str, object]) -> list[KeyValue]:
    """Key-value pairs, numbers rounded to what a reader can use."""
    return [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
