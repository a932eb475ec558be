"""What an evaluation was run with, for metrics.json: whoever compares two must see what differed but the numbers."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from da3_ros.config import Config, parameters, to_flat

# Their keys in "run". Nothing in them is a score.
EVALUATED, PARAMETERS, VERSIONS = SETTINGS = ("evaluated_with", "node_parameters", "versions")
_PACKAGES = (
    "da3_ros", "torch", "numpy", "opencv-python-headless", "rosbags", "mcap", "scipy", "gtsam", "evo", "open3d",
    "gsplat",
)  # fmt: skip
_OF_CAMERAS = ("cameras", "camera.")  # of the parameters, what matters where no pipeline is run


def run_settings(config: Config, evaluated: Mapping[str, Any], pipeline: bool) -> dict[str, Any]:
    """By the keys in SETTINGS. ``evaluated``: with what the estimates are scored; ``pipeline``: whether it is run."""
    flat = to_flat(config)
    if not pipeline:
        flat = {name: value for name, value in flat.items() if name.startswith(_OF_CAMERAS)}
    return {EVALUATED: dict(evaluated), PARAMETERS: flat, VERSIONS: versions()}


def versions() -> dict[str, str]:
    """Of the packages that numbers may depend on, as far as they are installed, and of Python and CUDA."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    import torch  # seconds, and `da3-ros compare` needs only the keys

    found["Python"] = f"{platform.python_version()}, {platform.machine()}"
    return found | ({"CUDA": torch.version.cuda} if torch.version.cuda else {})


def common(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What two recordings, or parts of one, have alike."""
    found = {}
    for name in a.keys() & b.keys():
        if isinstance(a[name], Mapping) and isinstance(b[name], Mapping):
            found[name] = common(a[name], b[name])
        elif a[name] == b[name]:
            found[name] = a[name]
    return {name: found[name] for name in a if name in found}


def chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the node's parameters ``values`` that are not the default."""
    default = {parameter.name: parameter.default for parameter in parameters(tuple(values.get("cameras", ())))}
    return {name: value for name, value in values.items() if name not in default or not _same(value, default[name])}


def _same(value: Any, default: Any) -> bool:
    """Lists stand for tuples in JSON."""
    return value == (list(default) if isinstance(default, tuple) else default)
