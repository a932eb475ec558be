"""The Foxglove layout: the shipped one is up to date, shows what a replay writes, and fits its own panels."""

import json
from typing import Any

import numpy as np
import pytest
from recording_helpers import true_sequence

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.egress.bag import new_recording
from da3_ros.egress.foxglove import SHIPPED_CAMERAS, foxglove_layout
from da3_ros.egress.message_types import message_builder
from da3_ros.ingest.bag import Bag
from da3_ros.share import share_folder

# Panels by what messages they show.
TYPES = {
    "3D": {"sensor_msgs/msg/PointCloud2", "nav_msgs/msg/Path", "nav_msgs/msg/Odometry"},
    "Image": {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"},
}


def panels_of(layout: Any) -> list[str]:
    """Panels in the tree, from left to right and top to bottom."""
    if isinstance(layout, str):
        return [layout]
    assert layout["direction"] in ("row", "column") and 0 < layout["splitPercentage"] < 100
    return panels_of(layout["first"]) + panels_of(layout["second"])


def topics_of(layout: dict) -> dict[str, set[str]]:
    """Topics that are shown, by kind of panel."""
    found: dict[str, set[str]] = {}
    for name, config in layout["configById"].items():
        kind = name.partition("!")[0]
        shown = set(config.get("topics", {}))
        if kind == "Image":
            shown |= {config["imageMode"]["imageTopic"]}
        shown |= {path["value"].partition(".")[0] for path in config.get("paths", ())}
        shown |= {config["topicPath"].partition(".")[0]} if "topicPath" in config else set()
        found.setdefault(kind, set()).update(shown)
    return found


def test_the_shipped_layout_is_that_of_the_four_cameras():
    shipped = json.loads((share_folder() / "config" / "foxglove.json").read_text())
    assert shipped == foxglove_layout(SHIPPED_CAMERAS), "run python -m da3_ros.egress.foxglove > config/foxglove.json"
    assert sorted(panels_of(shipped["layout"])) == sorted(shipped["configById"])
    assert {"/points", "/path", "/front/points"} <= topics_of(shipped)["3D"]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """A replay in a namespace, with the pictures passed through."""
    folder = tmp_path_factory.mktemp("foxglove")
    write_sequence(true_sequence(), folder / "in.mcap", "raw")
    quick = ["model.checkpoint=random", "model.process_res=56", "window.sets=1", "model.device=cpu"]
    options = ["--namespace", "robot", "--pass-through", "--set", *quick]
    assert main(["replay", str(folder / "in.mcap"), "--output", str(folder / "out.mcap"), *options]) == 0
    return folder / "out.mcap"


def test_a_layout_for_a_recording_shows_topics_that_it_has(replayed, tmp_path):
    assert main(["bags", "layout", str(replayed), "--output", str(tmp_path / "layout.json")]) == 0
    layout = json.loads((tmp_path / "layout.json").read_text())
    assert sorted(panels_of(layout["layout"])) == sorted(layout["configById"])
    there = {name: topic.type for name, topic in Bag([replayed]).topics.items()}
    shown = topics_of(layout)
    for kind, topics in shown.items():
        assert topics <= set(there), f"{kind}: {topics - set(there)}"
        assert {there[topic] for topic in topics} <= TYPES.get(kind, set(there.values()))
    pictures = [name for name, kind in there.items() if name.endswith("/image_raw")]
    assert len(pictures) == 1 and set(pictures) <= shown["Image"]


def test_a_recording_without_the_node_is_refused(replayed, tmp_path, capsys):
    source = replayed.with_name("in.mcap")
    assert main(["bags", "layout", str(source), "--output", str(tmp_path / "layout.json")]) == 2
    assert "record what the node publishes" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "nearest", "hole"), [(np.float32, 1.0, np.nan), (np.uint16, 1000, 0)])
def test_the_colours_of_depth_are_for_what_is_in_the_recording(tmp_path, kind, nearest, hole):
    """In the unit of the images: viewers compare the ends of the colours with their numbers."""
    with new_recording(tmp_path / "out.mcap") as out:
        for camera, farther in (("front", 1), ("rear", 3)):
            depth = np.full((20, 30), farther * nearest, kind)
            depth[:5] = hole
            depth[19, 29] = 50 * nearest  # one pixel that is no reason to make all others one colour
            image = message_builder().image(depth, 0, f"{camera}_optical_frame")
            out.write(f"/{camera}/depth/image_rect", 0, image)
    assert main(["bags", "layout", str(tmp_path / "out.mcap"), "--output", str(tmp_path / "layout.json")]) == 0
    panels = json.loads((tmp_path / "layout.json").read_text())["configById"]
    for camera in ("front", "rear"):
        assert panels[f"Image!{camera}_depth"]["imageMode"]["maxValue"] == 3 * nearest


@pytest.mark.parametrize(("kind", "hole", "end"), [(np.float32, np.nan, 10.0), (np.uint16, 0, 10_000.0)])
def test_where_the_first_depth_is_all_holes_its_colours_are_for_ten_metres(tmp_path, kind, hole, end):
    with new_recording(tmp_path / "out.mcap") as out:
        image = message_builder().image(np.full((20, 30), hole, kind), 0, "front_optical_frame")
        out.write("/front/depth/image_rect", 0, image)
    assert main(["bags", "layout", str(tmp_path / "out.mcap"), "--output", str(tmp_path / "layout.json")]) == 0
    panels = json.loads((tmp_path / "layout.json").read_text())["configById"]
    assert panels["Image!front_depth"]["imageMode"]["maxValue"] == end
