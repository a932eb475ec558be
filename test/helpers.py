"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[1]


def shared_data(*parts: str) -> Path:
    """A path within the real recordings, which are not part of the project; skips the test where they are absent.

    They are found through the environment variable DA3_ROS_TEST_DATA, else in ../shared/data beside the project.
    """
    root = Path(os.environ.get("DA3_ROS_TEST_DATA", _PROJECT.parent / "shared" / "data"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real recordings: {path} does not exist (DA3_ROS_TEST_DATA names their folder)")
    return path
