"""Recordings are replayed and evaluated on machines that have no ROS."""

import json
import subprocess
import sys

import pytest
from bag_helpers import ROS2, Messages, camera_messages, write_ros2

from da3_ros.share import share_folder

# Whatever ROS installs for Python cannot be imported: its client library, its tools and all packages of messages.
WITHOUT_ROS = """
import importlib.abc, sys

ROS = ("rcl", "rosidl", "rpyutils", "ament", "launch", "tf2", "message_filters", "cv_bridge", "image_geometry",
       "builtin_interfaces", "action_msgs", "service_msgs", "unique_identifier_msgs", "rosgraph")

class NoRos(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(ROS) or name.partition(".")[0].endswith(("_msgs", "_interfaces")) or name == "da3_ros.msg":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, NoRos())
from da3_ros.cli.main import main
assert [main(command) for command in commands] == [0, 0, 0]
found = sorted(name for name in sys.modules if name.startswith(ROS) or name.startswith("da3_ros.ros"))
assert not found, found
"""


@pytest.mark.slow
def test_replay_and_evaluation_need_no_ros(tmp_path):
    bag, out = write_ros2(tmp_path / "bag", camera_messages(Messages(ROS2), size=64)), str(tmp_path / "out.mcap")
    parameters = ["--set", "model.checkpoint=random", "model.variant=da3-nano", "model.process_res=56",
                  "window.sets=2", "model.device=cpu", "model.cpu_threads=1"]  # fmt: skip
    commands = [
        ["replay", str(bag), "--output", out, *parameters],
        ["evaluate", str(bag), "--estimates", out, "--output", str(tmp_path / "a"), *parameters],
        ["evaluate", str(bag), "--output", str(tmp_path / "b"), *parameters],
    ]
    program = f"commands = {json.dumps(commands)}\n{WITHOUT_ROS}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=share_folder())
    assert done.returncode == 0, done.stderr
    for name in ("a", "b"):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert metrics["frames"] == 6 and (tmp_path / name / "report.html").stat().st_size > 10_000
