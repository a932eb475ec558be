"""An any-view network made metric: the published numbers where asked for, and what is right otherwise."""

import warnings
from dataclasses import replace

import pytest
import torch
from model_helpers import (
    SHRUNKEN,
    TINY,
    Reference,
    make_cameras,
    make_images,
    make_network,
    relative_error,
    scaled_error,
)

from da3_ros.errors import ConfigError, InputError
from da3_ros.model import NestedDepthAnything3, network
from da3_ros.model.layout import build
from da3_ros.model.metric_scale import mean_focal, robust_scale
from da3_ros.model.sky import sky_mask

TOLERANCE = 1e-4
SHAPE = (1, 4, 12, 16)


@pytest.fixture(scope="module")
def model():
    return make_network(SHRUNKEN["nested"])


@pytest.mark.parametrize("views, height, width", [(1, 56, 70), (4, 42, 84), (6, 98, 126)])
@pytest.mark.parametrize("known_cameras", [False, True])
def test_published_numbers(pair, views, height, width, known_cameras):
    model, reference = pair(SHRUNKEN["nested"])
    images = make_images(views, height, width)
    extrinsics, intrinsics = make_cameras(views, height, width) if known_cameras else (None, None)
    theirs = reference(images, extrinsics=extrinsics, intrinsics=intrinsics)
    ours = model(images, extrinsics, intrinsics, as_published=True)
    assert relative_error(ours.depth, theirs["depth"]) < TOLERANCE
    assert relative_error(ours.depth_conf, theirs["depth_conf"]) < TOLERANCE
    assert scaled_error(ours.extrinsics, theirs["extrinsics"]) < TOLERANCE
    assert scaled_error(ours.intrinsics, theirs["intrinsics"]) < TOLERANCE
    assert abs(ours.scale.item() / theirs["scale_factor"] - 1) < TOLERANCE
    assert 10 < sky_mask(ours.sky).sum() < 0.9 * ours.sky.numel(), "both rules must matter"


def test_published_numbers_of_each_window_of_a_batch(pair):
    model, reference = pair(SHRUNKEN["nested"])
    images = make_images(3, 28, 42, batch=2)
    ours = model(images, as_published=True)
    for i in range(2):
        theirs = reference(images[i:i + 1])
        assert relative_error(ours.depth[i:i + 1], theirs["depth"]) < TOLERANCE
        assert abs(ours.scale[i].item() / theirs["scale_factor"] - 1) < TOLERANCE


def test_published_ray_poses(pair, monkeypatch):
    """With the samples that the reference drew; its poses become those of the scaled prediction."""
    from depth_anything_3.utils import ray_utils

    model, reference = pair(SHRUNKEN["nested"])
    images = make_images(3, 42, 56)
    drawn = []

    def draw(*args):
        drawn.append(real(*args))
        return drawn[-1]

    real = ray_utils.get_params_for_ransac
    monkeypatch.setattr(ray_utils, "get_params_for_ransac", draw)
    torch.manual_seed(1)
    theirs = reference(images, use_ray_pose=True)
    tables = model.da3.ray_tables.get(24, 32, images.device)
    sampled = tables._replace(samples=drawn[-1][-1])
    monkeypatch.setattr(model.da3.ray_tables, "get", lambda *args: sampled)
    ours = model(images, use_ray_pose=True, as_published=True)
    # A random network's rays hardly determine a camera, which costs the reference's fp32 digits: test_ray_pose has
    # rays of cameras, and the full tolerance.
    assert scaled_error(ours.intrinsics, theirs["intrinsics"]) < 10 * TOLERANCE
    assert scaled_error(ours.extrinsics, theirs["extrinsics"]) < 10 * TOLERANCE
    assert relative_error(ours.depth, theirs["depth"]) < 10 * TOLERANCE


