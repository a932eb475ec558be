"""Which processes, with which parameters, make up a running system.

``launch/bringup.launch.py`` hands this list to ``launch``, ``da3-ros bringup`` and the demo start it by themselves:
one description, so that what is tested without ``launch`` is what runs with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from da3_ros.errors import ConfigError, UnavailableError
from da3_ros.share import PACKAGE, share_folder

DEFAULT_CONFIG = "single_camera"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")

# Who sets one of these has chosen how Fast DDS sends. Older distributions know only the second name of the file.
_PROFILES, _OLD_PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
_TRANSPORT_CHOICES = ("FASTDDS_BUILTIN_TRANSPORTS", _PROFILES, _OLD_PROFILES)
_OLD_DISTRIBUTIONS = ("humble", "jazzy")


@dataclass(frozen=True)
class Process:
    """One ROS 2 process. ``parameters``: files and dictionaries, later ones win. ``arguments`` come before ROS's."""

    name: str
    package: str
    executable: str
    namespace: str = ""
    arguments: tuple[str, ...] = ()
    parameters: tuple[Path | Mapping[str, Any], ...] = ()
    log_level: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def ros_arguments(self) -> list[str]:
        """What comes after ``--ros-args``, namespace and parameters left out."""
        return ["--log-level", self.log_level] if self.log_level else []

    def command(self) -> list[str]:
        """The whole command line.

        Raises UnavailableError when the executable is not installed.
        """
        command = [str(_executable(self.package, self.executable)), *self.arguments, "--ros-args"]
        if self.namespace:
            command += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for source in self.parameters:
            if isinstance(source, Path):
                command += ["--params-file", str(source)]
            else:
                # JSON is YAML whose strings are quoted, so that 'true' or '1.0' stays a string.
                for name, value in source.items():
                    command += ["-p", f"{name}:={json.dumps(value)}"]
        return command + self.ros_arguments


def bringup(
    config_file: str | Path | None = DEFAULT_CONFIG,
    *,
    model: str = "",
    checkpoint: str = "",
    namespace: str = "",
    use_sim_time: bool = False,
    rviz: bool = False,
    log_level: str = "info",
    autostart: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> list[Process]:
    """The processes of a bring-up.

    ``config_file``: a ROS parameter file, the name of one in the package's ``config`` folder (``stereo``), or None
    for none. ``model`` and ``checkpoint`` replace ``model.variant`` and ``model.checkpoint`` of that file where they
    are not empty. ``namespace`` holds all topics. ``autostart``: the node configures and activates itself; else a
    lifecycle manager has to. ``overrides``: further parameters by dotted name, which win over everything.

    Raises ConfigError for a file that is not there and for an unknown log level.
    """
    if log_level not in LOG_LEVELS:
        raise ConfigError(f"log level must be one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    chosen: dict[str, Any] = {"use_sim_time": use_sim_time, "autostart": autostart}
    if model:
        chosen["model.variant"] = model
    if checkpoint:
        chosen["model.checkpoint"] = checkpoint
    chosen |= overrides or {}
    environment = _transport()
    files = () if config_file is None else (find_config(config_file),)
    node = Process(
        name="da3_node",
        package=PACKAGE,
        executable="da3_node",
        namespace=namespace,
        parameters=(*files, chosen),
        log_level=log_level,
        environment=environment,
    )
    if not rviz:
        return [node]
    viewer = Process(
        name="rviz",
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        arguments=("-d", str(find_config("da3_ros.rviz"))),
        parameters=({"use_sim_time": use_sim_time},),
        environment=environment,
    )
    return [node, viewer]


def find_config(name: str | Path) -> Path:
    """The file ``name``: a path, or a file (``.yaml`` may be left out) in the package's ``config`` folder.

    Raises ConfigError with the names there are.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    folder = share_folder() / "config"
    for candidate in (folder / path.name, folder / f"{path.name}.yaml"):
        if path.parent == Path() and candidate.is_file():
            return candidate
    examples = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
    raise ConfigError(f"there is no configuration file '{name}': give a path or one of the examples ({examples})")


def _transport() -> dict[str, str]:
    """What lets Fast DDS carry images (see config/fastdds.xml), unless the user chose; other middlewares ignore it."""
    if any(name in os.environ for name in _TRANSPORT_CHOICES):
        return {}
    name = _OLD_PROFILES if os.environ.get("ROS_DISTRO") in _OLD_DISTRIBUTIONS else _PROFILES
    return {name: str(find_config("fastdds.xml"))}


def _executable(package: str, name: str) -> Path:
    try:
        path = Path(get_package_prefix(package)) / "lib" / package / name
    except PackageNotFoundError as error:
        raise UnavailableError(
            f"the ROS package '{package}' is not installed here: "
            + ("build this package (make env, or colcon build) and source it" if package == PACKAGE else "install it")
        ) from error
    if not os.access(path, os.X_OK):
        raise UnavailableError(f"{path} is not there or not executable: build the package '{package}' again")
    return path
