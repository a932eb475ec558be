"""Averaged keys and values across views: exact where squares are uniform, near elsewhere, and never for few views."""

import pytest
import torch
from model_helpers import TINY, make_images, make_network

from da3_ros.model.attention import scaled_dot_product
from da3_ros.model.key_reduction import FEWEST_VIEWS, ReducedAttention, reduce_keys


def _tokens(views, grid, square, seed):
    """Keys or values (1, 2, N T, 64) of which the patches are the same within squares; special tokens differ."""
    generator = torch.Generator().manual_seed(seed)
    h, w = grid
    patches = torch.randn((1, 2, views, h // square, w // square, 64), generator=generator)
    patches = patches.repeat_interleave(square, 3).repeat_interleave(square, 4).flatten(3, 4)
    special = torch.randn((1, 2, views, 1, 64), generator=generator)
    return torch.cat([special, patches], dim=3).flatten(2, 3)


def test_uniform_squares_give_the_exact_attention():
    q = torch.randn((1, 2, 50, 64), generator=torch.Generator().manual_seed(2))
    k, v = (_tokens(FEWEST_VIEWS, (6, 8), 2, seed) for seed in (0, 1))
    torch.testing.assert_close(ReducedAttention((6, 8), 2, cudnn=False)(q, k, v), scaled_dot_product(q, k, v))


def test_up_to_sixteen_views_are_exact():
    q = torch.randn((1, 2, 50, 64), generator=torch.Generator().manual_seed(2))
    k, v = (_tokens(FEWEST_VIEWS - 1, (6, 8), 1, seed) for seed in (0, 1))
    assert torch.equal(ReducedAttention((6, 8), 2, cudnn=False)(q, k, v), scaled_dot_product(q, k, v))


def test_a_grid_that_squares_do_not_divide_counts_every_patch():
    # Equal keys: the attention is the mean of all values, whatever their places.
    views, h, w = FEWEST_VIEWS, 5, 7
    k = torch.ones((1, 1, views * (1 + h * w), 64))
    v = torch.full_like(k, 3.0)
    v.unflatten(2, (views, -1))[:, :, :, 0] = 0.0
    got = ReducedAttention((h, w), 2, cudnn=False)(torch.ones((1, 1, 2, 64)), k, v)
    torch.testing.assert_close(got, torch.full_like(got, 3.0 * h * w / (1 + h * w)))


def test_a_network_of_many_views_stays_near_and_goes_back():
    images = make_images(FEWEST_VIEWS + 1, 56, 70)
    model = make_network(TINY)
    with torch.inference_mode():
        exact = model(images, ref_view="first").depth
        reduce_keys(model, 56, 70, 2)
        reduced = model(images, ref_view="first").depth
        few = model(images[:, :4], ref_view="first").depth
        reduce_keys(model, 56, 70, 1)
        again = model(images, ref_view="first").depth
        exact_few = model(images[:, :4], ref_view="first").depth
    assert 1e-5 < (reduced / exact - 1).abs().median() < 0.05
    assert torch.equal(again, exact)
    assert torch.equal(few, exact_few)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "cudnn"), [(torch.float16, False), (torch.float16, True), (torch.float32, False)])
def test_cuda_kernels_give_what_the_cpu_gives(dtype, cudnn):
    if cudnn and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("cuDNN's kernel is taken on Hopper only")
    q = torch.randn((1, 2, 70, 64), generator=torch.Generator().manual_seed(2))
    k, v = (_tokens(FEWEST_VIEWS, (6, 8), 1, seed) for seed in (0, 1))
    on_cpu = ReducedAttention((6, 8), 2, cudnn=False)(q, k, v)
    got = ReducedAttention((6, 8), 2, cudnn)(*(part.to("cuda", dtype) for part in (q, k, v)))
    torch.testing.assert_close(got.float().cpu(), on_cpu, rtol=1e-2, atol=2e-3)
