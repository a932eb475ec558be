"""Which axis of a world is up: what is level on a map must be level in the world."""

import numpy as np
import pytest

from da3_ros.evaluation.up_axis import UpAxis, up_of_cameras, up_of_way
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from

NAMES = ["x", "y", "z", "-x", "-y", "-z"]


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_seen_from_above_and_never_mirrored(name):
    up = UpAxis.parse(name)
    assert str(up) == name
    assert np.linalg.det(up.rotation) == pytest.approx(1.0)
    direction = np.zeros(3)
    direction["xyz".index(name[-1])] = -1.0 if name.startswith("-") else 1.0
    assert (up.rotation @ direction).tolist() == [0, 0, 1]
    right, forward = np.eye(3)[list(up.level)]
    assert np.cross(right, forward).tolist() == direction.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_are_upright_say_what_is_up(name):
    up = UpAxis.parse(name).rotation.T @ np.array([0.2, 0.1, 0.95])
    assert str(up_of_cameras(up, np.zeros((2, 3)))) == name


def test_pictures_that_say_nothing_leave_z():
    level = np.array([[0.0, 0, 0], [5, 5, 0.5]])
    assert str(up_of_cameras(np.array([0.1, 0.2, 0.3]), level)) == "z"  # they turn about
    assert str(up_of_cameras(np.array([0.0, -0.7, 0.7]), level)) == "z"
    # A drone's camera looks down, and what is up in its pictures is where it flies.
    assert str(up_of_cameras(np.array([1.0, 0.0, 0.0]), np.array([[0.0, 0, 0], [50, 0, 1]]))) == "z"


def drive(T_world_start, T_body_forward):
    """Poses of a body that goes forward and turns, with its start somewhere in a world."""
    poses = []
    for step in range(30):
        angle = 0.05 * step
        c, s = np.cos(angle), np.sin(angle)
        robot = T_from(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), 10 * np.array([s, 1 - c, 0.0]))
        poses.append(T_world_start @ robot @ T_body_forward)
    return np.stack(poses)


def test_poses_of_nobody_knows_what():
    to_optical = np.linalg.inv(T_BODY_OPTICAL)
    assert str(up_of_way(drive(np.eye(4), np.eye(4)))) == "z"  # a robot
    assert str(up_of_way(drive(np.eye(4), T_BODY_OPTICAL))) == "z"  # its camera, in the robot's world
    assert str(up_of_way(drive(to_optical, T_BODY_OPTICAL))) == "-y"  # the camera in its own: KITTI
    assert str(up_of_way(np.tile(np.eye(4), (3, 1, 1)))) == "z"  # who stands still
