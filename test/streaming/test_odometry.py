"""The robot's odometry conditions the network: as the network by itself, in odom, and refused where it cannot."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from streaming_helpers import CAMERAS, STEP_NS, make_model, make_stream
from streaming_helpers import make_set as make_frames

from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import CameraCalibration, OutputRequest
from da3_ros.errors import ConfigError, FrameError
from da3_ros.geometry.se3 import T_from, invert, matrix_from_quat_xyzw
from da3_ros.model import predict_with_cameras
from da3_ros.pipeline import Pipeline
from da3_ros.placement import Placement

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(64, 48, K)
FORWARD = matrix_from_quat_xyzw(np.array([-0.5, 0.5, -0.5, 0.5]))  # optical to body axes
RIG = {"left": T_from(FORWARD, np.array([0.3, 0.06, 1.0])), "right": T_from(FORWARD, np.array([0.3, -0.06, 1.0]))}
SKEW_NS = {"left": 0, "right": -7_000_000}
UNIT = 0.25  # metres per unit of the pretended network


def robot_at(stamp_ns, far=(0.0, 0.0, 0.0)):
    """T_odom_base of a robot that drives a curve."""
    s = stamp_ns / 1e9
    turn = matrix_from_quat_xyzw(np.array([0.0, 0.0, np.sin(0.2 * s), np.cos(0.2 * s)]))
    return T_from(turn, np.array(far) + [1.5 * s, 0.4 * s * s, 0.1])


def make_set(rng, number, cameras=CAMERAS, at=robot_at):
    """A set whose right camera fires a little earlier, each frame with the robot's pose at its own stamp."""
    frame_set = make_frames(rng, number, cameras, calibration=CALIBRATION)
    stamps = [frame_set.stamp_ns + SKEW_NS[frame.camera] for frame in frame_set.frames]
    frames = [
        replace(frame, stamp_ns=stamp, T_odom_base=at(stamp))
        for frame, stamp in zip(frame_set.frames, stamps, strict=True)
    ]
    return replace(frame_set, stamp_ns=max(stamps), frames=tuple(frames))


def make_odometry_stream(model, rig=RIG, **settings):
    stream = make_stream(model, **{"pose_conditioning": "odometry", **settings})
    stream.set_rig(rig)
    return stream


def poses_of(frames):
    """T_cam_odom (N, 4, 4) of frames."""
    return np.stack([invert(frame.T_odom_base @ RIG[frame.camera]) for frame in frames])


def see(patch, model, window):
    """Lets ``model`` predict the poses of the frames in ``window()``, in a world and a unit of its own."""
    world = T_from(matrix_from_quat_xyzw(np.array([0.1, 0.7, 0.1, 0.7])), np.array([3.0, 1.0, -2.0]))
    decode = model.decode_cameras

    def cameras(features):
        poses = poses_of(window()) @ world
        poses[:, :3, 3] /= UNIT
        return torch.from_numpy(poses[None, :, :3]).float(), decode(features)[1]

    patch.setattr(model, "decode_cameras", cameras)


@pytest.mark.parametrize("variant", ["da3-small", "da3-giant"])
@pytest.mark.parametrize("sees", [True, False])
def test_random_steps_equal_the_network_with_known_cameras(monkeypatch, variant, sees):
    model, rng = make_model(variant), np.random.default_rng(3)
    stream = make_odometry_stream(model)
    sets = deque(maxlen=stream.config.sets)
    images = {}
    if sees:
        see(monkeypatch, model, lambda: [frame for one in sets for frame in one])
    sets.append(make_set(rng, 0).frames)
    stream.step(replace(make_set(rng, 0), frames=sets[0]))  # every camera once, so that the canvas is known
    stream.reset()
    sets.clear()
    for number in range(1, 13):
        present = tuple(name for name in CAMERAS if rng.random() < 0.7) or ("right",)
        frame_set = make_set(rng, number, present)
        for frame in frame_set.frames:
            images[frame.stamp_ns, frame.camera] = stream.prepare(replace(frame_set, frames=(frame,)))[0][0].clone()
        sets.append(frame_set.frames)
        got = stream.step(frame_set)
        held = [frame for one in sets for frame in one]
        network_K = np.stack([view.view.K for view in got.views]) + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        with torch.inference_mode():
            want, alignment = predict_with_cameras(
                model,
                torch.stack([images[frame.stamp_ns, frame.camera] for frame in held])[None],
                torch.from_numpy(poses_of(held))[None],
                torch.from_numpy(network_K).float()[None],
            )
        new = want.depth[0, -len(present) :]
        assert [(view.camera, view.stamp_ns) for view in got.views] == [(f.camera, f.stamp_ns) for f in held]
        np.testing.assert_allclose(np.stack([view.T_odom_cam for view in got.views]) @ poses_of(held), _eyes(held),
                                   atol=1e-12)  # fmt: skip
        if not alignment.scale_determined:
            assert not sees or len(held) == 1
            assert got.metres_per_unit.isnan() and got.T_cam_world[:, :3, 3].isnan().all()
            torch.testing.assert_close(got.depth, new, rtol=1e-5, atol=0)
            continue
        # The network's own depth is the same to 1e-5 (test_exactness_known_cameras). The scale magnifies what rounding
        # leaves: by poses that random weights predict it is barely determined.
        torch.testing.assert_close(got.depth * got.metres_per_unit, new, rtol=1e-4 if sees else 1e-3, atol=0)
        if sees:
            assert got.metres_per_unit.item() == pytest.approx(UNIT, rel=1e-3)


def _eyes(frames):
    return np.broadcast_to(np.eye(4), (len(frames), 4, 4))


