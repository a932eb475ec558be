"""Copied into the virtual environment and run there at the start of every interpreter (through a .pth file).

Lets `.venv/bin/python`, `.venv/bin/da3-ros` and everything that they start find ROS and the built messages, with
nothing to source: the install space joins sys.path, and the ament prefixes and library folders join the
environment. The dynamic linker reads LD_LIBRARY_PATH only when a process starts, so where that one had to change
the interpreter starts itself once more, in the same process; its children inherit the right value.
"""

import os
import sys
from glob import glob


def prefixes(venv: str) -> list:
    """Ament prefixes, overlay first: the built packages, then the wheels (none of those with a distribution)."""
    install = os.path.join(os.path.dirname(venv), "install")
    found = [os.path.join(install, name) for name in ("da3_ros", "tf2_msgs")]
    if os.path.isdir(os.path.join(venv, "share", "ament_index")):
        found.append(venv)
    return [path for path in found if os.path.isdir(path)]


def put_first(variable: str, paths: list) -> bool:
    """Make ``paths`` the first entries of a path variable; True where that changed it."""
    before = os.environ.get(variable, "")
    rest = [path for path in before.split(os.pathsep) if path and path not in paths]
    os.environ[variable] = os.pathsep.join(paths + rest)
    return os.environ[variable] != before


def activate() -> None:
    """Set up this interpreter, or start it once more with the right LD_LIBRARY_PATH."""
    venv = sys.prefix
    site_packages = os.path.join("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    found = prefixes(venv)
    if not found:
        return
    libraries = [os.path.join(path, "lib") for path in found]
    if venv in found:
        libraries += sorted(glob(os.path.join(venv, site_packages, "ros_*.libs")))
    put_first("AMENT_PREFIX_PATH", found)
    if put_first("LD_LIBRARY_PATH", libraries) and sys.executable:
        os.execve(sys.executable, sys.orig_argv, os.environ)
    for path in found:
        packages = os.path.join(path, site_packages)
        if packages not in sys.path:
            sys.path.append(packages)


activate()
