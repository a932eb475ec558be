"""The tree of frames: chains up and down, newest wins, gaps and loops."""

import numpy as np
import pytest
from bag_helpers import ROS2, Messages

from da3_ros.errors import InputError
from da3_ros.ingest.transforms import TransformTree

M = Messages(ROS2)


def tree(*edges) -> TransformTree:
    found = TransformTree()
    found.add(M.transforms(1, *edges))
    return found


def test_a_chain_is_followed_over_the_common_ancestor():
    frames = tree(("base", "mast", (0, 0, 1)), ("mast", "camera", (0.1, 0, 0)), ("base", "lidar", (0, 0.5, 0)))
    np.testing.assert_allclose(frames.lookup("base", "camera")[:3, 3], (0.1, 0, 1))
    np.testing.assert_allclose(frames.lookup("lidar", "camera")[:3, 3], (0.1, -0.5, 1))
    np.testing.assert_allclose(frames.lookup("camera", "base")[:3, 3], (-0.1, 0, -1))


def test_rotations_are_applied_from_the_root_down():
    frames = TransformTree()
    message = M.transforms(1, ("base", "mast", (1, 0, 0)), ("mast", "camera", (1, 0, 0)))
    half = np.sqrt(0.5)
    message.transforms[0].transform.rotation.z = message.transforms[0].transform.rotation.w = half  # 90 degrees about z
    frames.add(message)
    np.testing.assert_allclose(frames.lookup("base", "camera")[:3, 3], (1, 1, 0), atol=1e-12)


def test_the_newest_transform_is_used_and_a_leading_slash_does_not_matter():
    frames = tree(("base", "camera", (1, 0, 0)))
    frames.add(M.transforms(2, ("/base", "/camera", (2, 0, 0))))
    np.testing.assert_allclose(frames.lookup("base", "camera")[:3, 3], (2, 0, 0))


def test_frames_that_are_not_connected_and_loops_have_no_transform():
    assert tree(("base", "camera", (1, 0, 0))).lookup("base", "elsewhere") is None
    assert tree(("a", "b", (1, 0, 0)), ("b", "a", (1, 0, 0))).lookup("base", "a") is None


def test_a_rotation_that_is_none_is_refused():
    message = M.transforms(1, ("base", "camera", (1, 0, 0)))
    message.transforms[0].transform.rotation.w = 0.0
    with pytest.raises(InputError, match="no rotation"):
        TransformTree().add(message)
