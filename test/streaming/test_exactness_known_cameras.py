"""Known cameras condition the network: over random steps it is the whole network with those cameras."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from streaming_helpers import make_model, make_set, make_stream
from window_mirror import NAMES, Mirror, assert_same

from da3_ros.datatypes import CameraCalibration
from da3_ros.geometry.se3 import T_from, invert, matrix_from_quat_xyzw
from da3_ros.model.camera import normalise_cameras
from da3_ros.model.sky import sky_mask

CALIBRATION = CameraCalibration(64, 48, np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]))
FORWARD = matrix_from_quat_xyzw(np.array([-0.5, 0.5, -0.5, 0.5]))  # optical to body axes


def on_robot(yaw, *place):
    """T_base_cam of a camera at ``place`` (3,) in metres, turned to the left by ``yaw`` radians."""
    turn = matrix_from_quat_xyzw(np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)]))
    return T_from(turn @ FORWARD, np.array(place))


RIG = {
    "left": on_robot(0.1, 0.3, 0.06, 1.0),
    "right": on_robot(-0.1, 0.3, -0.06, 1.0),
    "rear": on_robot(3.0, -0.2, 0.0, 1.1),
    "front": on_robot(0.0, 0.35, 0.01, 0.9),
}
SKEW_NS = 7_000_000  # by which each camera fires before the one in front of it


def robot_at(stamp_ns):
    """T_odom_base of a robot that drives a curve, far from where odom began."""
    s = stamp_ns / 1e9
    turn = matrix_from_quat_xyzw(np.array([0.0, 0.0, np.sin(0.2 * s), np.cos(0.2 * s)]))
    return T_from(turn, np.array([40.0 + 1.5 * s, -300.0 + 0.4 * s * s, 0.1]))


def make_known_set(rng, number, cameras):
    """Calibrated frames, each with the robot's pose at its own stamp."""
    frame_set = make_set(rng, number, cameras, calibration=CALIBRATION)
    stamps = [frame_set.stamp_ns - SKEW_NS * NAMES.index(frame.camera) for frame in frame_set.frames]
    frames = [
        replace(frame, stamp_ns=stamp, T_odom_base=robot_at(stamp))
        for frame, stamp in zip(frame_set.frames, stamps, strict=True)
    ]
    return replace(frame_set, stamp_ns=max(stamps), frames=tuple(frames))


def check(variant, seed, T_world_cam, **settings):
    """``T_world_cam`` (4, 4) of a frame, in any world: the network takes the window's first view for the world."""
    model = make_model(variant)
    stream = make_stream(model, scale_from_cameras=False, **settings)
    stream.set_rig(RIG)
    for step in Mirror(stream, np.random.default_rng(seed), settings["sets"] > 1, make_known_set).run():
        poses = torch.from_numpy(np.stack([invert(T_world_cam(frame)) for frame in step.frames]))[None]
        K = np.stack([view.view.K for view in step.prediction.views]) + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        with torch.inference_mode():
            want = model(step.images, normalise_cameras(poses), torch.from_numpy(K).float()[None])
        if want.scale is None:
            assert_same(step, want)
        else:
            assert_same_in_metres(step, want)


def assert_same_in_metres(step, want):
    """As assert_same, for a nested network: its own outputs are in metres, and depth of sky is +Inf."""
    got = step.prediction
    metres = got.metres_per_unit
    torch.testing.assert_close(metres, want.scale[0], rtol=1e-5, atol=0)
    is_sky = sky_mask(want.sky[0, step.decoded])
    assert torch.equal(got.sky, is_sky)
    extrinsics = want.extrinsics.clone()
    extrinsics[..., 3] /= metres
    depth = torch.where(is_sky, got.depth, want.depth[0, step.decoded] / metres)
    assert_same(step, replace(want, extrinsics=extrinsics, depth=want.depth.index_put(_at(step, want), depth)))


def _at(step, want):
    """Index of the decoded views in maps (1, N, H, W)."""
    return torch.tensor(0), torch.arange(want.depth.shape[1])[step.decoded]


VARIANTS = ("da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant", "da3nested-giant-large")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sets", "cameras", "stride", "decode"), [(3, 2, 1, "newest"), (6, 1, 2, "all"), (2, 4, 1, "newest")]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_poses_from_odometry(variant, sets, cameras, stride, decode):
    settings = {"sets": sets, "cameras": cameras, "stride": stride, "decode": decode}
    check(variant, 6, lambda frame: frame.T_odom_base @ RIG[frame.camera], pose_conditioning="odometry", **settings)


@pytest.mark.slow
@pytest.mark.parametrize("cameras", [1, 2, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_poses_of_a_rig(variant, cameras):
    check(variant, 7, lambda frame: RIG[frame.camera], sets=1, cameras=cameras, pose_conditioning="rig")
