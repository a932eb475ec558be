"""Memory is predicted from shapes alone, refused with the numbers, and does not grow."""

import gc
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from graph_stand_ins import made  # noqa: F401
from streaming_helpers import make_model, make_set, make_stream

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import ConfigError
from da3_ros.model import VARIANTS
from da3_ros.streaming import StreamingDA3, WindowConfig, memory, programs
from da3_ros.streaming.memory import GIB, TensorBytes, make_blueprint, predict_memory, require_start

_HW = (42, 56)


def _blueprint(model):
    return make_blueprint(model.variant, torch.float32)


@pytest.mark.parametrize(
    ("name", "sets", "cameras"),
    [("da3-small", 1, 1), ("da3-base", 6, 2), ("da3nested-giant-large", 2, 2), ("da3metric-large", 1, 2)],
)
def test_prediction_is_what_a_real_window_takes(name, sets, cameras):
    model = make_model(name)
    config = WindowConfig(sets=sets, cameras=cameras, process_res=56)
    need = predict_memory(_blueprint(model), config, _HW)
    stream = StreamingDA3(model, config)
    names = tuple(f"camera{index}" for index in range(cameras))
    rng = np.random.default_rng(0)
    calibrated = None if model.variant.any_view else _calibration()
    with TensorBytes() as count:
        for step in range(sets + 1):
            stream.step(make_set(rng, step, names, calibration=calibrated))
    # The rest is the images' way in, which is not the network's, and attention, which differs from chip to chip.
    assert need.kept + need.step == pytest.approx(count.most, rel=0.25)
    assert need.weights == sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("name", ["da3-base", pytest.param("da3nested-giant-large", marks=pytest.mark.slow)])
def test_prediction_has_the_window_across_two_places_beside_a_step(name):
    model = make_model(name)
    config = WindowConfig(sets=2, cameras=1, process_res=56, relates=6)
    need = predict_memory(_blueprint(model), config, _HW)
    stream = StreamingDA3(model, config)
    stream.step(make_set(np.random.default_rng(0), 0, ("camera0",)))
    pictures = np.random.default_rng(0).integers(0, 256, (6, *_HW, 3), dtype=np.uint8)
    with TensorBytes() as count:
        stream.relate(list(pictures), [(0, 0, *_HW)] * 6)
    assert need.related == pytest.approx(count.most, rel=0.25)
    without = predict_memory(_blueprint(model), replace(config, relates=0), _HW)
    assert need.window == pytest.approx(without.window + need.related, rel=1e-3)
    assert without.related == 0


def _calibration():
    return CameraCalibration(64, 48, np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]))


def test_more_views_larger_images_and_finer_numbers_take_more():
    def window(sets=4, hw=_HW, dtype=torch.float16, **settings):
        config = WindowConfig(sets=sets, **settings)
        return predict_memory(make_blueprint(VARIANTS["da3-small"], dtype), config, hw)

    base = window()
    assert window(sets=8).kept == pytest.approx(2 * base.kept, rel=0.1)
    assert 8 * base.step > window(sets=32).step > 3 * base.step  # attention keeps no pairs
    assert window(hw=(84, 112)).window > 3 * base.window
    assert window(dtype=torch.float32).weights > 1.5 * base.weights
    assert window(decode="all").step > base.step


def test_eight_bits_take_less_for_weights():
    sixteen, eight = (make_blueprint(VARIANTS["da3-small"], torch.float16, matmul) for matmul in (None, "int8"))
    config = WindowConfig(sets=1)
    assert predict_memory(eight, config, _HW).weights < 0.8 * predict_memory(sixteen, config, _HW).weights


def test_a_window_that_does_not_fit_is_refused_with_the_numbers_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 300_000)
    model = make_model("da3-small")
    stream = make_stream(model, sets=16, cameras=1)
    need = predict_memory(_blueprint(model), stream.config, _HW, 48 * 64)
    with pytest.raises(ConfigError) as error:
        stream.step(make_set(np.random.default_rng(0), 0, ("left",)))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("da3-small with 16 views of 56x42 in float32 needs 0.0 GiB")
    assert "0.0 GiB are free on cpu: lower window.sets or model.process_res" in text
    monkeypatch.setattr(memory, "free_memory", lambda device: int(1.5 * need.window))
    assert stream.step(make_set(np.random.default_rng(0), 0, ("left",))) is not None


