"""Frame sets in, estimates out: what a subscriber would see, without ROS."""

import numpy as np
import pytest
from pipeline_helpers import CALIBRATION, CAMERAS, K, make_pipeline, make_set

from da3_ros.config import PointsConfig
from da3_ros.datatypes import CameraCalibration, OutputRequest
from da3_ros.errors import UnavailableError, WeightsError
from da3_ros.geometry.se3 import T_from, invert, is_rigid, matrix_from_quat_xyzw


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(model__process_res=84)


@pytest.fixture(autouse=True)
def _fresh(pipeline):
    pipeline.reset()
    pipeline.set_rig({})
    pipeline.update_points(PointsConfig())


def points_of(buffer):
    return buffer.data.view(np.float32)[..., :3]


def test_outputs_agree_with_each_other(pipeline):
    estimate = pipeline.step(make_set(), OutputRequest.everything(CAMERAS))
    assert [output.camera for output in estimate.outputs] == list(CAMERAS)
    for output, index in zip(estimate.outputs, range(2), strict=True):
        assert output.stamp_ns == 10**8 + index
        assert output.frame_id == f"{output.camera}_optical"
        height, width = output.depth.shape
        assert (height, width) == output.size_hw == (70, 84)
        # the field of view of the published intrinsics is that of the CameraInfo
        assert output.K[0, 0] / width == pytest.approx(60 / 84, rel=1e-6)
        assert np.all(output.confidence >= 1)
        # every valid point of the cloud lies on its pixel's ray at the published depth
        xyz = points_of(output.points)
        valid = np.isfinite(xyz[..., 2])
        assert 0.7 < valid.mean() < 0.85  # the 20 % least confident are left out
        rows, columns = np.nonzero(valid)
        np.testing.assert_allclose(xyz[valid][:, 2], output.depth[valid], rtol=1e-6)
        u = xyz[valid][:, 0] / xyz[valid][:, 2] * output.K[0, 0] + output.K[0, 2]
        v = xyz[valid][:, 1] / xyz[valid][:, 2] * output.K[1, 1] + output.K[1, 2]
        np.testing.assert_allclose(u, columns, atol=1e-3)
        np.testing.assert_allclose(v, rows, atol=1e-3)


def test_only_what_is_asked_for_is_made(pipeline):
    nothing = pipeline.step(make_set(), OutputRequest())
    assert nothing.outputs == () and nothing.merged_points is None and len(nothing.views) == 2
    some = pipeline.step(make_set(2), OutputRequest(depth=frozenset({"right"})))
    assert [output.camera for output in some.outputs] == ["right"]
    assert some.outputs[0].depth is not None
    assert some.outputs[0].confidence is None and some.outputs[0].points is None


def test_window_views_and_poses(pipeline):
    for step in (1, 2, 3):
        estimate = pipeline.step(make_set(step, seed=step), OutputRequest())
    assert [(view.camera, view.newest) for view in estimate.views] == [
        ("left", False), ("right", False), ("left", True), ("right", True)
    ]  # fmt: skip
    assert sum(view.reference for view in estimate.views) == 1
    assert all(is_rigid(view.T_odom_cam, 1e-4) for view in estimate.views)
    assert estimate.scale.source == "none" and np.isnan(estimate.scale.metres_per_unit)
    assert estimate.T_odom_base is None


def test_base_follows_from_a_camera_with_known_extrinsics(pipeline):
    T_base_right = T_from(matrix_from_quat_xyzw(np.array([0.5, -0.5, 0.5, -0.5])), np.array([0.1, -0.2, 0.3]))
    pipeline.set_rig({"right": T_base_right})
    estimate = pipeline.step(make_set(), OutputRequest())
    right = estimate.views[1]
    without_lever = T_from(T_base_right[:3, :3], np.zeros(3))  # which is in metres, and there are none
    np.testing.assert_allclose(estimate.T_odom_base, right.T_odom_cam @ invert(without_lever), atol=1e-5)


def test_merged_cloud_holds_the_points_of_all_cameras_in_its_frame(pipeline):
    estimate = pipeline.step(make_set(), OutputRequest.everything(CAMERAS))
    expected = []
    for view, output in zip(estimate.views, estimate.outputs, strict=True):
        xyz = points_of(output.points).reshape(-1, 3)
        xyz = xyz[np.isfinite(xyz[:, 2])]
        expected.append(xyz @ view.T_odom_cam[:3, :3].T + view.T_odom_cam[:3, 3])
    assert estimate.merged_points.frame_id == "odom"
    np.testing.assert_allclose(points_of(estimate.merged_points)[0], np.concatenate(expected), atol=1e-4)


