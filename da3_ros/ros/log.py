"""Log lines: what the ROS-free packages log goes to rosout, and repeated trouble is said at a bounded rate."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable

from rclpy.impl.rcutils_logger import RcutilsLogger

_PACKAGE = "da3_ros"


class RosLogHandler(logging.Handler):
    """Hands records of Python's logging to a ROS logger."""

    def __init__(self, logger: RcutilsLogger):
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record`` at the ROS severity nearest to its own."""
        # One line for each severity: rclpy ties a severity to the calling line.
        text = self.format(record)
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def bridge_logging(logger: RcutilsLogger) -> logging.Handler:
    """Send everything that da3_ros logs to ``logger``; returns the handler, for ``unbridge_logging``."""
    handler = RosLogHandler(logger)
    package = logging.getLogger(_PACKAGE)
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if logger.get_effective_level() <= logging.DEBUG else logging.INFO)
    package.propagate = False
    return handler


def unbridge_logging(handler: logging.Handler) -> None:
    """Undo ``bridge_logging``."""
    package = logging.getLogger(_PACKAGE)
    package.removeHandler(handler)
    package.setLevel(logging.NOTSET)
    package.propagate = True


class Throttle:
    """Lets the first message of a key through, then one a period, and counts those it held back. Thread-safe."""

    def __init__(self, period_s: float):
        self._period_s = period_s
        self._lock = threading.Lock()
        self._last: dict[Hashable, float] = {}
        self._held: dict[Hashable, int] = {}

    def passes(self, key: Hashable, now_s: float) -> str | None:
        """None to stay silent, else what to append to the message: empty or how many were held back."""
        with self._lock:
            last = self._last.get(key)
            if last is not None and now_s - last < self._period_s:
                self._held[key] = self._held.get(key, 0) + 1
                return None
            self._last[key] = now_s
            held = self._held.pop(key, 0)
        return f" ({held} more since the last such line)" if held else ""

    def forget(self, key: Hashable) -> None:
        """The next message of ``key`` passes at once."""
        with self._lock:
            self._last.pop(key, None)
            self._held.pop(key, None)
