"""The configuration that a recording gets."""

import pytest
from bag_helpers import ROS2, START_NS, Messages, write_ros2

from da3_ros.ingest.bag import Bag
from da3_ros.replay.config import replay_config


def recording(folder, seconds):
    """One camera without pictures in it."""
    messages = Messages(ROS2)
    stamps = (START_NS, START_NS + seconds * 1_000_000_000)
    return Bag([write_ros2(folder / "bag", [("/cam/camera_info", at, messages.info(at, 64, 48)) for at in stamps])])


@pytest.mark.parametrize(
    ("seconds", "asked", "wanted"),
    [(20, {}, "uncompiled"), (301, {}, "auto"), (20, {"model.execution": "compiled"}, "compiled")],
)
def test_compiling_has_to_be_worth_it(tmp_path, seconds, asked, wanted):
    given = {"cameras": ["cam"], **asked}
    assert replay_config(recording(tmp_path, seconds), None, (), given).model.execution == wanted
