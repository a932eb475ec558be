"""Steps submitted before the results of the ones before them are taken, on the CPU and on a GPU."""

import dataclasses

import numpy as np
import pytest
import torch
from pipeline_helpers import CALIBRATION, CAMERAS, make_pipeline, make_set

from da3_ros.config import PointsConfig
from da3_ros.datatypes import OutputRequest
from da3_ros.errors import FrameError

EVERYTHING = OutputRequest.everything(CAMERAS)
# Two pipelines choose their convolutions independently of each other: in TF32 they would differ by 0.1 %.
pytestmark = pytest.mark.usefixtures("exact_products")
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
TOLERANCE = {"cpu": 0.0, "cuda": 2e-3}  # of two runs
DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]


def make(device, **settings):
    """On CUDA with graphs, whose results lie in memory that the next step writes again. There two runs are only alike,
    so what chooses by their numbers, as loops and map do, is left out."""
    given = {"model__device": device, "model__dtype": "float32", "model__execution": "eager"}
    if device == "cuda":
        given |= {"model__execution": "graphs", "loops__enabled": False, "map__enabled": False}
    return make_pipeline(**{**given, **settings})


def assert_equal(found, expected, tolerance=0.0):
    """The same numbers in everything but the times, but for the bytes of clouds where there is a ``tolerance``."""
    if dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            if field.name not in ("timings_ms", "durations_ms"):
                assert_equal(getattr(found, field.name), getattr(expected, field.name), tolerance)
    elif isinstance(found, tuple):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal(ours, theirs, tolerance)
    elif isinstance(found, np.ndarray) and tolerance:
        assert found.dtype == expected.dtype and found.ndim == expected.ndim
        if found.dtype != np.uint8:
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    elif isinstance(found, float) and tolerance:
        np.testing.assert_allclose(found, expected, rtol=tolerance)
    elif isinstance(found, (np.ndarray, float)):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("device", DEVICES)
def test_results_are_those_of_single_steps(device):
    together, alone = make(device), make(device)
    sets = [make_set(step, seed=step, cameras=CAMERAS if step != 3 else ("right",)) for step in range(1, 6)]
    requests = [EVERYTHING, OutputRequest(), OutputRequest(depth=frozenset({"left"})), EVERYTHING, EVERYTHING]
    pending = [together.submit(*step) for step in zip(sets, requests, strict=True)]
    expected = [alone.step(*step) for step in zip(sets, requests, strict=True)]
    # In another order than they were submitted in, as a slow consumer might.
    for index in (4, 0, 2, 1, 3):
        assert_equal(pending[index].result(), expected[index], TOLERANCE[device])
        assert pending[index].result() is pending[index].result()


@pytest.mark.parametrize("device", DEVICES)
def test_what_comes_after_does_not_change_a_pending_estimate(device):
    pipeline, alone = make(device), make(device)
    expected = alone.step(make_set(1), EVERYTHING)
    pending = pipeline.submit(make_set(1), EVERYTHING)
    pipeline.update_points(PointsConfig(frame="base", stride=3))
    pipeline.set_rig({"left": np.eye(4)})
    pipeline.reset()
    pipeline.submit(make_set(2, seed=9), EVERYTHING)
    # Another size: all views are planned anew.
    off = dataclasses.replace(CALIBRATION, K=np.array([[60.0, 0, 30.0], [0, 60.0, 31.5], [0, 0, 1]]))
    pipeline.submit(make_set(3, calibrations=(off, off)), EVERYTHING)
    assert_equal(pending.result(), expected, TOLERANCE[device])


def test_a_frame_that_cannot_be_used_is_refused_when_it_is_submitted():
    pipeline = make("cpu")
    first = pipeline.submit(make_set(1), EVERYTHING)
    bad = dataclasses.replace(CALIBRATION, width=100)
    with pytest.raises(FrameError, match="camera 'right'"):
        pipeline.submit(make_set(2, calibrations=(CALIBRATION, bad)), EVERYTHING)
    assert first.result().step == 1
    assert pipeline.submit(make_set(3), EVERYTHING).result().step == 2