def test_merged_cloud_in_the_base_needs_the_rig(pipeline):
    pipeline.update_points(PointsConfig(frame="base"))
    request = OutputRequest(merged_points=True)
    assert pipeline.step(make_set(), request).merged_points is None
    pipeline.set_rig({"left": np.eye(4)})
    assert pipeline.step(make_set(2), request).merged_points.frame_id == "base_link"


def test_point_settings_take_effect(pipeline):
    request = OutputRequest(points=frozenset(CAMERAS), merged_points=True)
    pipeline.update_points(PointsConfig(stride=2, min_confidence_percentile=0.0))
    estimate = pipeline.step(make_set(), request)
    assert estimate.outputs[0].points.data.shape == (35, 42, 16)
    everything = estimate.merged_points.data.shape[1]
    assert everything == 2 * 35 * 42
    pipeline.update_points(PointsConfig(stride=2, min_confidence_percentile=0.0, voxel_m=0.5))
    assert pipeline.step(make_set(2), request).merged_points.data.shape[1] < everything
    ranges = np.linalg.norm(points_of(estimate.outputs[0].points), axis=-1)
    limit = float(np.median(ranges))
    pipeline.update_points(PointsConfig(min_confidence_percentile=0.0, max_range_m=limit))
    near = points_of(pipeline.step(make_set(3), request).outputs[0].points)
    assert np.nanmax(np.linalg.norm(near, axis=-1)) <= limit * 1.0001


def test_a_camera_that_is_missing_has_no_outputs(pipeline):
    pipeline.step(make_set(), OutputRequest())
    estimate = pipeline.step(make_set(2, cameras=("right",)), OutputRequest.everything(CAMERAS))
    assert [output.camera for output in estimate.outputs] == ["right"]
    assert [view.camera for view in estimate.views] == ["left", "right", "right"]


def test_uncalibrated_camera_uses_the_networks_own_intrinsics(pipeline):
    estimate = pipeline.step(make_set(calibrations=(CALIBRATION, None)), OutputRequest.everything(CAMERAS))
    left, right = estimate.views
    assert not np.allclose(left.K, left.K_predicted)
    np.testing.assert_array_equal(right.K, right.K_predicted)
    assert np.all(np.isfinite(estimate.outputs[1].K))


def test_depth_at_the_size_of_the_image_with_the_cameras_own_intrinsics():
    pipeline = make_pipeline(publish__depth_resolution="input")
    output = pipeline.step(make_set(), OutputRequest.everything(CAMERAS)).outputs[0]
    assert output.depth.shape == output.size_hw == (64, 84)
    np.testing.assert_allclose(output.K, K, atol=1e-4)


def test_millimetre_encoding():
    sixteen = make_pipeline(publish__depth_encoding="16UC1")
    metres = make_pipeline().step(make_set(), OutputRequest.everything(CAMERAS)).outputs[0].depth
    depth = sixteen.step(make_set(), OutputRequest.everything(CAMERAS)).outputs[0].depth
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth, metres * 1000, atol=0.51)


def test_off_centre_principal_point_warns_when_much_is_lost(pipeline):
    off = CameraCalibration(84, 64, np.array([[60.0, 0, 20.0], [0, 60.0, 31.5], [0, 0, 1]]))
    estimate = pipeline.step(make_set(calibrations=(off, CALIBRATION)), OutputRequest())
    assert "check CameraInfo" in estimate.warnings["left"] and "right" not in estimate.warnings


def test_missing_cuda_is_an_error_not_a_slower_robot(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UnavailableError, match=r"model\.device is 'cuda'"):
        make_pipeline(model__device="cuda")


def test_missing_checkpoint_is_one_clear_line(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        make_pipeline(model__checkpoint=str(tmp_path / "nowhere.safetensors"))


def test_noncommercial_weights_need_the_parameter(tmp_path):
    settings = {"model__variant": "da3-large", "model__checkpoint": str(tmp_path / "nowhere.safetensors")}
    with pytest.raises(WeightsError, match=r"non-commercial use only: set model\.accept_noncommercial to true"):
        make_pipeline(**settings)
    with pytest.raises(WeightsError, match=r"no checkpoint at .*nowhere\.safetensors"):
        make_pipeline(**settings, model__accept_noncommercial=True)
