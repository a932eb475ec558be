"""The bring-up: example files that the node accepts, one description for launch and for us, a fitting RViz file."""

import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from da3_ros.bringup import bringup, find_config
from da3_ros.config import Config, from_flat
from da3_ros.errors import ConfigError, UnavailableError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


def parameters(path: Path) -> dict:
    """The node's parameters in a ROS parameter file."""
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["/**"] and list(content["/**"]) == ["da3_node"], "fits any namespace"
    return content["/**"]["da3_node"]["ros__parameters"]


def topics(config: Config) -> set[str]:
    """What the node hears and says, by its names relative to the namespace."""
    found = {"points", "odometry", "path", "window"}
    for name in config.cameras:
        found |= {config.image_topic(name), config.camera_info_topic(name)}
        found |= {f"{name}/{topic}" for topic in ("depth/image_rect", "depth/camera_info", "confidence", "points")}
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_change_something(path):
    values = parameters(path)
    from_flat(values)
    text = path.read_text()
    assert text.startswith("#") and text.count("#") >= 5, "each is explained"
    assert not any(topic.startswith("/") for topic in topics(from_flat(values))), "topics follow the namespace"


def test_there_is_an_example_for_each_kind_of_rig():
    assert {len(parameters(path)["cameras"]) for path in EXAMPLES} == {1, 2, 4}


def test_rviz_shows_topics_that_exist():
    content = yaml.safe_load((ROOT / "config" / "da3_ros.rviz").read_text())

    def values(tree):
        if isinstance(tree, dict):
            if "Topic" in tree:
                yield tree["Topic"]["Value"]
            tree = list(tree.values())
        for part in tree if isinstance(tree, list) else ():
            yield from values(part)

    shown = set(values(content))
    known = topics(from_flat(parameters(ROOT / "config" / "four_camera_ring.yaml")))
    assert shown <= known
    assert {"points", "path", "front/image_raw", "front/depth/image_rect"} <= shown
    assert content["Visualization Manager"]["Global Options"]["Fixed Frame"] == Config().frames.odom


def test_arguments_reach_the_command_line():
    [node] = bringup(
        "stereo", model="da3-base", checkpoint="true", namespace="robot/head", use_sim_time=True, log_level="warn",
        autostart=False, overrides={"window.sets": 6, "cameras": ["a", "b"]},
    )  # fmt: skip
    command = node.command()
    assert command[0].endswith("lib/da3_ros/da3_node") and os.access(command[0], os.X_OK)
    text = " ".join(command)
    assert "-r __ns:=/robot/head" in text and "--log-level warn" in text
    assert f"--params-file {find_config('stereo')}" in text
    for part in ("use_sim_time:=true", "autostart:=false", "window.sets:=6", 'cameras:=["a", "b"]'):
        assert part in text
    assert 'model.checkpoint:="true"' in text, "a string stays a string"


def test_later_sources_win_and_empty_arguments_change_nothing():
    [node] = bringup("stereo", overrides={"model.variant": "da3-large"}, model="da3-base")
    file, chosen = node.parameters
    assert file == find_config("stereo") and chosen["model.variant"] == "da3-large"
    [node] = bringup(None)
    assert set(node.parameters[0]) == {"use_sim_time", "autostart"}


def test_images_get_shared_memory_that_holds_them_unless_something_was_chosen(monkeypatch):
    names = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    for name in (*names, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    [file] = bringup()[0].environment.values()
    segment = int(ElementTree.parse(file).find(".//{*}segment_size").text)
    assert segment >= 4 * 1920 * 1200 * 3, "one image of each of four large cameras"
    assert list(bringup()[0].environment) == ["FASTDDS_DEFAULT_PROFILES_FILE"]
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert list(bringup()[0].environment) == ["FASTRTPS_DEFAULT_PROFILES_FILE"]
    for name in names:
        with monkeypatch.context() as patch:
            patch.setenv(name, "what the user wants")
            assert not bringup()[0].environment, name


def test_rviz_runs_beside_the_node_in_its_namespace():
    _, viewer = bringup(rviz=True, namespace="robot")
    assert (viewer.executable, viewer.namespace) == ("rviz2", "robot")
    assert Path(viewer.arguments[1]).name == "da3_ros.rviz" and Path(viewer.arguments[1]).is_file()
    if not shutil.which("rviz2"):
        with pytest.raises(UnavailableError, match="'rviz2' is not installed"):
            viewer.command()


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"'nothing'.*four_camera_ring, single_camera, stereo"):
        bringup("nothing")
    with pytest.raises(ConfigError, match="log level must be one of"):
        bringup(log_level="loud")


def test_a_file_of_ones_own_is_taken(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("{}")
    assert bringup(own)[0].parameters[0] == own


def test_launch_file_starts_the_same_processes():
    try:  # a plain `import launch` would find this project's folder of that name
        from launch import LaunchContext, LaunchDescription  # noqa: F401
        from launch_ros.actions import Node
    except ImportError:
        pytest.skip("launch and launch_ros are not installed")
    import runpy

    description = runpy.run_path(str(ROOT / "launch" / "bringup.launch.py"))
    context = LaunchContext()
    entities = description["generate_launch_description"]().entities
    *arguments, start = entities
    assert {a.name for a in arguments} >= {"config", "model", "checkpoint", "namespace", "rviz", "autostart"}
    assert all(argument.description for argument in arguments)
    for argument in arguments:
        argument.execute(context)
    nodes = start.execute(context)
    assert all(isinstance(node, Node) for node in nodes)
    assert [(node.node_package, node.node_executable) for node in nodes] == [
        (process.package, process.executable) for process in bringup()
    ]
