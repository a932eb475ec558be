"""The configuration by dotted names, as ROS parameters, YAML files and command lines have it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_type_hints

from da3_ros.config.fields import Parameter, tree_parameters, type_fits, value_problem
from da3_ros.config.robot import CameraConfig
from da3_ros.config.tree import Config
from da3_ros.errors import ConfigError


def parameters(cameras: tuple[str, ...] = (), config_type: type = Config) -> list[Parameter]:
    """All parameters of ``config_type`` in order; the ``camera`` part once for each name in ``cameras``."""
    return tree_parameters(config_type, cameras)


def from_flat(values: Mapping[str, Any], config_type: type = Config) -> Any:
    """Build and validate a configuration from dotted names; what is not named keeps its default.

    Raises ConfigError for unknown names, wrong types and everything that ``validate`` finds.
    """
    named = values.get("cameras", ())
    cameras = tuple(named) if type_fits(tuple, named) else ()
    known = {parameter.name: parameter for parameter in parameters(cameras, config_type)}
    problems = []
    tree: dict[str, Any] = {}
    per_camera: dict[str, dict[str, Any]] = {name: {} for name in cameras}
    for name, value in values.items():
        parameter = known.get(name)
        if parameter is None:
            problems.append(f"there is no parameter '{name}'{_hint(name, known)}")
            continue
        if not type_fits(parameter.type, value):
            problems.append(value_problem(parameter, value))
            continue
        value = parameter.type(value) if parameter.type in (float, tuple) else value
        parts = name.split(".")
        if parts[0] == "camera":
            per_camera[parts[1]][parts[2]] = value
        elif len(parts) == 2:
            tree.setdefault(parts[0], {})[parts[1]] = value
        else:
            tree[name] = value
    hints = get_type_hints(config_type)
    sections = {key: hints[key](**value) if isinstance(value, dict) else value for key, value in tree.items()}
    sections["camera"] = {name: CameraConfig(**value) for name, value in per_camera.items()}
    config = config_type(**sections)
    problems += config.problems()
    if problems:
        raise ConfigError("; ".join(problems))
    return config


def _hint(name: str, known: Mapping[str, Parameter]) -> str:
    if name.startswith("camera.") and not any(other.startswith(name.rpartition(".")[0] + ".") for other in known):
        return " (its camera is not in the parameter 'cameras')"
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