def test_published_gaussians(reference_net):
    """The reference leaves them in the unit of the any-view network."""
    for module in ("e3nn", "evo"):
        pytest.importorskip(module, reason=f"the reference's Gaussians need the package {module}")
    variant = replace(SHRUNKEN["nested"], gaussians=True)
    model, images = make_network(variant), make_images(2, 42, 56)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Reference(reference_net(variant), model)(images, infer_gs=True)
    ours = model(images, return_gaussians=True, as_published=True)
    assert abs(ours.scale.item() / theirs["scale_factor"] - 1) < TOLERANCE
    assert scaled_error(ours.gaussians.means, theirs["gaussians"].means) < TOLERANCE
    assert scaled_error(ours.gaussians.scales, theirs["gaussians"].scales) < TOLERANCE
    turned = [(ours.gaussians.rotations + sign * theirs["gaussians"].rotations).abs().amax(-1) for sign in (-1, 1)]
    assert torch.minimum(*turned).max() < TOLERANCE


def test_published_numbers_of_sky_beyond_the_limit(pair):
    """A scene so large that sky gets the published limit of 200 m."""
    model, reference = pair(SHRUNKEN["nested"])
    images = make_images(3, 42, 56)
    biases = [net.da3_metric.head.scratch.output_conv2[2].bias for net in (model, reference.net)]
    for bias in biases:
        bias += 8
    try:
        theirs, ours = reference(images), model(images, as_published=True)
    finally:
        for bias in biases:
            bias -= 8
    assert relative_error(ours.depth, theirs["depth"]) < TOLERANCE
    assert (ours.depth == 200.0).sum() > 10


def test_metres_are_consistent_and_sky_is_beyond_range(model):
    images = make_images(3, 42, 56, batch=2)
    ours, alone, sky = model(images), model.da3(images), model.da3_metric.maps(images).sky
    is_sky = sky_mask(sky)
    torch.testing.assert_close(ours.sky, sky)
    assert (ours.depth[is_sky] == torch.inf).all() and is_sky.any()
    factor = ours.scale[:, None, None, None].expand_as(ours.depth)
    torch.testing.assert_close(ours.depth[~is_sky], (alone.depth * factor)[~is_sky])
    torch.testing.assert_close(ours.extrinsics[..., 3], alone.extrinsics[..., 3] * ours.scale[:, None, None])
    torch.testing.assert_close(ours.extrinsics[..., :3], alone.extrinsics[..., :3])
    assert torch.equal(ours.depth_conf, alone.depth_conf), "the confidence of sky is not made up"
    assert (ours.scale_stddev > 0).all()


def test_rays_and_gaussians_are_in_metres_too():
    model, images = make_network(replace(TINY, gaussians=True, metric=SHRUNKEN["metric"])), make_images(2, 42, 56)
    options = {"return_ray": True, "return_gaussians": True}
    ours, alone = model(images, **options), model.da3(images, **options)
    assert abs(ours.scale.item() - 1) > 0.01, "or nothing would show"
    torch.testing.assert_close(ours.ray[..., :3], alone.ray[..., :3])
    torch.testing.assert_close(ours.ray[..., 3:], alone.ray[..., 3:] * ours.scale)
    torch.testing.assert_close(ours.gaussians.means, alone.gaussians.means * ours.scale)
    torch.testing.assert_close(ours.gaussians.scales, alone.gaussians.scales * ours.scale)
    torch.testing.assert_close(ours.gaussians.rotations, alone.gaussians.rotations)
    posed = model(images, use_ray_pose=True, focal=torch.full((1, 2), 60.0))
    rays = model.da3(images, use_ray_pose=True).extrinsics
    torch.testing.assert_close(posed.extrinsics[..., 3], rays[..., 3] * posed.scale)
    plain = model(images)
    assert plain.ray is None and plain.gaussians is None


