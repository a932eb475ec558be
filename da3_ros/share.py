"""Where the files are that are no Python: config, launch and msg."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = "da3_ros"


def share_folder() -> Path:
    """The source tree when the package runs from it, else where colcon or pip installed it."""
    source = Path(__file__).resolve().parents[1]
    if (source / "package.xml").is_file():
        return source
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    found = (Path(prefix) / "share" / PACKAGE for prefix in prefixes)
    return next((folder for folder in found if folder.is_dir()), Path(sys.prefix) / "share" / PACKAGE)
