"""The built messages: importable from everywhere, with the type hashes that other nodes compute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

PROGRAM = "from da3_ros.msg import WindowEstimate; import da3_ros.errors; print(WindowEstimate().SCALE_RIG)"


def installed_hash(name: str) -> str:
    """The type hash in the description that the build installed."""
    from ament_index_python.packages import get_package_share_directory

    package, _, message = name.split("/")
    path = Path(get_package_share_directory(package)) / "msg" / f"{message}.json"
    hashes = json.loads(path.read_text())["type_hashes"]
    return next(entry["hash_string"] for entry in hashes if entry["type_name"] == name)


def test_tf_messages_talk_to_every_other_node():
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    assert installed_hash("tf2_msgs/msg/TFMessage") == store.hash_rihs01("tf2_msgs/msg/TFMessage")


@pytest.mark.parametrize("message", ["CameraEstimate", "WindowEstimate"])
def test_bag_tools_read_our_messages(root, message):
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    for path in (root / "msg").glob("*.msg"):
        store.register(get_types_from_msg(path.read_text(), f"da3_ros/msg/{path.stem}"))
    assert installed_hash(f"da3_ros/msg/{message}") == store.hash_rihs01(f"da3_ros/msg/{message}")


def test_messages_can_be_sent():
    from tf2_msgs.msg import TFMessage

    from da3_ros.msg import CameraEstimate, WindowEstimate

    for message in (CameraEstimate, WindowEstimate, TFMessage):
        message.__class__.__import_type_support__()
        assert message.__class__._TYPE_SUPPORT is not None


def test_source_and_messages_import_from_any_folder(root, tmp_path):
    for folder in (root, tmp_path):
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "rig", done.stderr


def test_the_programs_are_there_and_executable():
    from ament_index_python.packages import get_package_prefix

    for program in ("lib/da3_ros/da3_node", "bin/da3-ros"):
        path = Path(get_package_prefix("da3_ros")) / program
        assert os.access(path, os.X_OK), path
        assert path.read_text().startswith("#!/")


def test_a_process_with_a_bare_environment_finds_ros(tmp_path):
    program = "import rclpy; rclpy.init(); rclpy.create_node('bare'); print('up')"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    if "ROS_DISTRO" not in os.environ:
        assert done.stdout.strip() == "up", done.stderr


def test_without_a_build_the_import_says_what_to_do(root):
    # -S: no site-packages, so neither our hook nor an install space.
    program = f"import sys; sys.path.insert(0, {str(root)!r}); import da3_ros.msg"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, env={}, check=False
    )
    assert done.returncode != 0
    assert "make env" in done.stderr.splitlines()[-1]


def test_the_folder_launch_is_not_importable_by_accident(tmp_path):
    program = "import importlib.util as u; s = u.find_spec('launch'); print(s is None or s.origin is not None)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True"
