"""Fused operations give what their plain forms give."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from da3_ros.model import attention, fused
from da3_ros.model.attention import KERNELS, measured, scaled_dot_product
from da3_ros.model.layers import Mlp

DTYPES = [torch.float16, torch.bfloat16]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_kernels(kernel, dtype):
    """Of any number of queries and keys, that lie in memory as a layer makes them."""
    if kernel.startswith("gluon") and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("a kernel for Hopper")
    shapes = ((1, 6, 65, 973), (3, 1, 128, 128), (2, 4, 1, 200), (1, 2, 300, 64), (8, 6, 973, 973))
    for groups, heads, queries, keys in shapes:
        q = torch.randn(groups, queries, heads, 64, device="cuda", dtype=dtype).transpose(1, 2)
        both = torch.randn(groups, keys, 2, heads, 64, device="cuda", dtype=dtype)
        k, v = (part.transpose(1, 2) for part in both.unbind(2))
        found, expected = KERNELS[kernel](q, k, v), F.scaled_dot_product_attention(q.float(), k.float(), v.float())
        assert found.shape == expected.shape and found.dtype == dtype
        assert (found.float() - expected).norm() / expected.norm() < 8 * torch.finfo(dtype).eps


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_kernels_whatever_the_layout(kernel):
    """Tokens of a view that are not neighbours of the next view's, heads that do not lie side by side."""
    if kernel.startswith("gluon") and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("a kernel for Hopper")
    q, k, v = torch.randn(3, 2, 4, 150, 64, device="cuda", dtype=torch.float16)
    q, k = q[:, :, :99], k.transpose(1, 2).contiguous().transpose(1, 2)
    found, expected = KERNELS[kernel](q, k, v), F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert (found.float() - expected).norm() / expected.norm() < 8 * torch.finfo(torch.float16).eps


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_view_that_is_not_finite_stays_alone(kernel, bad):
    """Views lie one behind the other in memory, and the last block of a view's keys reaches into the next one."""
    if kernel.startswith("gluon") and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("a kernel for Hopper")
    q, k, v = torch.randn(3, 3, 973, 6, 64, device="cuda", dtype=torch.float16).transpose(2, 3)
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    for part in (q, k, v):
        part[1] = bad
    found = KERNELS[kernel](q, k, v).float()
    for view in (0, 2):
        assert (found[view] - expected[view]).norm() / expected[view].norm() < 8 * torch.finfo(torch.float16).eps
    assert not found[1].isfinite().any()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("tokens", [700, 20_000])
def test_the_fastest_kernel_is_chosen_and_used(tokens):
    q = torch.randn(1, tokens, 6, 64, device="cuda", dtype=torch.float16).transpose(1, 2)
    with measured():
        scaled_dot_product(q, q, q)
    chosen = attention._choice("cuda", q.dtype, tuple(q.shape), tuple(q.shape))
    assert chosen in KERNELS
    assert torch.equal(scaled_dot_product(q, q, q), KERNELS[chosen](q, q, q))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_within_the_product_is_as_near_as_the_dtype_allows(device, dtype):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(64, 256).requires_grad_(False)
    x = torch.randn((2, 5, 64), generator=generator)
    expected = F.gelu(layer(x))
    layer, x = layer.to(device, dtype), x.to(device, dtype)
    error = (fused.linear_gelu(x, layer.weight, layer.bias).float().cpu() - expected).norm() / expected.norm()
    rounding = (F.gelu(layer(x)).float().cpu() - expected).norm() / expected.norm()
    assert error < rounding + 5e-4


def test_plain_forms_where_fused_ones_do_not_belong():
    """On the CPU, in fp32, and in training."""
    mlp = Mlp(64, 128).requires_grad_(False)
    x = torch.randn(2, 3, 64)
    assert not fused.applies(x, mlp.fc1) and not fused.applies(x, mlp.half().fc1)
    assert torch.equal(mlp.float()(x), mlp.fc2(F.gelu(mlp.fc1(x))))