def test_calibrated_focal_length_beats_the_predicted_one(model):
    images = make_images(3, 42, 56)
    predicted = model(images)
    focal = mean_focal(predicted.intrinsics)
    same = model(images, focal=torch.full_like(focal, torch.nan))
    torch.testing.assert_close(same.scale, predicted.scale)
    twice = model(images, focal=2 * focal)
    torch.testing.assert_close(twice.scale, 2 * predicted.scale)
    one = focal.clone()
    one[:, 1:] = torch.nan
    torch.testing.assert_close(model(images, focal=one).scale, predicted.scale)
    assert torch.equal(model(images, focal=2 * focal, as_published=True).depth, model(images, as_published=True).depth)


def test_known_cameras_tell_the_focal_length(model):
    images = make_images(3, 42, 56)
    extrinsics, intrinsics = make_cameras(3, 42, 56)
    ours = model(images, extrinsics, intrinsics)
    torch.testing.assert_close(ours.scale, model(images, extrinsics, intrinsics, focal=mean_focal(intrinsics)).scale)


def test_intrinsics_alone_tell_the_focal_length_too(model):
    images = make_images(3, 42, 56)
    intrinsics = make_cameras(3, 42, 56)[1]
    assert torch.equal(model(images, intrinsics=intrinsics).scale, model(images, focal=mean_focal(intrinsics)).scale)
    published = model(images, as_published=True)
    assert torch.equal(model(images, intrinsics=intrinsics, as_published=True).scale, published.scale)


def test_nothing_but_sky_gives_no_scale_and_no_error(model):
    images = make_images(2, 28, 42)
    bias = model.da3_metric.head.scratch["sky_output_conv2"][2].bias
    before = bias.clone()
    bias += 1e3
    try:
        ours, published = model(images), model(images, as_published=True)
    finally:
        bias.copy_(before)
    assert (ours.depth == torch.inf).all()
    assert ours.scale.isnan().all() and ours.scale_stddev.isnan().all() and ours.extrinsics[..., 3].isnan().all()
    assert published.scale.isnan().all()


def test_a_focal_length_of_next_to_nothing_gives_no_scale_and_cameras_as_they_were_found(model, monkeypatch):
    """Rays of an untrained network are often those of a lens that sees nearly half of everything."""
    images = make_images(2, 42, 56)
    found = network.cameras_from_rays

    def with_focal(pixels):
        def cameras_from_rays(*rays):
            extrinsics, intrinsics = found(*rays)
            intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = pixels
            return extrinsics, intrinsics

        monkeypatch.setattr(network, "cameras_from_rays", cameras_from_rays)
        return model(images, use_ray_pose=True)

    usual, tiny = with_focal(30.0), with_focal(1e-6)
    assert usual.scale.isfinite().all() and usual.extrinsics.isfinite().all()
    assert tiny.scale.isnan().all() and tiny.scale_stddev.isnan().all() and tiny.extrinsics[..., 3].isnan().all()
    assert torch.equal(tiny.extrinsics[..., :3], usual.extrinsics[..., :3])
    assert (tiny.intrinsics[..., 0, 0] == 1e-6).all()
    assert torch.equal(tiny.depth.isinf(), usual.depth.isinf()), "sky is found all the same"
    assert tiny.depth[~tiny.depth.isinf()].isnan().all()


def maps(scale_of_view, seed=0):
    """Metric and any-view depth of four views whose ratios spread a little about ``scale_of_view``, confidence."""
    generator = torch.Generator().manual_seed(seed)
    depth = 1 + torch.rand(SHAPE, generator=generator)
    noise = (0.05 * torch.randn(SHAPE, generator=generator)).exp()
    metres = depth * noise * torch.tensor(scale_of_view)[None, :, None, None]
    return metres, depth, 1 + torch.rand(SHAPE, generator=generator)


ALL = torch.ones(SHAPE, dtype=torch.bool)


