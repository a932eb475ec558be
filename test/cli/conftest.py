"""Makes the helpers of test/ importable under any import mode of pytest; a recording with its truth."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="module")
def sequence():
    from recording_helpers import true_sequence

    return true_sequence()


@pytest.fixture(scope="module")
def bag(sequence, tmp_path_factory):
    from da3_ros.cli.demo_bag import write_sequence

    path = tmp_path_factory.mktemp("bags") / "truth.mcap"
    write_sequence(sequence, path, "raw")
    return path
