"""What the ROS processes that a command starts share: a quiet domain, this very package, and logs to read."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import da3_ros


def python_module(name: str) -> list[str]:
    """Command line that runs a module of this package with this interpreter."""
    return [sys.executable, "-m", name]


def same_package() -> dict[str, str]:
    """Have children import this very package, wherever it was found, and not one of the current folder."""
    root = str(Path(da3_ros.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def quiet_domain() -> dict[str, str]:
    """Keep /clock and /tf away from robots on this network, unless the user chose where to be heard.

    Processes of one machine also find each other more surely when they are told to look there alone.
    """
    chosen = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(_free_domain())}
    return {name: value for name, value in chosen.items() if name not in os.environ}


def _free_domain() -> int:
    """A domain from 1 to 100 in which nobody on this machine listens, as far as can be seen."""
    first = os.getpid() % 100
    return next((1 + (first + i) % 100 for i in range(100) if not _domain_in_use(1 + (first + i) % 100)), 1 + first)


def _domain_in_use(domain: int) -> bool:
    """Whether one of the first participants' ports of ``domain`` is taken (RTPS 2.5, 9.6.2.3)."""
    for participant in range(4):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain + 2 * participant))
            except OSError:
                return True
    return False


def read_log(path: Path) -> str:
    """What a child has written so far."""
    return path.read_text(errors="replace") if path.exists() else ""


def last_error(log: Path) -> str:
    """The last line that says what went wrong, without time and logger name."""
    lines = [line.strip() for line in read_log(log).splitlines() if line.strip()]
    errors = [line for line in lines if "[ERROR]" in line or "[FATAL]" in line] or lines or ["(nothing)"]
    return re.sub(r"^\[\w+\] \[[\d.]+\] \[[\w.]+\]: ", "", errors[-1])
