"""Heads whose last convolutions run at 8/14 of the image: the same maps' shapes for less arithmetic."""

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_images, make_network
from torch.utils.flop_counter import FlopCounterMode

from da3_ros.model.dense_head import enlarge, set_half_resolution
from da3_ros.model.output_stack import OutputStack
from da3_ros.model.regions import compiled_regions


@pytest.mark.parametrize("variant", [TINY, SHRUNKEN["metric"]], ids=["any-view", "single-view"])
def test_maps_keep_their_size_and_cost_less(variant):
    images = make_images(2, 56, 70)
    model = make_network(variant)

    def run():
        with torch.inference_mode(), FlopCounterMode(display=False) as count:
            prediction = model(images)
        return prediction, count.get_total_flops()

    exact, exact_flops = run()
    set_half_resolution(model, True)
    half, half_flops = run()
    set_half_resolution(model, False)
    again, _ = run()
    assert half.depth.shape == exact.depth.shape
    assert (half.depth > 0).all()
    assert half_flops < exact_flops
    assert not torch.equal(half.depth, exact.depth)
    assert torch.equal(again.depth, exact.depth)


def test_rays_and_poses_do_not_change():
    images = make_images(2, 56, 70)
    model = make_network(TINY)
    with torch.inference_mode():
        exact = model(images, return_ray=True)
        set_half_resolution(model, True)
        half = model(images, return_ray=True)
    assert torch.equal(half.ray, exact.ray)
    assert torch.equal(half.extrinsics, exact.extrinsics)


def test_convolutions_see_at_half_resolution_what_they_see_in_the_image():
    """From 4k + 1 pixels to 7k + 1, every fourth lies on every seventh, at the border too."""
    torch.manual_seed(0)
    stack = OutputStack(8, 2)
    stack.set_coarse(True)
    x = torch.randn(2, 8, 9, 13)
    with torch.inference_mode():
        coarse, full = stack.coarse(x), stack(enlarge(x, (15, 22)))
    assert torch.allclose(coarse[..., ::4, ::4], full[..., ::7, ::7], atol=1e-5)


@pytest.mark.parametrize("variant", [TINY, SHRUNKEN["metric"]], ids=["any-view", "single-view"])
def test_depth_in_the_corners_is_that_of_the_full_resolution(variant):
    """Where nothing is interpolated; patches are many enough for 8/14 to be the distance of pixels."""
    images = make_images(1, 280, 280)
    model = make_network(variant)

    def corners():
        with torch.inference_mode():
            return model(images).depth[..., ::279, ::279]

    exact = corners()
    set_half_resolution(model, True)
    assert torch.allclose(corners(), exact, rtol=0.003)


def test_no_name_of_a_weight_is_new():
    model = make_network(TINY)
    names = list(model.state_dict())
    set_half_resolution(model, True)
    assert list(model.state_dict()) == names


@pytest.mark.slow
def test_it_compiles_as_one_part():
    images = make_images(1, 56, 70)
    model = make_network(TINY)
    set_half_resolution(model, True)
    with torch.inference_mode():
        plain = model(images).depth
        with compiled_regions(new=True, backend="eager"):
            assert torch.allclose(model(images).depth, plain, rtol=1e-5)
