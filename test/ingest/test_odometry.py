"""Each frame of a set gets the robot's pose at its own stamp; frames without one are left out and said."""

from dataclasses import replace

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.datatypes import Frame, FrameSet
from da3_ros.ingest.odometry import attach_odometry

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
