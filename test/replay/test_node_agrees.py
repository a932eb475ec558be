"""The node over DDS, played to slowly enough that nothing is dropped, and replay give equal messages."""

import json

import numpy as np
import pytest
from demo_helpers import make_sequence

from da3_ros.cli.main import main
from da3_ros.egress.message_types import message_types
from da3_ros.ingest.bag import Bag

STEPS = 6
# A step of the node does not wait for the map, so when it comes depends on timing; replay's waits (test_replay.py).
TIMED = ("/tf_static", "/diagnostics", "/da3_node/map_points")
SETTINGS = {"model": "da3-small", "checkpoint": "random", "process_res": 84, "window_sets": 2, "device": "cpu",
            "transport": "raw", "rate_hz": 0.0, "reliability": "reliable", "accept_noncommercial": False}  # fmt: skip


def messages(bag) -> dict[tuple[str, int], object]:
    """By topic and stamp; a TF message by the stamp of its first transform."""
    found, recording = {}, Bag([bag])
    for raw in recording.raw():
        message = message_types().deserialize_cdr(raw.data, recording.topics[raw.topic].type)
        first = message.transforms[0] if hasattr(message, "transforms") else message
        if hasattr(first, "header"):
            stamp = first.header.stamp
            found[raw.topic, stamp.sec * 10**9 + stamp.nanosec] = message
    return found


def assert_equal(ours, theirs, where):
    """Field by field; numbers to rounding, as transforms take another way through tf2's buffer."""
    if hasattr(ours, "__msgtype__"):
        for name in ours.__dataclass_fields__:
            assert_equal(getattr(ours, name), getattr(theirs, name), f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    elif isinstance(ours, (float, np.ndarray)) and getattr(ours, "dtype", None) != np.uint8:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9, err_msg=where)
    elif isinstance(ours, np.ndarray):
        assert np.array_equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.mark.slow
@pytest.mark.ros
def test_node_and_replay_agree(tmp_path):
    pytest.importorskip("rclpy")
    from da3_ros.cli.demo_bag import write_sequence
    from da3_ros.cli.demo_run import RunSettings, run_node

    sequence, settings = make_sequence(STEPS), RunSettings(**SETTINGS)
    write_sequence(sequence, tmp_path / "input", "raw")
    (tmp_path / "logs").mkdir()
    run_node(sequence, settings, tmp_path / "input", tmp_path / "node", tmp_path / "logs")

    parameters = settings.parameters(sequence) | {"model.variant": settings.model, "model.checkpoint": "random"}
    pairs = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
    output = tmp_path / "replay.mcap"
    assert main(["replay", str(tmp_path / "input"), "--output", str(output), "--set", *pairs]) == 0

    node, replayed = messages(tmp_path / "node"), messages(output)
    outputs = {key: message for key, message in node.items() if key[0] not in TIMED}
    wanted = {"/front/depth/image_rect", "/front/points", "/window", "/odometry", "/tf"}
    assert {topic for topic, _ in outputs} >= wanted
    assert len([key for key in outputs if key[0] == "/front/depth/image_rect"]) == STEPS
    missing = [key for key in outputs if key not in replayed]
    assert not missing
    for key, message in outputs.items():
        assert_equal(replayed[key], message, str(key))
