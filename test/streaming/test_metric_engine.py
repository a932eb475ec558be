"""The sliding window with a metric network: nested beside an any-view one, or by itself."""

from functools import partial

import numpy as np
import pytest
import torch
from streaming_helpers import (
    CAMERAS,
    assert_same_rays,
    make_model,
    make_set,
    make_stream,
    record_ray_cameras,
    window_images,
)
from window_mirror import NAMES

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import FrameError
from da3_ros.model import network
from da3_ros.model.sky import sky_mask

K = np.array([[50.0, 0, 31.5], [0, 54.0, 23.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(64, 48, K)


def focal_of(views):
    """(1, N) mean of fx and fy in network pixels, NaN where the camera is not calibrated."""
    return torch.tensor([[(view.view.K[0, 0] + view.view.K[1, 1]) / 2 for view in views]], dtype=torch.float32)


@pytest.mark.parametrize("use_ray_pose", [False, True])
@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_step_equals_the_nested_network_on_the_whole_window(use_ray_pose, calibration, monkeypatch):
    check_nested(monkeypatch, use_ray_pose, calibration, steps=7, sets=3, ref_view="saddle_balanced")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use_ray_pose", "calibration"), [(False, None), (False, CALIBRATION), (True, None), (True, CALIBRATION)]
)
@pytest.mark.parametrize(
    ("sets", "ref_view"), [(1, "first"), (2, "middle"), (4, "saddle_sim_range"), (6, "saddle_balanced")]
)
def test_thirty_steps_of_the_nested_network(use_ray_pose, calibration, sets, ref_view, monkeypatch):
    check_nested(monkeypatch, use_ray_pose, calibration, steps=30, sets=sets, ref_view=ref_view)


@pytest.mark.slow
@pytest.mark.parametrize(("sets", "cameras", "stride"), [(4, 1, 2), (2, 3, 2)])
def test_strides_and_cameras_of_the_nested_network(sets, cameras, stride, monkeypatch):
    check_nested(monkeypatch, False, CALIBRATION, 30, sets, "saddle_balanced", NAMES[:cameras], stride)


def _solved_as(cameras, solve, *rays):
    """``cameras``, whatever ``solve`` makes of the rays."""
    solve(*rays)
    return cameras


def check_nested(monkeypatch, use_ray_pose, calibration, steps, sets, ref_view, cameras=CAMERAS, stride=1):
    model, solved = make_model("da3nested-giant-large"), record_ray_cameras(monkeypatch)
    recorded = network.cameras_from_rays
    rng = np.random.default_rng(1)
    stream = make_stream(
        model, use_ray_pose=use_ray_pose, sets=sets, ref_view=ref_view, cameras=len(cameras), stride=stride
    )
    stream.step(make_set(rng, 0, cameras, calibration=calibration))  # each once, so that the canvas is known
    stream.reset()
    history, known = [], []
    for step in range(1, steps + 1):
        present = cameras if rng.random() < 0.6 else (cameras[rng.integers(len(cameras))],)
        frame_set = make_set(rng, step, present, calibration=calibration)
        history = [*history, frame_set][-sets:]
        got = stream.step(frame_set)
        assert (got is None) == bool(step % stride)
        if got is None:
            continue
        with torch.inference_mode(), monkeypatch.context() as patch:
            images, focal = window_images(stream, history), focal_of(got.views)
            if use_ray_pose:  # the scale is that of the focal lengths which the solver has found (see its record)
                ours = solved[-1]
                patch.setattr(network, "cameras_from_rays", partial(_solved_as, ours[2:], recorded))
            want = model(images, use_ray_pose=use_ray_pose, ref_view=ref_view, focal=focal)
        new = len(present)
        # Rays of an untrained network may be those of so short a focal length that nothing is a centimetre away.
        known.append(bool(got.metres_per_unit.isfinite()))
        torch.testing.assert_close(got.metres_per_unit, want.scale[0], rtol=1e-5, atol=0, equal_nan=True)
        torch.testing.assert_close(got.metres_stddev, want.scale_stddev[0], rtol=1e-4, atol=0, equal_nan=True)
        is_sky = sky_mask(want.sky[0, -new:])
        assert torch.equal(got.sky, is_sky)
        depth = torch.where(is_sky, torch.inf, got.depth * got.metres_per_unit)
        torch.testing.assert_close(depth, want.depth[0, -new:], rtol=1e-5, atol=0, equal_nan=True)
        torch.testing.assert_close(got.depth_conf, want.depth_conf[0, -new:], rtol=1e-5, atol=0)
        if use_ray_pose:
            assert_same_rays(*solved[-2:])
            torch.testing.assert_close(got.T_cam_world[:, :3], solved[-2][2][0], rtol=1e-5, atol=1e-5)
        else:
            translation = got.T_cam_world[:, :3, 3] * got.metres_per_unit
            torch.testing.assert_close(translation, want.extrinsics[0, :, :, 3], rtol=1e-5, atol=1e-5)
    assert sum(known) >= (0.5 if use_ray_pose and calibration is None else 1) * len(known)


def test_the_metric_network_sees_each_image_once(monkeypatch):
    model = make_model("da3nested-giant-large")
    seen = []
    maps = model.da3_metric.maps
    monkeypatch.setattr(model.da3_metric, "maps", lambda images: seen.append(images.shape[1]) or maps(images))
    stream = make_stream(model)
    rng = np.random.default_rng(2)
    for step in range(5):
        stream.step(make_set(rng, step))
    assert seen == [2] * 5


def test_without_metric_scale_there_is_still_sky():
    model = make_model("da3nested-giant-large")
    prediction = make_stream(model, metric_scale=False).step(make_set(np.random.default_rng(3), 0))
    assert prediction.metres_per_unit is None and prediction.sky.shape == prediction.depth.shape


def test_padding_does_not_count_for_the_scale():
    """A wide and a tall camera on one canvas: the scale is that of their contents."""
    model = make_model("da3nested-giant-large")
    rng = np.random.default_rng(4)
    wide, tall = make_set(rng, 0, ("left",), size=(48, 96)), make_set(rng, 0, ("right",), size=(96, 48))
    both = type(wide)(0, wide.frames + tall.frames)
    stream = make_stream(model)
    got = stream.step(both)
    valid = torch.zeros((1, 2, *stream.canvas_hw), dtype=torch.bool)
    for index, view in enumerate(got.views):
        top, left, height, width = view.view.content
        valid[0, index, top : top + height, left : left + width] = True
    assert 0 < valid.float().mean() < 1
    with torch.inference_mode():
        images = window_images(stream, [both])
        torch.testing.assert_close(got.metres_per_unit, model(images, valid=valid).scale[0], rtol=1e-5, atol=0)
        assert model(images).scale[0] != got.metres_per_unit


@pytest.mark.parametrize(
    ("steps", "cameras", "stride"),
    [(4, 2, 2), *(pytest.param(30, *case, marks=pytest.mark.slow) for case in ((1, 1), (2, 2), (4, 3)))],
)
@pytest.mark.parametrize("name", ["da3metric-large", "da3mono-large"])
def test_single_view_networks_give_depth_and_sky_of_the_newest_set(name, steps, cameras, stride):
    model = make_model(name)
    stream = make_stream(model, cameras=cameras, stride=stride)
    rng = np.random.default_rng(5)
    stream.step(make_set(rng, 0, NAMES[:cameras], calibration=CALIBRATION))  # so that the canvas is known
    stream.reset()
    for step in range(1, steps + 1):
        present = tuple(name for name in NAMES[:cameras] if rng.random() < 0.75) or NAMES[:1]
        frame_set = make_set(rng, step, present, calibration=CALIBRATION)
        got = stream.step(frame_set)
        assert (got is None) == bool(step % stride)
        if got is None:
            continue
        assert [(view.camera, view.stamp_ns, view.newest) for view in got.views] == [
            (camera, frame_set.stamp_ns, True) for camera in present
        ]
        assert got.decoded == tuple(range(len(present)))
        assert got.T_cam_world is None and got.K is None and got.depth_conf is None and got.reference_index is None
        with torch.inference_mode():
            maps = model.maps(window_images(stream, [frame_set]))
        focal = focal_of(got.views)[0, :, None, None]
        metres = maps.depth[0] * focal / 300 if name == "da3metric-large" else maps.depth[0]
        torch.testing.assert_close(got.depth, metres, rtol=1e-5, atol=0)
        assert torch.equal(got.sky, sky_mask(maps.sky[0]))
        assert (got.metres_per_unit is None) == (name == "da3mono-large")


@pytest.mark.parametrize("name", ["da3metric-large", "da3mono-large"])
def test_an_uncalibrated_image_is_refused_by_networks_without_intrinsics(name):
    with pytest.raises(FrameError, match=f"camera 'left': {name} predicts no intrinsics .* CameraInfo") as error:
        make_stream(make_model(name)).step(make_set(np.random.default_rng(6), 0))
    assert error.value.reason == "calibration"


def test_metres_do_not_depend_on_the_networks_resolution():
    """What the metric network says is multiplied by the focal length of the image that it saw."""
    model = make_model("da3metric-large")
    frame_set = make_set(np.random.default_rng(7), 0, calibration=CALIBRATION)
    for process_res, scale in ((56, 56 / 64), (112, 112 / 64)):
        stream = make_stream(model, process_res=process_res)
        got = stream.step(frame_set)
        with torch.inference_mode():
            raw = model.maps(window_images(stream, [frame_set])).depth[0]
        torch.testing.assert_close(got.depth, raw * 52.0 * scale / 300, rtol=1e-4, atol=0)
