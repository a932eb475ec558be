"""Depth enlarged with the image as a guide: edges of depth stand where those of the image do."""

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_images, make_network

from da3_ros.errors import InputError
from da3_ros.model.dense_head import enlarge, set_half_resolution
from da3_ros.model.guided_upsampling import as_guide, snap_to_guide
from da3_ros.model.regions import compiled_regions

SIZE, COARSE = (42, 56), (24, 32)
EDGE = 30  # column of the image from which on the far surface is seen


def make_step(colours=(-1.0, 1.0), depths=(1.0, 3.0)):
    """Log depth and a picture (1, ., 42, 56) of two surfaces, and log depth at 8/14, which has its pixels' own."""
    far = torch.arange(SIZE[1]) >= EDGE
    full = torch.where(far, depths[1], depths[0]).log().expand(1, 2, *SIZE)
    picture = torch.where(far, colours[1], colours[0]).expand(1, 3, *SIZE)
    columns = torch.arange(COARSE[1]) * (SIZE[1] - 1) / (COARSE[1] - 1)
    coarse = torch.where(columns >= EDGE - 0.5, depths[1], depths[0]).log().expand(1, 2, *COARSE)
    return full.contiguous(), as_guide(picture), coarse.contiguous()


def test_an_edge_of_depth_stands_where_the_image_has_its_own():
    full, guide, coarse = make_step()
    plain = enlarge(coarse, SIZE)
    assert (plain - full).abs().max() > 0.1
    found = snap_to_guide(coarse, plain, guide)
    assert torch.allclose(found, full, atol=1e-6)


@pytest.mark.parametrize(
    "step", [{"colours": (0.5, 0.5)}, {"depths": (1.0, 1.1)}], ids=["one colour", "a slope of one surface"]
)
def test_without_two_surfaces_that_look_different_depth_is_interpolated(step):
    _, guide, coarse = make_step(**step)
    plain = enlarge(coarse, SIZE)
    assert torch.equal(snap_to_guide(coarse, plain, guide), plain)


def test_every_value_is_one_of_the_four_around_or_interpolated():
    torch.manual_seed(0)
    coarse, guide = torch.randn(2, 2, *COARSE), as_guide(torch.randn(2, 3, *SIZE))
    plain = enlarge(coarse, SIZE)
    found = snap_to_guide(coarse, plain, guide)
    changed = (found != plain).any(1)
    assert 0.5 < changed.float().mean() <= 1.0
    for view, row, column in changed.nonzero()[::97].tolist():
        y, x = row * (COARSE[0] - 1) / (SIZE[0] - 1), column * (COARSE[1] - 1) / (SIZE[1] - 1)
        around = coarse[view, :, max(0, int(y) - 1) : int(y) + 2, max(0, int(x) - 1) : int(x) + 2].flatten(1)
        around = torch.cat([around, coarse[view, :, int(y) : int(y) + 2, int(x) : int(x) + 2].flatten(1)], 1)
        assert (around == found[view, :, row, column, None]).all(0).any()


@pytest.mark.parametrize("variant", [TINY, SHRUNKEN["metric"]], ids=["any-view", "single-view"])
def test_networks_use_it_only_if_told_to(variant):
    images, model = make_images(2, 56, 70), make_network(variant)

    def depth(*setting):
        set_half_resolution(model, *setting)
        with torch.inference_mode():
            return model(images).depth

    exact, half, guided = depth(False), depth(True), depth(True, True)
    assert not torch.equal(guided, half)
    assert torch.equal(depth(True), half)
    assert torch.equal(depth(False, True), exact)


def test_views_cannot_be_decoded_without_their_images():
    images, model = make_images(2, 56, 70), make_network(TINY)
    set_half_resolution(model, True, True)
    features = model.mix_views(model.encode_views(images), model.role_tokens(torch.zeros(1, dtype=torch.int64), 2))
    with pytest.raises(InputError, match="with their images only"):
        model.decode_dense(features)


@pytest.mark.slow
def test_it_compiles_as_one_part():
    images, model = make_images(1, 56, 70), make_network(TINY)
    set_half_resolution(model, True, True)
    with torch.inference_mode():
        plain = model(images).depth
        with compiled_regions(new=True, backend="eager"):
            assert torch.allclose(model(images).depth, plain, rtol=1e-5)
