"""The sliding window gives what the whole network gives for the same images."""

import numpy as np
import pytest
import torch
from streaming_helpers import (
    CAMERAS,
    STEP_NS,
    assert_same_rays,
    make_model,
    make_set,
    make_stream,
    record_ray_cameras,
    window_images,
)

from da3_ros.datatypes import CameraCalibration, Frame, FrameSet
from da3_ros.errors import ConfigError, InputError
from da3_ros.streaming import WindowConfig


@pytest.fixture(scope="module")
def model():
    return make_model("da3-small")


@pytest.mark.parametrize("name", ["da3-small", "da3-large", "da3-giant"])
@pytest.mark.parametrize("ref_view", ["first", "middle", "saddle_balanced", "saddle_sim_range"])
@pytest.mark.parametrize("use_ray_pose", [False, True])
@pytest.mark.parametrize("steps", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_step_equals_the_network_on_the_whole_window(name, ref_view, use_ray_pose, steps, monkeypatch):
    model, solved = make_model(name), record_ray_cameras(monkeypatch)
    rng = np.random.default_rng(1)
    stream = make_stream(model, ref_view=ref_view, use_ray_pose=use_ray_pose)
    stream.step(make_set(rng, 0))  # both cameras once, so that the canvas is known
    stream.reset()
    history = []
    for step in range(1, steps + 1):
        present = CAMERAS if rng.random() < 0.6 else (CAMERAS[rng.integers(2)],)
        frame_set = make_set(rng, step, present)
        history = [*history, frame_set][-3:]
        got = stream.step(frame_set)
        with torch.inference_mode():
            want = model(window_images(stream, history), ref_view=ref_view, use_ray_pose=use_ray_pose)
        new = len(present)
        torch.testing.assert_close(got.depth, want.depth[0, -new:], rtol=1e-5, atol=0)
        torch.testing.assert_close(got.depth_conf, want.depth_conf[0, -new:], rtol=1e-5, atol=0)
        extrinsics, K = want.extrinsics, want.intrinsics
        if use_ray_pose:
            assert_same_rays(*solved[-2:])
            _, _, extrinsics, K = solved[-2]
        torch.testing.assert_close(got.T_cam_world[:, :3], extrinsics[0], rtol=1e-5, atol=1e-5)
        # Principal points of random rays are anywhere about zero: compared on the scale of the image.
        torch.testing.assert_close(got.K, K[0], rtol=1e-5, atol=1e-5 * max(stream.canvas_hw))
        stamps = [frame.stamp_ns for frame_set in history for frame in frame_set.frames]
        assert [view.stamp_ns for view in got.views] == stamps
        assert [view.newest for view in got.views] == [False] * (len(stamps) - new) + [True] * new


def test_stride_predicts_every_nth_set_with_all_sets_in_the_window(model):
    rng = np.random.default_rng(2)
    stream = make_stream(model, sets=4, cameras=1, stride=2)
    predictions = [stream.step(make_set(rng, step, ("left",))) for step in range(6)]
    assert [prediction is not None for prediction in predictions] == [False, True] * 3
    assert [view.stamp_ns // STEP_NS for view in predictions[5].views] == [2, 3, 4, 5]
    assert predictions[5].decoded == (3,)


def test_reset_then_the_same_sets_gives_the_same_bits(model):
    sets = [make_set(np.random.default_rng(3), step) for step in range(3)]
    stream = make_stream(model)
    first = [stream.step(frame_set).depth for frame_set in sets]
    stream.reset()
    second = [stream.step(frame_set).depth for frame_set in sets]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_image_size_starts_the_window_again(model):
    rng = np.random.default_rng(4)
    stream = make_stream(model, cameras=1)
    for step in range(3):
        prediction = stream.step(make_set(rng, step, ("left",)))
    assert len(prediction.views) == 3
    prediction = stream.step(make_set(rng, 3, ("left",), size=(64, 48)))
    assert len(prediction.views) == 1
    assert prediction.depth.shape == (1, 56, 42)


def test_another_calibration_starts_the_window_again(model):
    rng = np.random.default_rng(5)
    stream = make_stream(model, cameras=1)
    K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
    for focal in (50.0, 50.0, 60.0):
        K = np.array([[focal, 0, 31.5], [0, focal, 23.5], [0, 0, 1]])
        frame_set = make_set(rng, int(focal), ("left",), calibration=CameraCalibration(64, 48, K))
        prediction = stream.step(frame_set)
    assert len(prediction.views) == 1


def test_an_unusable_frame_leaves_the_window_as_it_was(model):
    rng = np.random.default_rng(6)
    stream = make_stream(model, cameras=1)
    stream.step(make_set(rng, 0, ("left",)))
    bad = Frame("left", STEP_NS, rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), encoding="nonsense")
    with pytest.raises(InputError, match="nonsense"):
        stream.step(FrameSet(STEP_NS, (bad,)))
    assert len(stream.step(make_set(rng, 2, ("left",))).views) == 2


@pytest.mark.parametrize("cameras", [("left", "right", "rear"), ("left", "left"), ()])
def test_sets_that_do_not_fit_the_window_are_refused(model, cameras):
    with pytest.raises(InputError):
        make_stream(model).step(make_set(np.random.default_rng(0), 0, cameras))


def test_stride_beyond_the_window_is_refused():
    with pytest.raises(InputError, match=r"stride \(3\) must not exceed sets \(2\)"):
        WindowConfig(sets=2, stride=3)


@pytest.mark.parametrize("execution", ["graphs", "compiled"])
def test_graphs_need_a_gpu(model, execution):
    with pytest.raises(ConfigError, match=f"model.execution is {execution}, which needs a CUDA device"):
        make_stream(model, execution=execution)


def test_warm_up_plans_the_canvas_and_leaves_the_window_empty(model):
    frame_set = make_set(np.random.default_rng(7), 0)
    warm, cold = make_stream(model), make_stream(model)
    warm.warm_up(dict.fromkeys(CAMERAS, ((48, 64), None)))
    assert warm.canvas_hw == (42, 56) and not warm.slots
    assert torch.equal(warm.step(frame_set).depth, cold.step(frame_set).depth)
    assert len(warm.slots) == 2


def test_a_camera_that_does_not_change_the_canvas_starts_the_window_again_and_keeps_the_buffers(model):
    """What was compiled and captured for the canvas serves on."""
    rng = np.random.default_rng(8)
    stream = make_stream(model)
    stream.step(make_set(rng, 0, ("left",)))
    network = stream._network
    assert len(stream.step(make_set(rng, 1)).views) == 2
    assert stream._network is network
