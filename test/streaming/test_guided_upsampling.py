"""The window with guided upsampling: the images that it needs are kept, counted, and belong to their views."""

import numpy as np
import pytest
import torch
from streaming_helpers import make_model, make_set, make_stream, window_images
from window_mirror import Mirror

from da3_ros.model.dense_head import set_half_resolution
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


def test_a_nested_network_has_both_of_its_depths_guided():
    """The metric one's by the pictures that come, the other's by those that were kept."""
    model, rng = make_guided("da3nested-giant-large"), np.random.default_rng(1)
    stream, history = make_stream(model, sets=2), []
    for number in range(3):
        history = [*history, make_set(rng, number)][-2:]
        found = stream.step(history[-1])
    images = window_images(stream, history)

    def networks(guided):
        """Depth of both, and metres of a unit, of the whole window."""
        set_half_resolution(model, True, guided)
        with torch.inference_mode():
            nested = model(images)
            return model.da3(images).depth[0, -2:], model.da3_metric.maps(images).depth, nested.scale[0]

    (plain, metric_plain, _), (want, metric, metres) = networks(False), networks(True)
    assert not torch.equal(metric, metric_plain) and not torch.equal(want, plain)
    torch.testing.assert_close(found.metres_per_unit, metres, rtol=1e-3, atol=0)
    known = ~found.sky

    def off(depth):
        return ((found.depth / depth - 1).abs() > 1e-5)[known].float().mean()

    assert off(want) < 0.005 < 0.05 < off(plain)


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
