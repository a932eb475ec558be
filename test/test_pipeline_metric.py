"""Metres, sky and networks without poses, as a subscriber would see them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from da3_ros.config import PipelineConfig, PointsConfig, from_flat
from da3_ros.datatypes import CameraCalibration, Frame, FrameSet, OutputRequest
from da3_ros.errors import FrameError
from da3_ros.model import VARIANTS
from da3_ros.pipeline import Pipeline

K = np.array([[60.0, 0, 41.5], [0, 60.0, 31.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(84, 64, K)
CAMERAS = ("left", "right")
EVERYTHING = OutputRequest.everything(CAMERAS)
ANY_VIEW_AND_METRIC = {"model.metric_checkpoint": "random"}
NESTED = {"model.variant": "da3nested-giant-large"}
METRIC = {"model.variant": "da3metric-large"}
MONO = {"model.variant": "da3mono-large"}


@pytest.fixture(autouse=True)
def _thin_networks(monkeypatch):
    """The structure of the published networks with few channels."""
    thin = {"dim": 64, "gaussians": False, "features": 16, "out_channels": (8, 8, 16, 16)}
    for name, variant in list(VARIANTS.items()):
        metric = variant.metric and replace(variant.metric, **thin)
        monkeypatch.setitem(VARIANTS, name, replace(variant, metric=metric, **thin))


def make_pipeline(values, **more):
    flat = {
        "cameras": CAMERAS,
        "model.checkpoint": "random",
        "model.device": "cpu",
        "model.process_res": 84,
        "window.sets": 2,
        **values,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return Pipeline(from_flat(flat, PipelineConfig))


def make_set(step=1, calibration=CALIBRATION):
    rng = np.random.default_rng(step)
    frames = tuple(
        Frame(name, step, rng.integers(0, 256, (64, 84, 3), dtype=np.uint8), frame_id=name, calibration=calibration)
        for name in CAMERAS
    )
    return FrameSet(step, frames)


@pytest.mark.parametrize("values", [METRIC, MONO])
def test_single_view_networks_give_depth_sky_and_clouds_but_no_poses(values):
    pipeline = make_pipeline(values)
    pipeline.update_points(PointsConfig(min_confidence_percentile=0.0))
    pipeline.set_rig({"left": np.eye(4)})
    pipeline.step(make_set(1), EVERYTHING)
    estimate = pipeline.step(make_set(2), EVERYTHING)
    assert not estimate.has_poses and estimate.T_odom_base is None and estimate.merged_points is None
    assert [(view.camera, view.newest, view.reference) for view in estimate.views] == [
        ("left", True, False), ("right", True, False)
    ]  # fmt: skip
    for view, output in zip(estimate.views, estimate.outputs, strict=True):
        assert view.T_odom_cam is None and view.K_predicted is None and np.isnan(view.median_confidence)
        assert output.confidence is None
        assert output.K[0, 0] / output.depth.shape[1] == pytest.approx(60 / 84)
        cloud = output.points.data.view(np.float32)[..., 2]
        np.testing.assert_array_equal(np.isfinite(cloud), np.isfinite(output.depth))
    if values is METRIC:
        assert (estimate.scale.source, estimate.scale.metres_per_unit) == ("metric_model", 1.0)
    else:
        assert estimate.scale.source == "none" and np.isnan(estimate.scale.metres_per_unit)


def test_metric_depth_follows_the_calibrated_focal_length():
    """The same pixels through a lens of twice the focal length are twice as far away."""
    depth = []
    for focal in (60.0, 120.0):
        K_lens = np.array([[focal, 0, 41.5], [0, focal, 31.5], [0, 0, 1]])
        calibration = CameraCalibration(84, 64, K_lens)
        depth.append(make_pipeline(METRIC).step(make_set(calibration=calibration), EVERYTHING).outputs[0].depth)
    finite = np.isfinite(depth[0])
    np.testing.assert_allclose(depth[1][finite], 2 * depth[0][finite], rtol=1e-5)


def test_metric_network_refuses_images_without_calibration():
    with pytest.raises(FrameError, match="camera 'left': da3metric-large predicts no intrinsics"):
        make_pipeline(METRIC).step(make_set(calibration=None), EVERYTHING)


@pytest.mark.parametrize("values", [ANY_VIEW_AND_METRIC, NESTED])
def test_everything_is_multiplied_by_the_scale(values):
    """The same network with and without its metric scale."""
    metric, bare = make_pipeline(values), make_pipeline(values, scale__source="none")
    ours, theirs = metric.step(make_set(), EVERYTHING), bare.step(make_set(), EVERYTHING)
    scale = ours.scale
    assert scale.source == "metric_model" and scale.metres_per_unit > 0 and scale.stddev > 0
    assert theirs.scale.source == "none"
    for view, other in zip(ours.views, theirs.views, strict=True):
        np.testing.assert_allclose(
            view.T_odom_cam[:3, 3], other.T_odom_cam[:3, 3] * scale.metres_per_unit, rtol=1e-4, atol=1e-6
        )
    for output, other in zip(ours.outputs, theirs.outputs, strict=True):
        np.testing.assert_allclose(output.depth, other.depth * scale.metres_per_unit, rtol=1e-5)
        np.testing.assert_array_equal(output.sky, other.sky)
        np.testing.assert_array_equal(output.confidence, other.confidence)


@pytest.mark.parametrize("resolution", ["network", "input"])
@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_sky_is_where_depth_is_beyond_range(resolution, encoding):
    values = {**ANY_VIEW_AND_METRIC, "publish.depth_resolution": resolution, "publish.depth_encoding": encoding}
    output = make_pipeline(values).step(make_set(), EVERYTHING).outputs[0]
    assert output.sky.dtype == np.uint8 and output.sky.shape == output.depth.shape == output.size_hw
    assert set(np.unique(output.sky)) == {0, 255}
    beyond = np.isposinf(output.depth) if encoding == "32FC1" else output.depth == 0
    np.testing.assert_array_equal(output.sky == 255, beyond)


def test_sky_alone_can_be_asked_for():
    request = OutputRequest(sky=frozenset({"right"}))
    (output,) = make_pipeline(METRIC).step(make_set(), request).outputs
    assert output.camera == "right" and output.depth is None and output.points is None
    assert output.sky.shape == output.size_hw and output.K[0, 0] > 0


def test_without_a_network_that_sees_sky_there_is_none():
    output = make_pipeline({}).step(make_set(), EVERYTHING).outputs[0]
    assert output.sky is None and np.all(np.isfinite(output.depth))


def test_nothing_but_sky_gives_neither_poses_nor_finite_depth_and_says_so(monkeypatch):
    pipeline = make_pipeline(ANY_VIEW_AND_METRIC)
    assert pipeline.step(make_set(1), EVERYTHING).has_poses
    pipeline.reset()
    monkeypatch.setattr("da3_ros.model.sky.SKY_THRESHOLD", -1.0)
    estimate = pipeline.step(make_set(2), EVERYTHING)
    assert estimate.scale.source == "metric_model" and np.isnan(estimate.scale.metres_per_unit)
    assert not estimate.has_poses and estimate.T_odom_base is None and estimate.merged_points is None
    assert np.all(estimate.outputs[0].depth == np.inf) and np.all(estimate.outputs[0].sky == 255)
    assert "scale" in estimate.warnings["left"]


def test_the_description_names_both_networks():
    description = make_pipeline(ANY_VIEW_AND_METRIC).description
    assert description["metric checkpoint"] == "random (untrained)" and description["scale"] == "rig+metric_model"
    assert not description["weights_trained"]
    alone = make_pipeline({}).description
    assert description["parameters"] > alone["parameters"] and "metric checkpoint" not in alone


def test_an_uncalibrated_camera_beside_calibrated_ones_uses_the_predicted_focal_length():
    estimate = make_pipeline(ANY_VIEW_AND_METRIC).step(make_set(calibration=None), EVERYTHING)
    assert np.isfinite(estimate.scale.metres_per_unit) and torch.tensor(estimate.outputs[0].K).isfinite().all()
