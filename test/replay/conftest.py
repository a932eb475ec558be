"""Makes helpers importable under any import mode of pytest, and replays a recording for the tests."""

import json
import sys
from pathlib import Path

import pytest
import torch

TEST = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TEST), str(TEST / "ingest"), str(TEST / "replay")]

from bag_helpers import write_ros2  # noqa: E402
from replay_helpers import rig_recording, run  # noqa: E402


@pytest.fixture(autouse=True)
def _threads_as_before():
    """A replay sets how many threads torch takes."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_ros2(tmp_path_factory.mktemp("bags") / "rig", rig_recording())


@pytest.fixture(scope="module")
def replayed(bag, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "out.mcap"
    figures = output.with_suffix(".json")
    assert run(bag, output, "--json", str(figures)) == 0
    return output, json.loads(figures.read_text())
