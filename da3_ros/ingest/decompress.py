"""zstd, from the standard library where that has it (Python 3.14), else from the backport that rosbags requires."""

from __future__ import annotations

import sys
from importlib import import_module

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
