"""A calibrated rig conditions the network: as the network by itself, in metres, and refused where it cannot."""

import numpy as np
import pytest
import torch
from streaming_helpers import CAMERAS, make_model
from streaming_helpers import make_set as make_frames
from streaming_helpers import make_stream as make_any_stream

from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import CameraCalibration, OutputRequest
from da3_ros.errors import ConfigError, FrameError, InputError
from da3_ros.geometry.se3 import T_from, invert, matrix_from_quat_xyzw
from da3_ros.model import predict_with_cameras
from da3_ros.pipeline import Pipeline
from da3_ros.streaming import WindowConfig

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(64, 48, K)
FORWARD = matrix_from_quat_xyzw(np.array([-0.5, 0.5, -0.5, 0.5]))  # optical to body axes
TURNED = FORWARD @ matrix_from_quat_xyzw(np.array([0.0, 0.1, 0.0, 1.0]))
RIG = {"left": T_from(FORWARD, np.array([0.3, 0.06, 1.0])), "right": T_from(TURNED, np.array([0.3, -0.06, 1.0]))}
UNIT = 0.25  # metres per unit of the pretended network


def make_set(cameras=CAMERAS, calibration=CALIBRATION):
    return make_frames(np.random.default_rng(0), 1, cameras, calibration=calibration)


def make_stream(model, rig=RIG, **settings):
    stream = make_any_stream(model, **{"sets": 1, "pose_conditioning": "rig", **settings})
    stream.set_rig(rig)
    return stream


def see_the_rig(patch, model):
    """Lets ``model`` predict the poses of the rig, from the right camera and in its own unit."""
    poses = np.stack([invert(T) @ RIG["right"] for T in RIG.values()])
    poses[:, :3, 3] /= UNIT
    extrinsics = torch.from_numpy(poses[None, :, :3]).float()
    decode = model.decode_cameras
    patch.setattr(
        model, "decode_cameras", lambda features: (extrinsics[:, : features.camera.shape[1]], decode(features)[1])
    )


@pytest.fixture
def model():
    return make_model("da3-small")


@pytest.mark.parametrize("sees", [True, False])
def test_step_equals_the_network_with_known_cameras(model, monkeypatch, sees):
    if sees:
        see_the_rig(monkeypatch, model)
    stream = make_stream(model)
    frames = make_set()
    got = stream.step(frames)
    extrinsics = torch.from_numpy(np.stack([invert(T) for T in RIG.values()])).float()[None]
    network_K = np.stack([view.view.K for view in got.views]) + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    with torch.inference_mode():
        images = stream.prepare(frames)[0][None]
        want, alignment = predict_with_cameras(model, images, extrinsics, torch.from_numpy(network_K).float()[None])
    assert alignment.scale_determined.item() is sees
    if not sees:
        assert got.metres_per_unit.isnan() and got.T_cam_world[:, :3, 3].isnan().all()
        torch.testing.assert_close(got.depth, want.depth[0])
        return
    torch.testing.assert_close(got.metres_per_unit.item(), UNIT, rtol=1e-4, atol=0)
    torch.testing.assert_close(got.depth * got.metres_per_unit, want.depth[0], rtol=1e-5, atol=0)
    metric = got.T_cam_world.clone()
    metric[:, :3, 3] *= got.metres_per_unit
    torch.testing.assert_close(metric[:, :3], want.extrinsics[0])
    assert got.metres_stddev < 1e-3


def test_the_rig_matters_and_its_place_on_the_robot_does_not(model):
    frames = make_set()
    here = make_stream(model).step(frames).depth
    moved = {name: T_from(TURNED, np.array([5.0, -3.0, 2.0])) @ T for name, T in RIG.items()}
    torch.testing.assert_close(make_stream(model, moved).step(frames).depth, here, rtol=1e-3, atol=0)
    bent = {**RIG, "right": T_from(FORWARD, np.array([0.9, -0.06, 1.0]))}
    assert ((make_stream(model, bent).step(frames).depth - here).abs() / here).max() > 1e-2
    assert ((make_stream(model, pose_conditioning="none").step(frames).depth - here).abs() / here).max() > 1e-2


def test_cameras_that_cannot_condition_are_named(model):
    with pytest.raises(FrameError, match=r"camera 'right': .*place on the robot is not known: publish its") as caught:
        make_stream(model, {"left": RIG["left"]}).step(make_set())
    assert (caught.value.camera, caught.value.reason) == ("right", "extrinsics")
    with pytest.raises(FrameError, match="has no calibration: publish its CameraInfo"):
        make_stream(model).step(make_set(calibration=None))
    with pytest.raises(InputError, match="moved between 2 sets: set sets to 1"):
        WindowConfig(sets=2, pose_conditioning="rig")


def configured(**settings):
    values = {
        "cameras": CAMERAS,
        "model.checkpoint": "random",
        "model.device": "cpu",
        "model.process_res": 56,
        "model.pose_conditioning": "rig",
        "window.sets": 1,
    }
    return from_flat({**values, **{key.replace("__", "."): value for key, value in settings.items()}}, PipelineConfig)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window__sets": 4}, "moved between the 4 sets of the window: set window.sets to 1"),
        ({"model__variant": "da3mono-large"}, "sees each view alone: set it to none"),
        ({"cameras": ("left",), "scale__source": "rig"}, "one camera has no distance to another"),
        ({"camera.right.camera_info_topic": "none"}, "camera_info_topic is 'none' for right"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigError) as caught:
        configured(**settings)
    assert message in str(caught.value)


def test_scale_source():
    assert configured().scale_source == "rig"
    assert configured(scale__source="none").scale_source == "none"
    assert configured(cameras=("left",)).scale_source == "none"
    assert configured(model__metric_checkpoint="random").scale_source == "rig"
    assert configured(model__metric_checkpoint="random", scale__source="metric_model").scale_source == "metric_model"


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(configured())


def test_pipeline_is_metric_by_the_rig(pipeline, monkeypatch):
    pipeline.set_rig(RIG)
    see_the_rig(monkeypatch, pipeline._stream._model)
    request = OutputRequest.everything(CAMERAS)
    estimate = pipeline.step(make_set(), request)
    assert estimate.scale.source == "rig"
    assert estimate.scale.metres_per_unit == pytest.approx(UNIT, rel=1e-4)
    np.testing.assert_allclose(estimate.T_odom_base, np.eye(4), atol=1e-6)
    for view in estimate.views:
        np.testing.assert_allclose(view.T_odom_cam, RIG[view.camera], atol=1e-5)
    assert np.isfinite(estimate.outputs[0].depth).all()
    # One camera alone shows no distance: nothing is claimed, and the reason is said.
    alone = pipeline.step(make_set(("left",)), request)
    assert alone.scale.source == "rig" and np.isnan(alone.scale.metres_per_unit)
    assert np.isnan(alone.outputs[0].depth).all() and alone.views[0].T_odom_cam is None
    assert "one camera only" in alone.warnings["left"]