def test_how_the_robot_moved_matters_and_where_odom_begins_does_not():
    model = make_model("da3-small")

    def depth(at, **settings):
        stream, rng = make_odometry_stream(model, **settings), np.random.default_rng(4)
        return [stream.step(make_set(rng, number, at=at)).depth.clone() for number in range(3)][-1]

    here = depth(robot_at)
    far = depth(lambda stamp_ns: robot_at(stamp_ns, (4e5, -5e6, 30.0)))
    torch.testing.assert_close(far, here, rtol=1e-3, atol=0)
    still = depth(lambda stamp_ns: robot_at(0))
    assert ((still - here).abs() / here).max() > 1e-2
    unconditioned = depth(robot_at, pose_conditioning="none")
    assert ((unconditioned - here).abs() / here).max() > 1e-2


def test_frames_that_cannot_condition_are_named():
    stream, rng = make_odometry_stream(make_model("da3-small")), np.random.default_rng(5)
    frame_set = make_set(rng, 1)
    left, right = frame_set.frames
    for wrong, words in ((None, "missing"), (np.full((4, 4), np.nan), "not a rigid")):
        with pytest.raises(FrameError, match=f"camera 'right': .*T_odom_base is {words}") as caught:
            stream.step(replace(frame_set, frames=(left, replace(right, T_odom_base=wrong))))
        assert (caught.value.camera, caught.value.reason) == ("right", "odometry")
    with pytest.raises(FrameError, match="pose_conditioning is odometry, but the image has no calibration"):
        stream.step(replace(frame_set, frames=(replace(left, calibration=None),)))
    stream.set_rig({"left": RIG["left"]})
    with pytest.raises(FrameError, match="camera 'right': model.pose_conditioning is odometry, but its place on"):
        stream.step(frame_set)


def configured(**settings):
    values = {
        "cameras": CAMERAS,
        "model.checkpoint": "random",
        "model.device": "cpu",
        "model.process_res": 56,
        "model.pose_conditioning": "odometry",
        "frames.publish_tf": False,
        "window.sets": 3,
    }
    return from_flat({**values, **{key.replace("__", "."): value for key, value in settings.items()}}, PipelineConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames__publish_tf": True}, "publishes odom -> base_link and this node must not: set frames.publish_tf to"),
        ({"model__variant": "da3mono-large"}, "is odometry, but da3mono-large sees each view alone: set it to none"),
        ({"scale__source": "none"}, "whose poses are in metres: set it to auto"),
        (
            {"model__pose_conditioning": "none", "scale__source": "odometry", "frames__publish_tf": True},
            "scale.source is odometry, so the robot publishes odom -> base_link and this node must not",
        ),
        ({"cameras": ("left",), "window__sets": 1}, "a window of one view shows no distance"),
        ({"camera.right.camera_info_topic": "none"}, "is odometry and needs a CameraInfo for every camera"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigError) as caught:
        configured(**settings)
    assert message in str(caught.value)


def test_scale_source():
    assert configured().scale_source == configured(scale__source="odometry").scale_source == "odometry"
    assert configured(cameras=("left",)).scale_source == "odometry"
    assert configured(model__metric_checkpoint="random").scale_source == "odometry"
    assert configured(model__metric_checkpoint="random", scale__source="metric_model").scale_source == "metric_model"


def test_pipeline_is_in_odom_and_metric(monkeypatch):
    pipeline, rng = Pipeline(configured()), np.random.default_rng(6)
    pipeline.set_rig(RIG)
    request = OutputRequest.everything(CAMERAS)
    held = []
    with monkeypatch.context() as patch:
        see(patch, pipeline._stream._model, lambda: held)
        for number in range(1, 5):
            frame_set = make_set(rng, number)
            held = [*held, *frame_set.frames][-6:]
            estimate = pipeline.step(frame_set, request)
            assert estimate.scale.source == "odometry"
            assert estimate.scale.metres_per_unit == pytest.approx(UNIT, rel=1e-3)
            np.testing.assert_allclose(estimate.T_odom_base, robot_at(number * STEP_NS), atol=1e-5)
            for view, pose in zip(estimate.views, poses_of(held), strict=True):
                np.testing.assert_allclose(view.T_odom_cam, invert(pose), atol=1e-5)
            assert np.isfinite(estimate.outputs[0].depth).all() and estimate.merged_points.data.size
            assert not estimate.warnings
    # A robot that stands still with one camera shows no distance: where it stands is known, how far things are is not.
    pipeline.reset()
    for number in range(5, 8):
        estimate = pipeline.step(make_set(rng, number, ("left",), lambda stamp_ns: robot_at(0)), request)
    assert estimate.scale.source == "odometry" and np.isnan(estimate.scale.metres_per_unit)
    assert np.isnan(estimate.outputs[0].depth).all() and estimate.merged_points is None
    np.testing.assert_allclose(estimate.T_odom_base, robot_at(0), atol=1e-6)
    assert "stood still" in estimate.warnings["left"]


def test_a_metric_network_gives_the_scale_without_movement():
    stream = make_odometry_stream(make_model("da3nested-giant-large"), scale_from_cameras=False)
    placement, rng = Placement(torch.device("cpu")), np.random.default_rng(7)
    placement.set_rig(RIG)
    for number in range(3):
        prediction = stream.step(make_set(rng, number, ("left",), lambda stamp_ns: robot_at(5 * STEP_NS)))
        assert prediction.metres_per_unit > 0
        np.testing.assert_allclose(placement.place(prediction).T_odom_base, robot_at(5 * STEP_NS), atol=1e-6)
