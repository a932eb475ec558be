"""Each frame of a set gets the robot's pose at its own stamp; frames without one are left out and said."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from da3_ros.config import FramesConfig
from da3_ros.datatypes import Frame, FrameSet
from da3_ros.errors import InputError
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.odometry import BaseOdometry, attach_odometry

IMAGE = np.zeros((4, 6, 3), np.uint8)
FRAME_SET = FrameSet(120, (Frame("left", 100, IMAGE), Frame("right", 120, IMAGE)))


def attach(known, frame_set=FRAME_SET):
    dropped = []
    found = attach_odometry(frame_set, FramesConfig(odom="world", base="chassis"), known, dropped.append)
    return found, dropped


def pose_at(stamp_ns):
    T = np.eye(4)
    T[0, 3] = stamp_ns
    return T


def test_every_frame_has_the_pose_at_its_own_stamp():
    found, dropped = attach(pose_at)
    assert [frame.T_odom_base[0, 3] for frame in found.frames] == [100, 120]
    assert (found.stamp_ns, found.cameras, dropped) == (120, ("left", "right"), [])
    assert all(frame.image is IMAGE for frame in found.frames)


def test_frames_without_odometry_are_left_out_and_said():
    found, dropped = attach(lambda stamp_ns: "it ends at 110" if stamp_ns > 110 else pose_at(stamp_ns))
    assert (found.stamp_ns, found.cameras) == (100, ("left",))
    (error,) = dropped
    assert (error.camera, error.reason) == ("right", "no odometry")
    assert "no transform world -> chassis at the image's stamp (it ends at 110): publish the robot's" in str(error)
    found, dropped = attach(lambda stamp_ns: "nothing", replace(FRAME_SET, frames=FRAME_SET.frames[:1]))
    assert found is None and len(dropped) == 1


TURN = np.array([0.0, 0.0, 0.6, 0.8])


def odometry(frame, child, quaternion=TURN):
    place = SimpleNamespace(x=3.0, y=4.0, z=0.0)
    pose = SimpleNamespace(position=place, orientation=SimpleNamespace(**dict(zip("xyzw", quaternion, strict=True))))
    header = SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=2, nanosec=5))
    return SimpleNamespace(header=header, child_frame_id=child, pose=SimpleNamespace(pose=pose))


def base_odometry(publish_tf, **static):
    """``static``: target_source -> x of the transform."""

    def look_up(target, source):
        x = static.get(f"{target}_{source}")
        return None if x is None else T_from(np.eye(3), np.array([x, 0.0, 0.0]))

    return BaseOdometry("/wheels", FramesConfig(odom="odom", base="base", publish_tf=publish_tf), look_up)


T_ODOM_CHILD = T_from(matrix_from_quat_xyzw(TURN), np.array([3.0, 4.0, 0.0]))


@pytest.mark.parametrize("names", [("odom", "base"), ("/odom", "/base")])
def test_odometry_of_the_base_in_odom_is_taken_as_it_is(names):
    stamp_ns, T = base_odometry(publish_tf=False).pose(odometry(*names))
    assert stamp_ns == 2_000_000_005
    np.testing.assert_allclose(T, T_ODOM_CHILD, atol=1e-12)


@pytest.mark.parametrize("publish_tf", [True, False])
def test_odometry_of_another_frame_is_that_of_the_base_by_a_static_transform_or_refused(publish_tf):
    known = base_odometry(publish_tf, wheels_base=0.5)
    _, T = known.pose(odometry("odom", "wheels"))
    np.testing.assert_allclose(T, T_ODOM_CHILD @ T_from(np.eye(3), np.array([0.5, 0.0, 0.0])), atol=1e-12)
    with pytest.raises(
        InputError, match=r"/wheels has the pose of child_frame_id 'arm', but frames.base is 'base'"
    ):
        known.pose(odometry("odom", "arm"))
    with pytest.raises(InputError, match="child_frame_id ''"):
        known.pose(odometry("odom", ""))


def test_odometry_in_another_frame_is_refused_where_odom_is_the_robots():
    with pytest.raises(
        InputError, match=r"in header.frame_id 'map', but frames.odom is 'odom', and no static"
    ):
        base_odometry(publish_tf=False).pose(odometry("map", "base"))
    _, T = base_odometry(publish_tf=False, odom_start=7.0).pose(odometry("start", "base"))
    np.testing.assert_allclose(T[:3, 3], [10.0, 4.0, 0.0])


def test_where_odom_is_our_own_odometry_may_be_in_any_one_frame():
    own = base_odometry(publish_tf=True)
    np.testing.assert_allclose(own.pose(odometry("wheel_odom", "base"))[1], T_ODOM_CHILD, atol=1e-12)
    with pytest.raises(InputError, match="in 'map', and was in 'wheel_odom' before: let one node alone publish"):
        own.pose(odometry("map", "base"))
    np.testing.assert_allclose(own.pose(odometry("wheel_odom", "base"))[1], T_ODOM_CHILD, atol=1e-12)


def test_what_was_refused_says_nothing_about_the_frame():
    own = base_odometry(publish_tf=True)
    with pytest.raises(InputError, match="child_frame_id 'arm'"):
        own.pose(odometry("map", "arm"))
    np.testing.assert_allclose(own.pose(odometry("wheel_odom", "base"))[1], T_ODOM_CHILD, atol=1e-12)


def test_a_position_that_is_not_finite_is_refused():
    message = odometry("odom", "base")
    message.pose.pose.position.y = float("nan")
    with pytest.raises(InputError, match="position is"):
        base_odometry(publish_tf=False).pose(message)


def test_a_static_transform_may_come_later():
    static = {}
    waiting = BaseOdometry("/wheels", FramesConfig(base="base"), lambda *names: static.get(names))
    with pytest.raises(InputError):
        waiting.pose(odometry("odom", "wheels"))
    static["wheels", "base"] = np.eye(4)
    np.testing.assert_allclose(waiting.pose(odometry("odom", "wheels"))[1], T_ODOM_CHILD, atol=1e-12)
