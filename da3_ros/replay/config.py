"""The node's configuration for a recording: from a ROS parameter file, from the recording's topics, and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from da3_ros.config import Config, from_flat
from da3_ros.errors import ConfigError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import find_cameras
from da3_ros.share import share_folder

# Every node has these; they are no parameters of ours.
_OF_ROS = ("use_sim_time", "start_type_description_service")
_NODE = "da3_node"
# Compiling takes 15 s where the compiler has seen the network before, and a minute or two where it has not; it saves a
# few milliseconds of each step.
_WORTH_COMPILING_NS = 300 * 1_000_000_000


def read_parameters(name: str) -> dict[str, Any]:
    """Parameters by dotted name from a ROS parameter file: a path, or one in the package's ``config`` folder.

    Raises ConfigError for a file that is not there or is none.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        folder = share_folder() / "config"
        path = next((file for file in (folder / name, folder / f"{name}.yaml") if file.is_file()), path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"the configuration file '{name}' cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    found = _parameters(content)
    if found is None:
        raise ConfigError(f"{path} has no 'ros__parameters' for the node '{_NODE}' (or /**)")
    flat = _flattened(found)
    return {key: value for key, value in flat.items() if key not in _OF_ROS}


def bag_parameters(bag: Bag, topics: Sequence[str] = ()) -> dict[str, Any]:
    """Parameters that name the cameras of ``bag`` and their topics; see ``find_cameras``."""
    cameras = find_cameras(bag, topics)
    found: dict[str, Any] = {"cameras": [camera.name for camera in cameras]}
    for camera in cameras:
        found |= {
            f"camera.{camera.name}.image_topic": camera.image_topic,
            f"camera.{camera.name}.camera_info_topic": camera.info_topic or "none",
            f"camera.{camera.name}.transport": "compressed" if camera.compressed else "raw",
            f"camera.{camera.name}.rectified": camera.rectified,
        }
    return found


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Parameters of ``name=value`` pairs; values are YAML. Raises ConfigError for other texts."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"'{pair}' is no parameter: write name=value, for example window.sets=2")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {name} is no YAML: {value}") from error
    return found


def replay_config(bag: Bag, file: str | None, topics: Sequence[str], overrides: Mapping[str, Any]) -> Config:
    """The configuration for ``bag``. Cameras that no file and no override names are those of the recording.

    With model.execution auto nothing is compiled for a short recording: that takes longer than it saves.

    Raises ConfigError for parameters that the node would refuse too, and for ``topics`` beside named cameras.
    """
    given = {**(read_parameters(file) if file else {}), **overrides}
    if "cameras" in given:
        if topics:
            raise ConfigError("the cameras are named by the configuration: leave --topics out")
    else:
        given = {**bag_parameters(bag, topics), **given}
    config = from_flat(given)
    if config.model.execution == "auto" and bag.end_ns - bag.start_ns < _WORTH_COMPILING_NS:
        return replace(config, model=replace(config.model, execution="uncompiled"))
    return config


def _parameters(content: Any) -> Mapping[str, Any] | None:
    """What stands under ros__parameters for our node, whichever wild cards lead there."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("ros__parameters"), dict):
        return content["ros__parameters"]
    merged: dict[str, Any] = {}
    for key in ("/**", "/*", "**", f"/**/{_NODE}", f"/{_NODE}", _NODE):
        merged |= _parameters(content.get(key)) or {}
    return merged or None


def _flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flattened(value, f"{name}.")
        else:
            flat[name] = value
    return flat
