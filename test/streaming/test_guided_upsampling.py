"""The window with guided upsampling: the images that it needs are kept, counted, and belong to their views."""

import numpy as np
import pytest
import torch
from streaming_helpers import make_model, make_set, make_stream, window_images
from window_mirror import Mirror

from da3_ros.config import ModelConfig
from da3_ros.model.dense_head import set_half_resolution
from da3_ros.streaming import loading
from da3_ros.streaming.loading import load_network
from da3_ros.streaming.memory import predict_memory
from da3_ros.streaming.window import WindowConfig

_HW = (42, 56)


def make_guided(name, guided=True):
    model = make_model(name)
    set_half_resolution(model, True, guided)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("decode", ["newest", "all"])
def test_steps_are_those_of_the_whole_network(decode):
    """Also with old views kept, whose images are the ring's."""
    model = make_guided("da3-small")
    stream = make_stream(model, sets=3, cameras=2, decode=decode)
    for step in Mirror(stream, np.random.default_rng(1), anchors=True).run():
        with torch.inference_mode():
            want = model(step.images)
        # Jumps and colours that lie on a threshold to the last bit may fall to either side of it.
        off = (step.prediction.depth / want.depth[0, step.decoded] - 1).abs() > 1e-5
        assert off.float().mean() < 0.005


def test_a_nested_network_is_guided_too():
    model, rng = make_guided("da3nested-giant-large"), np.random.default_rng(1)
    stream = make_stream(model, sets=1, cameras=2)
    for number in range(2):
        newest = make_set(rng, number)
        found = stream.step(newest)
    images, known = window_images(stream, [newest]), ~found.sky

    def off(guided):
        """The share of pixels in which the step is not the whole network."""
        set_half_resolution(model, True, guided)
        with torch.inference_mode():
            want = model(images)
        depth = want.depth[0] / want.scale[0]
        return ((found.depth / depth - 1).abs() > 1e-4)[known].float().mean()

    assert off(True) < 0.005 < 0.05 < off(False)


@pytest.mark.parametrize("half, guided", [(False, False), (True, False), (True, True)])
def test_the_network_decodes_and_its_memory_is_asked_for_as_the_parameters_say(half, guided, monkeypatch):
    asked_for = []

    def require_start(blueprint, window, device):
        asked_for.append((blueprint.head.half_resolution, blueprint.head.guided))

    monkeypatch.setattr(loading, "require_start", require_start)
    config = ModelConfig(variant="da3-nano", half_resolution_head=half, guided_upsampling=guided)
    window = WindowConfig(sets=1, cameras=1, process_res=56)
    model, _ = load_network(config, torch.device("cpu"), torch.float32, window)
    assert (model.head.half_resolution, model.head.guided) == (half, guided)
    assert asked_for == [(half, guided)]


@pytest.mark.slow
def test_memory_has_a_picture_for_each_view_only_if_it_is_on():
    config = WindowConfig(sets=8, cameras=1, process_res=56)
    on, off = (predict_memory(_on_meta(make_guided("da3-small", guided)), config, _HW) for guided in (True, False))
    assert on.kept - off.kept == pytest.approx(8 * 3 * _HW[0] * _HW[1] * 2, rel=1e-3)


def _on_meta(model):
    return model.to("meta")


@pytest.mark.gpu
@pytest.mark.usefixtures("exact_products")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("execution", ["graphs", "compiled"])
@pytest.mark.parametrize("name", ["da3-small", "da3-giant", "da3nested-giant-large"])
def test_captured_steps_give_what_eager_ones_give_and_nothing_waits(name, execution):
    eager, other = (make_stream(make_guided(name).cuda(), execution=how) for how in ("eager", execution))
    rng = np.random.default_rng(1)
    for step in range(8):
        frame_set = make_set(rng, step)
        want, got = eager.step(frame_set).depth.clone(), other.step(frame_set).depth.clone()
        # Colours that are equally near, and jumps at the threshold, may fall to either side.
        off = ((got / want).log().abs() > 1e-3).float().mean()
        assert off < 0.01, f"step {step}: {off:.4f} of the pixels differ"
    assert other._network._programs.execution == execution
    images, _ = other.prepare(make_set(rng, 9))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            slots = other.slots
            other._network.write(slots[-2:], images)
            other._network.predict(slots, (len(slots) - 2, len(slots) - 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
