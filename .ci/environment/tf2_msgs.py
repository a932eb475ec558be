"""Writes the source package tf2_msgs, which no wheel brings, from the message definitions in rosbags' type store.

Runs with the virtual environment's Python (it needs rosbags): ``python tf2_msgs.py write FOLDER`` writes the
package, ``python tf2_msgs.py check PREFIX`` compares the type hashes of the package as built and installed with
those that the store computes. Equal hashes are what lets our nodes talk to every other ROS 2 node.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_KILTED)
NAMES = sorted(name for name in STORE.types if name.startswith("tf2_msgs/msg/"))

PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.0.0</version>
  <description>The messages of tf2_msgs, generated because no wheel brings them.</description>
  <maintainer email="maintainers@da3-ros.invalid">da3_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

CMAKE_LISTS = """cmake_minimum_required(VERSION 3.20)
project(tf2_msgs)
set(CMAKE_CXX_STANDARD 17)
find_package(ament_cmake REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} @MESSAGES@ DEPENDENCIES geometry_msgs)
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""


def write(folder: Path) -> None:
    """Write package.xml, CMakeLists.txt and the messages."""
    (folder / "msg").mkdir(parents=True, exist_ok=True)
    files = []
    for name in NAMES:
        # The text goes on with the definitions of the types that it uses, below a line of '='.
        definition = STORE.generate_msgdef(name, ros_version=2)[0].split("=" * 80)[0]
        files.append(f"msg/{name.rsplit('/', 1)[1]}.msg")
        (folder / files[-1]).write_text(definition)
    (folder / "package.xml").write_text(PACKAGE_XML)
    (folder / "CMakeLists.txt").write_text(CMAKE_LISTS.replace("@MESSAGES@", " ".join(files)))


def mismatches(prefix: Path) -> list[str]:
    """One line for each message whose installed type hash is not the store's."""
    lines = []
    for name in NAMES:
        description = json.loads((prefix / "share" / name).with_suffix(".json").read_text())
        hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
        wanted = STORE.hash_rihs01(name)
        if hashes[name] != wanted:
            lines.append(f"{name} was built with type hash {hashes[name]}, but other ROS 2 nodes use {wanted}")
    return lines


if __name__ == "__main__":
    action, path = sys.argv[1], Path(sys.argv[2])
    if action == "write":
        write(path)
    else:
        sys.exit("\n".join(mismatches(path)) or 0)