def test_start_is_refused_before_weights_are_loaded(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * GIB)
    blueprint = make_blueprint(VARIANTS["da3-giant"], torch.float16)
    with pytest.raises(ConfigError, match=r"da3-giant with 8 views of 504x252 in float16 needs 3\.\d GiB, 2\.8 of them "
                       r"for weights; 2\.0 GiB are free on cpu"):
        require_start(blueprint, WindowConfig(sets=4, cameras=2), torch.device("cpu"))
    monkeypatch.setattr(memory, "free_memory", lambda device: 5 * GIB)
    require_start(blueprint, WindowConfig(sets=4, cameras=2), torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("da3-small", 0.85),
        pytest.param("da3-base", 1.76, marks=pytest.mark.slow),
        pytest.param("da3-large", 2.68, marks=pytest.mark.slow),
        pytest.param("da3-giant", 5.48, marks=pytest.mark.slow),
    ],
)
def test_a_captured_window_is_refused_where_an_h100_reserved_more_than_there_is(name, reserved, monkeypatch):
    """``reserved``: GiB of ``da3-ros bench``, compiled, 8 views of images of 1120x840, one of them new."""
    blueprint, hw, pixels = make_blueprint(VARIANTS[name], torch.float16), (378, 504), 1120 * 840
    need = predict_memory(blueprint, WindowConfig(sets=8), hw, pixels)
    assert reserved * GIB <= need.weights + need.wanted(captured=True) < 1.4 * reserved * GIB
    monkeypatch.setattr(memory, "predict_memory", lambda *what: need)
    monkeypatch.setattr(memory, "free_memory", lambda device: int(reserved * GIB - need.weights))
    device = torch.device("cuda")
    monkeypatch.setattr(type(blueprint), "device", device)
    for execution in ("auto", "graphs", "compiled"):
        with pytest.raises(ConfigError, match=r"set model.execution to eager \(slower\)"):
            memory.require_window(blueprint, WindowConfig(sets=8, execution=execution), hw, pixels)
    memory.require_window(blueprint, WindowConfig(sets=8, execution="eager"), hw, pixels)


def test_running_out_of_memory_at_the_warm_up_is_one_error_with_the_numbers(made, monkeypatch):  # noqa: F811
    def out_of_memory(*how):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(memory, "free_memory", lambda device: 3 * GIB)
    stream = make_stream(make_model("da3-small"), execution="graphs", relates=2)
    with monkeypatch.context() as patch:
        patch.setattr(programs, "capture", out_of_memory)
        with pytest.raises(ConfigError) as error:
            stream.warm_up(dict.fromkeys(("left", "right"), ((48, 64), None)))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(
        "out of memory on cpu while steps were made ready: da3-small with 6 views of 56x42 in float32 needs 0.0 GiB, "
    )
    assert "of them for weights, by prediction; 3.0 GiB were free: lower window.sets or model.process_res" in text
    assert "set loops.enabled to false, set model.execution to eager (slower), or end what else runs there" in text
    stream.warm_up(dict.fromkeys(("left", "right"), ((48, 64), None)))
    assert len(made.captured) == 3, "with room again it is made ready as if nothing had been"


def test_free_memory_of_this_machine_is_known():
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**50


def test_eight_sets_of_four_cameras_equal_the_network():
    model = make_model("da3-base")
    stream = make_stream(model, sets=8, cameras=4)
    cameras = ("front", "left", "rear", "right")
    rng = np.random.default_rng(1)
    sets = [make_set(rng, step, cameras) for step in range(9)]
    for frame_set in sets:
        got = stream.step(frame_set)
    with torch.inference_mode():
        want = model(torch.cat([stream.prepare(frame_set)[0] for frame_set in sets[1:]])[None])
    assert len(got.views) == 32
    torch.testing.assert_close(got.depth, want.depth[0, -4:], rtol=1e-5, atol=0)
    torch.testing.assert_close(got.T_cam_world[:, :3], want.extrinsics[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_steps():
    variant = VARIANTS["da3-small"]
    model = make_model("da3-small")
    assert model.variant == replace(variant, dim=64, features=16, out_channels=(8, 8, 16, 16), gaussians=False)
    stream = make_stream(model, sets=2, cameras=1, process_res=56)
    frame_sets = [make_set(np.random.default_rng(step), step, ("left",)) for step in range(8)]

    def steps(number):
        for step in range(number):
            stream.step(frame_sets[step % len(frame_sets)])
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, _tensor_bytes()

    steps(100)
    rss, tensors = steps(100)
    rss_after, tensors_after = steps(2000)
    assert tensors_after == tensors
    assert rss_after - rss < 4 * 1024  # kilobytes


def _tensor_bytes():
    storages = {
        thing.untyped_storage()._cdata: thing.untyped_storage().nbytes()
        for thing in gc.get_objects()
        if type(thing) in (torch.Tensor, torch.nn.Parameter)
    }
    return sum(storages.values())


@pytest.mark.gpu
@pytest.mark.parametrize("execution", ["eager", "graphs"])
def test_device_memory_is_flat(execution):
    stream = StreamingDA3(make_model("da3-small").cuda(), WindowConfig(sets=2, process_res=56, execution=execution))
    frame_sets = [make_set(np.random.default_rng(step), step, ("left",)) for step in range(8)]

    def steps(number):
        for step in range(number):
            stream.step(frame_sets[step % len(frame_sets)])
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    steps(100)
    before = steps(8)
    assert steps(2000) == before