def test_one_bad_camera_does_not_move_the_scale():
    good = robust_scale(*maps([3.0, 3.0, 3.0, 3.0]), ALL)
    assert good.metres.item() == pytest.approx(3.0, rel=0.01)
    assert good.stddev.item() == pytest.approx(0.05 * 3.0, rel=0.2)
    for wrong in (0.01, 1.5, 40.0):
        bad = robust_scale(*maps([3.0, wrong, 3.0, 3.0]), ALL)
        assert bad.metres.item() == pytest.approx(3.0, rel=0.02)


def test_disagreement_of_views_shows_in_the_deviation():
    agreed, split = robust_scale(*maps([3.0] * 4), ALL), robust_scale(*maps([2.0, 2.5, 3.5, 4.5]), ALL)
    assert split.stddev > 4 * agreed.stddev


def test_confidence_decides_between_views_and_unusable_pixels_do_not_count():
    metres, depth, confidence = maps([1.0, 1.0, 5.0, 5.0])
    confidence = confidence * torch.tensor([50.0, 50.0, 1.0, 1.0])[None, :, None, None]
    assert robust_scale(metres, depth, confidence, ALL).metres.item() == pytest.approx(1.0, rel=0.02)
    usable = ALL.clone()
    usable[:, :2] = False
    assert robust_scale(metres, depth, confidence, usable).metres.item() == pytest.approx(5.0, rel=0.02)
    metres, depth, confidence = maps([1.0] * 4)
    confidence[..., :5] = 1.001
    metres[..., :5] *= 7
    assert robust_scale(metres, depth, confidence, ALL).stddev < 0.1, "the less confident pixels are left out"
    metres, depth, confidence = maps([1.0, 1.0, 5.0, 5.0])
    metres[:, 2:, :, 8:] = torch.inf
    assert robust_scale(metres, depth, confidence, usable).metres.item() == pytest.approx(5.0, rel=0.02)


def test_padding_is_left_out(model):
    images = make_images(2, 42, 56)
    everything = torch.ones(1, 2, 42, 56, dtype=torch.bool)
    torch.testing.assert_close(model(images, valid=everything).scale, model(images).scale)
    half = everything.clone()
    half[..., :21, :] = False
    assert model(images, valid=half).scale != model(images).scale


def test_nothing_depends_on_values_read_back_from_the_device():
    """On the meta device tensors have no values: every shape must follow from shapes, as in a captured graph."""
    model = build(SHRUNKEN["nested"])
    images = torch.empty(2, 3, 3, 42, 56, device="meta")
    focal, valid = torch.empty(2, 3, device="meta"), torch.empty(2, 3, 42, 56, dtype=torch.bool, device="meta")
    for options in ({}, {"focal": focal, "valid": valid}, {"as_published": True}):
        assert model(images, **options).scale.shape == (2,)
    assert model.da3_metric(images, as_published=True).depth.shape == (2, 3, 42, 56)


def test_export(model):
    images = make_images(3, 42, 56)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images).scale, model(images).scale)


def test_the_same_bits_every_time(model):
    images = make_images(3, 42, 56)
    assert torch.equal(model(images).depth, model(images).depth)


def test_any_two_fitting_networks_nest_and_others_are_refused():
    da3, metric = make_network(SHRUNKEN["large"]), make_network(SHRUNKEN["metric"])
    both = NestedDepthAnything3(da3, metric)
    assert both.variant.metric == metric.variant and both.variant.dim == da3.variant.dim
    assert both(make_images(2, 28, 42)).scale.isfinite().all()
    mono = make_network(replace(SHRUNKEN["metric"], name="da3mono-large", canonical_focal=None))
    with pytest.raises(ConfigError, match="da3mono-large predicts relative depth .* take da3metric-large"):
        NestedDepthAnything3(da3, mono)


@pytest.mark.parametrize("wrong", [{"focal": torch.ones(1, 3)}, {"valid": torch.ones(1, 2, 28, 28, dtype=torch.bool)}])
def test_arguments_that_do_not_fit_are_refused(model, wrong):
    with pytest.raises(InputError, match="but must be"):
        model(make_images(2, 28, 42), **wrong)