def test_a_skipped_set_has_no_result():
    pipeline = make("cpu", window__stride=2)
    assert pipeline.submit(make_set(1), EVERYTHING) is None
    assert pipeline.submit(make_set(2), EVERYTHING).result().step == 1


def make_similar_set(step):
    """Pictures that have most in common. From ones that have nothing a random network makes windows that contradict
    each other, and which of them has the unit of length is decided by the last digits."""
    common, own = make_set(step, seed=0), make_set(step, seed=step)
    images = [(0.8 * a.image + 0.2 * b.image).astype(np.uint8) for a, b in zip(common.frames, own.frames, strict=True)]
    frames = [dataclasses.replace(frame, image=image) for frame, image in zip(own.frames, images, strict=True)]
    return dataclasses.replace(own, frames=tuple(frames))


def assert_alike(found, expected):
    """Maps of the GPU and of the CPU: only single pixels may have changed from one surface to its neighbour's."""
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    valid = np.isfinite(expected)
    error = np.abs(found[valid] / expected[valid] - 1)
    assert np.quantile(error, 0.99) < 2e-3
    assert error.max() < 0.1


def assert_alike_but_for_unit(found, expected):
    """The same of depth, of which windows agree on the unit to 1 %: where they contradict each other, as those of a
    random network do, images that differ by a grey level in few pixels move it by some tenths of that."""
    unit = np.nanmedian(found / expected)
    assert unit == pytest.approx(1.0, abs=0.01)
    assert_alike(found / unit, expected)


def test_the_set_that_leaves_is_the_same_whoever_took_which_result():
    """On a GPU it is chosen by the step before the last, whether or not later results have been taken by then."""
    at_once, at_the_end = make("cpu"), make("cpu")
    for pipeline in (at_once, at_the_end):
        pipeline._tracking._lag = 1
    sets = [make_set(step, seed=step % 3) for step in range(1, 9)]
    expected = [at_once.submit(one, EVERYTHING).result() for one in sets]
    found = [one.result() for one in [at_the_end.submit(one, EVERYTHING) for one in sets]]
    assert [view.stamp_ns for view in found[-1].views] == [view.stamp_ns for view in expected[-1].views]
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("voxel", [0.0, 0.5])
@pytest.mark.parametrize("resolution", ["network", "input"])
def test_the_host_waits_for_nothing_until_the_result(voxel, resolution):
    settings = {"publish__depth_resolution": resolution, "points__voxel_m": voxel}
    cuda, cpu = make("cuda", loops__enabled=True, map__enabled=True, **settings), make("cpu", **settings)
    cpu._tracking._lag = cuda._tracking._lag  # the step that chooses which set leaves
    for step in range(1, 8):
        if step > 4:  # everything has been seen once
            torch.cuda.set_sync_debug_mode("error")
        try:
            pending = cuda.submit(make_similar_set(step), EVERYTHING)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found, expected = pending.result(), cpu.step(make_similar_set(step), EVERYTHING)
        for ours, theirs in zip(found.outputs, expected.outputs, strict=True):
            assert_alike_but_for_unit(ours.depth, theirs.depth)
            assert_alike(ours.confidence, theirs.confidence)
            assert ours.points.data.shape == theirs.points.data.shape
        assert found.merged_points.data.shape[1] == pytest.approx(expected.merged_points.data.shape[1], rel=0.05)
    assert set(found.timings_ms) == {"prepare", "network", "tracking", "output", "download", "mapping"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_many_pending_steps_of_one_kind_keep_their_results():
    """They come from graphs, whose outputs the next step overwrites."""
    together, alone = make("cuda"), make("cuda", model__execution="eager")
    sets = [make_set(step, seed=step) for step in range(1, 25)]
    pending = [together.submit(one, EVERYTHING) for one in sets]
    assert together._outputs._replay._graphs and together._placement._replay._graphs
    for one, result in zip(sets, pending, strict=True):
        assert_equal(result.result(), alone.step(one, EVERYTHING), TOLERANCE["cuda"])
