"""The networks on a GPU: the CPU's numbers, no wait for the host, one graph to capture and replay."""

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_cameras, make_images, make_network, scaled_error

from da3_ros.model import VARIANTS, load_model, save_checkpoint
from da3_ros.model.sky import sky_mask

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("exact_products"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZE = (56, 84)
FIELDS = ("depth", "depth_conf", "extrinsics", "intrinsics")
OPTIONS = {
    "plain": {},
    "rays": {"return_ray": True},
    "ray pose": {"use_ray_pose": True},
    "similarity": {"ref_view": "saddle_sim_range"},
    "cameras": dict(zip(("extrinsics", "intrinsics"), make_cameras(4, *SIZE, batch=2), strict=True)),
}


def on_gpu(options):
    return {key: value.cuda() if isinstance(value, torch.Tensor) else value for key, value in options.items()}


@pytest.mark.parametrize("variant", [TINY, VARIANTS["da3-small"]], ids=lambda variant: variant.name)
@pytest.mark.parametrize("case", OPTIONS)
def test_numbers_of_the_cpu(variant, case):
    model, images = make_network(variant), make_images(4, *SIZE, batch=2)
    expected = model(images, **OPTIONS[case])
    found = model.cuda()(images.cuda(), **on_gpu(OPTIONS[case]))
    for field in FIELDS:
        if case == "ray pose" and field.endswith("trinsics"):
            continue        # of random rays the best sample is a matter of rounding
        assert scaled_error(getattr(found, field).cpu(), getattr(expected, field)) < 1e-4, field


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", OPTIONS)
def test_no_wait_for_the_device(case, dtype):
    model, options = make_network(TINY, dtype).cuda(), on_gpu(OPTIONS[case])
    images = make_images(4, *SIZE, batch=2).cuda()
    model.prepare(*SIZE)
    model(images, **options)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(images, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", OPTIONS)
def test_capture(case):
    """A captured forward, replayed on other images, gives what an eager one gives."""
    model, options = make_network(TINY, torch.bfloat16).cuda(), on_gpu(OPTIONS[case])
    model.prepare(*SIZE)
    images = make_images(4, *SIZE, batch=2, seed=1).cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(images, **options)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = model(images, **options)
    images.copy_(make_images(4, *SIZE, batch=2, seed=2))
    expected = model(images, **options)
    graph.replay()
    for field in FIELDS:
        assert scaled_error(getattr(captured, field), getattr(expected, field)) < 1e-3, field


def test_compiled():
    """Inductor takes the whole forward as one graph; bf16 stays near fp32."""
    images = make_images(4, *SIZE).cuda()
    model = make_network(VARIANTS["da3-small"], torch.bfloat16).cuda()
    model.prepare(*SIZE)
    found = torch.compile(model, fullgraph=True)(images)
    expected = make_network(VARIANTS["da3-small"]).cuda()(images)
    assert ((found.depth - expected.depth).abs() / expected.depth).median() < 0.05


def test_straight_to_the_device(tmp_path):
    """Loading puts every parameter on the GPU in its dtype."""
    save_checkpoint(make_network(VARIANTS["da3-small"]), tmp_path / "model.safetensors")
    model = load_model("da3-small", tmp_path, "cuda", torch.bfloat16)
    assert {value.device.type for value in model.parameters()} == {"cuda"}
    assert model.device == torch.device("cuda", torch.cuda.current_device())
    assert model(make_images(2, *SIZE).cuda()).depth.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"as_published": True}], ids=["default", "as published"])
@pytest.mark.parametrize("name", ["metric", "nested"])
def test_metric_networks(name, options):
    """The CPU's numbers, no wait for the host, and the same from a captured graph."""
    model, images = make_network(SHRUNKEN[name]), make_images(4, *SIZE)
    expected = model(images, **options)
    model, images = model.cuda(), images.cuda()
    model.prepare(*SIZE)
    found = model(images, **options)
    is_sky = sky_mask(expected.sky)
    assert (sky_mask(found.sky).cpu() == is_sky).float().mean() > 0.999      # rounding at the threshold
    both = ~is_sky & ~sky_mask(found.sky).cpu()
    assert scaled_error(found.depth.cpu()[both], expected.depth[both]) < 1e-3
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(images, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = model(images, **options)
    graph.replay()
    torch.testing.assert_close(captured.depth, found.depth)
