"""Windows of 32 views through the whole pipeline: a few cameras over long, and many cameras for short."""

import numpy as np
import pytest
import torch
from pipeline_helpers import make_pipeline

from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.geometry.se3 import is_rigid

ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
PERIOD_NS = 10**8


def make_set(cameras, step):
    """Pictures that have most in common, as a robot's do."""
    common = np.random.default_rng(0).integers(0, 256, (48, 64, 3))
    frames = []
    for index, name in enumerate(cameras):
        own = np.random.default_rng([step, index]).integers(0, 256, common.shape)
        image = (0.8 * common + 0.2 * own).astype(np.uint8)
        frames.append(Frame(name, step * PERIOD_NS + index, image, frame_id=f"{name}_optical"))
    return FrameSet(frames[-1].stamp_ns, tuple(frames))


def check_window_of_32_views(sets, cameras, device, tolerance, **settings):
    """Every step of a window that fills and then slides: all views have a pose, and it is what the network says of
    the window's images."""
    names = tuple(f"camera{index}" for index in range(cameras))
    request = OutputRequest.everything(names)
    pipeline = make_pipeline(
        cameras=names,
        model__device=device,
        window__sets=sets,
        window__keyframe_recent=sets,  # no anchors: the newest sets
        **settings,
    )
    given = [make_set(names, step) for step in range(1, sets + 3)]
    for number, frame_set in enumerate(given, 1):
        estimate = pipeline.step(frame_set, request)
        assert len(estimate.views) == min(number, sets) * cameras
        assert [output.camera for output in estimate.outputs] == list(names)
        assert all(np.isfinite(output.depth).all() and (output.depth > 0).all() for output in estimate.outputs)
        assert all(is_rigid(view.T_odom_cam, 1e-4) for view in estimate.views)
        assert estimate.merged_points is not None and estimate.tracking.status != "lost"
    kept = [frame.stamp_ns for frame_set in given[-sets:] for frame in frame_set.frames]
    assert len(kept) == 32 and [view.stamp_ns for view in estimate.views] == kept
    assert [view.newest for view in estimate.views] == [False] * (32 - cameras) + [True] * cameras

    stream = pipeline._stream
    with torch.inference_mode():
        images = torch.cat([stream.prepare(frame_set)[0] for frame_set in given[-sets:]])[None]
        whole = stream._model(images)
    unit = np.median(estimate.outputs[0].depth / whole.depth[0, 32 - cameras].float().cpu().numpy())
    for output, depth, sure in zip(
        estimate.outputs, whole.depth[0, -cameras:], whole.depth_conf[0, -cameras:], strict=True
    ):
        assert_close(output.depth, unit * depth, tolerance)
        assert_close(output.confidence, sure, tolerance)
    for view, K in zip(estimate.views, whole.intrinsics[0], strict=True):
        assert_close(view.K[[0, 1], [0, 1]], K[[0, 1], [0, 1]], tolerance)
    pipeline.close()


def assert_close(found, expected, tolerance):
    """All but one number of a thousand: in half precision single pixels go from one surface to its neighbour's."""
    error = np.abs(found / expected.float().cpu().numpy() - 1)
    assert np.quantile(error, 0.999) < tolerance


@pytest.mark.parametrize(("sets", "cameras"), [(8, 4), (4, 8)])
def test_a_window_of_32_views(sets, cameras, thin):
    check_window_of_32_views(sets, cameras, "cpu", 1e-4, model__process_res=56, model__matmul="as_dtype")


@pytest.mark.parametrize("execution", ["graphs", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("sets", "cameras"), [pytest.param(8, 4, marks=ON_CUDA), pytest.param(4, 8, marks=ON_CUDA)])
def test_a_window_of_32_views_on_a_gpu(sets, cameras, execution):
    """da3-small at the size of a robot's images, against the same network on the whole window; half precision."""
    check_window_of_32_views(sets, cameras, "cuda", 0.03, model__process_res=504, model__execution=execution)
