"""What this machine has: interpreters, a compiler, room on the disk, perhaps a ROS distribution."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path
from typing import NamedTuple

from steps import StepError

# The wheels of ROS 2 exist for these.
WHEEL_VERSIONS = ((3, 11), (3, 12))

ASK = """
import importlib.util, json, os, sys, sysconfig
name = "python%d.%d" % sys.version_info[:2]
base = os.path.join(sys.base_prefix, "bin", name)
print(json.dumps({
    "executable": base if os.path.exists(base) else sys.executable,
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
    "venv": all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")),
    "rclpy": importlib.util.find_spec("rclpy") is not None,
}))
"""


class Python(NamedTuple):
    """An interpreter that the virtual environment can be made from."""

    executable: str
    version: tuple
    implementation: str
    headers: bool
    venv: bool
    rclpy: bool

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    @classmethod
    def ask(cls, executable: str, isolated: bool = True) -> Python | None:
        """What an interpreter says of itself; None where it does not run (a version manager's stub, say).

        Isolated, it does not look at PYTHONPATH; a distribution's rclpy is found only there.
        """
        try:
            answer = subprocess.run(
                [executable, *(["-I"] if isolated else []), "-c", ASK],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                stdin=subprocess.DEVNULL,
            )
            found = cls(**json.loads(answer.stdout.splitlines()[-1]))
        except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
            return None
        return found._replace(version=tuple(found.version))


def find_python(wanted: str | None, outside: Path) -> Python:
    """The interpreter named, else the first of CPython 3.11 or 3.12 that can carry the wheels.

    Looks at the PATH (without ``outside``, our own virtual environment), then where pyenv and uv keep theirs.
    """
    names = [wanted] if wanted else ["python3", "python3.12", "python3.11", *managed_pythons()]
    if not wanted:
        names.insert(0, sys.executable)
    seen: dict[str, Python] = {}
    for name in names:
        path = shutil.which(name, path=search_path(outside))
        if path and (python := Python.ask(path)):
            seen.setdefault(python.executable, python)
    right = [p for p in seen.values() if p.version[:2] in WHEEL_VERSIONS and p.implementation == "cpython"]
    for python in right:
        if python.headers and python.venv:
            return python
    if right:
        python = right[0]
        if not python.headers:
            raise StepError(
                f"{python.executable} has no C headers (Python.h), which the messages are compiled against",
                f"install them (apt install python{python.minor}-dev) or name another: make env PYTHON=...",
            )
        raise StepError(
            f"{python.executable} cannot make virtual environments (no ensurepip)",
            f"install that (apt install python{python.minor}-venv) or name another: make env PYTHON=...",
        )
    others = ", ".join(f"{p.executable} ({p.minor})" for p in seen.values()) or "none"
    raise StepError(
        f"the ROS 2 wheels need CPython 3.11 or 3.12, found: {others}",
        "install one, or name it: make env PYTHON=/path/to/python3.12",
    )


def managed_pythons() -> list[str]:
    """Interpreters that version managers keep off the PATH."""
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT", os.path.join(home, ".pyenv"))
    patterns = (
        f"{pyenv}/versions/3.1[12].*/bin/python3",
        f"{home}/.local/share/uv/python/cpython-3.1[12].*/bin/python3",
    )
    return [path for pattern in patterns for path in sorted(glob(pattern), reverse=True)]


def search_path(outside: Path) -> str:
    """The PATH without our own virtual environment."""
    own = str(outside / "bin")
    return os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if part != own)


class Distribution(NamedTuple):
    """A sourced ROS 2 distribution and the interpreter that it was made for."""

    name: str
    python: Python


def find_distribution(outside: Path) -> Distribution | None:
    """The ROS 2 distribution that this shell has sourced, if any."""
    name = os.environ.get("ROS_DISTRO")
    if not name or not os.environ.get("AMENT_PREFIX_PATH"):
        return None
    for candidate in ("python3", "/usr/bin/python3"):
        path = shutil.which(candidate, path=search_path(outside))
        python = Python.ask(path, isolated=False) if path else None
        if python and python.rclpy and python.venv:
            return Distribution(name, python)
        if python and python.rclpy:
            raise StepError(
                f"{python.executable} cannot make virtual environments",
                f"install that (apt install python{python.minor}-venv)",
            )
    raise StepError(
        f"ROS 2 {name} is sourced, but no python3 here can import its rclpy",
        f"install ros-{name}-rclpy, or run from a shell that has not sourced it to use the ROS 2 wheels instead",
    )


def check_place(root: Path) -> None:
    """CMake and make's generated rules do not survive white space in a path."""
    if any(character.isspace() for character in str(root)):
        raise StepError(f"the project's path has white space in it ({root})", "move it to a path without")


def check_wheel_platform() -> None:
    """The ROS 2 wheels are built for one platform."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise StepError(
            f"there are no ROS 2 wheels for {platform.system()} on {platform.machine()} (only Linux on x86_64)",
            "install a ROS 2 distribution, source its setup.bash and run make env again",
        )


def check_compiler() -> None:
    """C and C++ compilers and a make, as CMake looks for them."""
    for variable, names, package in (
        ("CC", ("cc", "gcc", "clang"), "gcc"),
        ("CXX", ("c++", "g++", "clang++"), "g++"),
        ("MAKE", ("make", "gmake"), "make"),
    ):
        own = os.environ.get(variable, "").split()
        if not any(map(shutil.which, own[:1] or names)):
            raise StepError(
                f"no {own[0] if own else package} found, which compiles the messages",
                f"install it (apt install {package}) and run make env again",
            )


def check_disk(root: Path, gigabytes: float) -> None:
    """Room for the virtual environment, and for pip's temporary files."""
    for folder, wanted in ((root, gigabytes), (Path(tempfile.gettempdir()), 1.0)):
        free = shutil.disk_usage(folder).free / 1e9
        if free < wanted:
            raise StepError(
                f"{folder} has {free:.1f} GB free, {wanted:.0f} GB are needed",
                "make room" + (" or set TMPDIR to a larger disk" if folder != root else ""),
            )
