"""Cameras that drop out and come back, on a GPU, through the whole pipeline: what is compiled meanwhile."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from da3_ros import cuda_graphs
from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.model import attention
from da3_ros.pipeline import Pipeline
from da3_ros.streaming import programs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# Several sizes and encodings: images are prepared in several groups, and those after one with an odd number of bytes
# begin elsewhere when it is missing.
CAMERAS = {
    "front": ((264, 320), "rgb8"), "left": ((264, 320), "bgr8"), "rear": ((201, 321), "rgb8"),
    "right": ((264, 320), "mono8"),
}  # fmt: skip
EVERYTHING = OutputRequest.everything(tuple(CAMERAS))
SETS = 3


class Counted:
    """What torch, Triton and the graphs of steps have compiled and captured since it was made."""

    def __init__(self, monkeypatch):
        triton = pytest.importorskip("triton")
        self.kernels = []
        self.captured = 0
        self._artefacts = self._all_artefacts()

        def kernel(*, fn, **about):
            self.kernels.append(fn.name)
            return False

        def capture(*given, **settings):
            self.captured += 1
            return original(*given, **settings)

        original = cuda_graphs.capture
        monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", kernel)
        monkeypatch.setattr(programs, "capture", capture)

    @property
    def artefacts(self):
        return self._all_artefacts() - self._artefacts

    @staticmethod
    def _all_artefacts():
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture(scope="module")
def pipeline():
    """Its images have an odd number of patches, so that colours of the second view begin at no multiple of 16 bytes.

    cuDNN's attention is not among the kernels to choose from: where it runs, it was torch's own choice.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(attention.KERNELS, "cudnn")
        patch.setattr(attention, "_choices", {})
        pipeline = make_pipeline()
        yield pipeline
        pipeline.close()


def make_pipeline():
    values = {
        "cameras": tuple(CAMERAS),
        "model.checkpoint": "random",
        "model.device": "cuda",
        "model.process_res": 154,
        "window.sets": SETS,
        "window.keyframe_recent": SETS,  # no anchors: the window is complete again after as many complete sets
        "loops.enabled": False,
        "map.enabled": False,
    }
    return Pipeline(from_flat(values, PipelineConfig))


def make_set(step, cameras=tuple(CAMERAS)):
    rng = np.random.default_rng(step)
    frames = []
    for name in cameras:
        (height, width), encoding = CAMERAS[name]
        image = rng.integers(0, 256, (height, width, 1 if encoding == "mono8" else 3), dtype=np.uint8)
        frames.append(Frame(name, step * 10**8, image, encoding=encoding))
    return FrameSet(step * 10**8, tuple(frames))


def present(rng, step):
    """Every camera is missing now and then, one of them for long."""
    return tuple(name for name in CAMERAS if rng.random() < 0.8 and (name != "rear" or step % 40 < 20)) or ("front",)


def test_cameras_that_drop_out_compile_nothing(pipeline, monkeypatch):
    begun = Counted(monkeypatch)
    for step in range(2 * SETS):
        pipeline.step(make_set(step), EVERYTHING)
    assert begun.captured > 0 and pipeline._stream._network._programs.execution == "compiled", "the first step warms up"
    flown, rng = Counted(monkeypatch), np.random.default_rng(0)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for step in range(6, 86):
            estimate = pipeline.step(make_set(step, present(rng, step)), EVERYTHING)
            assert all(np.isfinite(one.depth).any() for one in estimate.outputs)
    assert flown.artefacts == 0
    assert flown.kernels == []
    planned = [event.key for event in trace.key_averages() if "cudnn_attention" in event.key]
    assert planned == [], "cuDNN's attention builds a plan for each new shape"
    limits = pipeline.config.model.max_graphs + 8 + 16  # of the network, of tracking, of masks
    assert flown.captured <= limits, "each takes as long as a few steps"
    back = Counted(monkeypatch)
    for step in range(86, 96):
        pipeline.step(make_set(step), EVERYTHING)
    assert (back.artefacts, back.kernels) == (0, [])
    assert pipeline._stream._network._programs.graphs <= pipeline.config.model.max_graphs


def test_a_full_window_has_its_graphs_still_when_all_cameras_are_back(pipeline, monkeypatch):
    """Whatever came between, the network's two graphs of complete sets are not captured again."""
    rng = np.random.default_rng(1)
    for step in range(100, 160):
        pipeline.step(make_set(step, present(rng, step)), EVERYTHING)
    for step in range(160, 160 + SETS):
        pipeline.step(make_set(step), EVERYTHING)
    network = pipeline._stream._network._programs
    monkeypatch.setattr(network, "_capture", lambda *given: pytest.fail("captured again"))
    for step in range(170, 176):
        assert len(pipeline.step(make_set(step), EVERYTHING).views) == SETS * len(CAMERAS)
