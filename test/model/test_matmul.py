"""Other number formats for the transformer's matrix products: how far off they are, and what they leave alone."""

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_images, make_network
from torch import nn

from da3_ros.errors import UnavailableError
from da3_ros.model.matmul import EightBitLinear, Fp8Linear, Int8Linear, set_matmul_format


def _linear(inputs=96, outputs=64):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs).requires_grad_(False)


def _error(got, exact):
    return ((got.float() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize(("kind", "tolerance"), [(Int8Linear, 0.012), (Fp8Linear, 0.04)])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_a_product_is_off_by_the_rounding_of_its_format(kind, tolerance, magnitude):
    linear = _linear()
    linear.bias.mul_(magnitude)
    x = torch.randn(2, 30, 96) * magnitude
    assert _error(kind(linear)(x), linear(x)) < tolerance


@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
def test_a_large_activation_costs_precision_in_its_own_token_only(kind):
    linear = _linear()
    x = torch.randn(40, 96)
    spoilt = x.clone()
    spoilt[7, 3] = 1e5
    approximate = kind(linear)
    others = torch.arange(40) != 7
    assert torch.equal(approximate(spoilt)[others], approximate(x)[others])


@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
def test_a_token_of_zeros_gives_the_bias(kind):
    linear = _linear()
    torch.testing.assert_close(kind(linear)(torch.zeros(1, 96))[0].float(), linear.bias, rtol=4e-3, atol=0)


@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
def test_weights_take_a_quarter_of_float32(kind):
    linear = nn.Linear(512, 512)
    taken = sum(parameter.nbytes for parameter in kind(linear).parameters())
    assert taken < 0.27 * sum(parameter.nbytes for parameter in linear.parameters())


@pytest.mark.parametrize(("name", "percent"), [("bfloat16", 1.0), ("int8", 2.0), ("fp8", 8.0)])
def test_depth_stays_near_that_of_exact_products(name, percent):
    images = make_images(3, 56, 70)
    with torch.inference_mode():
        exact = make_network(TINY)(images, ref_view="first")
        model = make_network(TINY)
        set_matmul_format(model, name)
        got = model(images, ref_view="first")
    error = 100 * (got.depth / exact.depth - 1).abs().median().item()
    assert 1e-4 < error < percent


def test_heads_and_camera_decoder_stay_as_they_are():
    model = make_network(TINY)
    set_matmul_format(model, "int8")
    replaced = {name.split(".")[0] for name, part in model.named_modules() if isinstance(part, EightBitLinear)}
    assert replaced == {"backbone"}
    assert not any(type(part) is nn.Linear for part in model.backbone.modules())


def test_both_networks_of_a_nested_one_are_converted():
    model = make_network(SHRUNKEN["nested"])
    set_matmul_format(model, "bfloat16")
    for part in (model.da3, model.da3_metric):
        dtypes = {layer.weight.dtype for layer in part.backbone.modules() if isinstance(layer, nn.Linear)}
        assert dtypes == {torch.bfloat16}
        assert part.head.projects[0].weight.dtype == torch.float32


def test_fp8_is_refused_on_a_chip_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    model = make_network(TINY)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    with pytest.raises(UnavailableError, match=r"NVIDIA A100.*8\.0, at least 8\.9.*auto or int8"):
        set_matmul_format(model, "fp8")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
@pytest.mark.parametrize("rows", [3, 200])
def test_cuda_gives_what_the_cpu_gives(kind, rows):
    linear = _linear()
    x = torch.randn(rows, 96)
    on_cpu = kind(linear)(x).float()
    torch.testing.assert_close(kind(linear.cuda())(x.cuda()).float().cpu(), on_cpu, rtol=2e-2, atol=2e-2)
