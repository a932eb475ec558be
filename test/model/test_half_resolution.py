"""Heads whose last convolutions run at 8/14 of the image: the same maps' shapes for less arithmetic."""

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_images, make_network
from torch.utils.flop_counter import FlopCounterMode

from da3_ros.model.dense_head import set_half_resolution


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
