"""Our networks compute what the reference package computes, from the same weights (fp32, CPU)."""

import pytest
import torch
from model_helpers import (
    SHRUNKEN,
    Reference,
    make_cameras,
    make_images,
    make_network,
    relative_error,
    scaled_error,
)
from safetensors.torch import load_file

from da3_ros.model import VARIANTS, Prediction, load_model, save_checkpoint
from da3_ros.model.backbone import VisionTransformer
from da3_ros.model.reference_view import STRATEGIES
from da3_ros.model.weights import build

TOLERANCE = 1e-4
SMALL = VARIANTS["da3-small"]
PUBLISHED = [name for name, variant in VARIANTS.items() if variant.hub]


def assert_same(ours, theirs):
    assert relative_error(ours.depth, theirs["depth"]) < TOLERANCE
    assert relative_error(ours.depth_conf, theirs["depth_conf"]) < TOLERANCE
    assert scaled_error(ours.extrinsics, theirs["extrinsics"]) < TOLERANCE
    assert scaled_error(ours.intrinsics, theirs["intrinsics"]) < TOLERANCE
    focal = ours.intrinsics[..., 0, 0]
    assert (focal > 1).all() and (focal < 1e4).all(), "a dead field of view would hide errors"


@pytest.mark.parametrize("name", VARIANTS)
def test_layout_of_every_variant(name, reference_net):
    ours = {key: tuple(value.shape) for key, value in build(VARIANTS[name]).state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in reference_net(VARIANTS[name], "meta").state_dict().items()}
    assert ours == theirs


@pytest.mark.parametrize("name", PUBLISHED)
def test_variant_table_against_published_configuration(name):
    """The rows of our table say what the configuration files of the reference say."""
    package = pytest.importorskip("depth_anything_3", reason="parity needs the package depth-anything-3")
    from depth_anything_3.cfg import load_config

    variant = VARIANTS[name]
    config = load_config(f"{package.__path__[0]}/configs/{name}.yaml")
    if variant.metric is not None:
        assert config.metric == load_config(f"{package.__path__[0]}/configs/{variant.metric.name}.yaml")
        config = config.anyview
    width, layers = {"vits": (384, 12), "vitb": (768, 12), "vitl": (1024, 24), "vitg": (1536, 40)}[config.net.name]
    assert (variant.dim, variant.depth, variant.swiglu) == (width, layers, config.net.name == "vitg")
    assert list(variant.out_layers) == config.net.out_layers
    assert {config.net.alt_start, config.net.qknorm_start, config.net.rope_start} == {
        -1 if variant.mix_start is None else variant.mix_start
    }
    assert config.net.cat_token == variant.any_view
    assert (config.head.dim_in, config.head.features) == (variant.feature_dim, variant.features)
    assert list(variant.out_channels) == config.head.out_channels
    assert ("gs_head" in config) == variant.gaussians


def choices(model, images, strategy):
    """Views that a strategy may choose: one, or the two of the most similar pair, between which rounding decides
    in the reference."""
    state = model.encode_views(images)
    chosen = model.select_reference(state, strategy).item()
    if strategy != "saddle_sim_range" or images.shape[1] < 3:
        return [chosen]
    direction = torch.nn.functional.normalize(state.summary[0], dim=-1)
    similarity = direction @ direction.T
    similarity.fill_diagonal_(0)
    spread = similarity.amax(1) - similarity.amin(1)
    assert spread[chosen] > spread.max() - 1e-6
    return torch.nonzero(spread > spread.max() - 1e-6).flatten().tolist()


def forward_with_reference(model, images, view):
    state = model.encode_views(images)
    features = model.mix_views(state, model.role_tokens(torch.tensor([view]), images.shape[1]))
    return Prediction(*model.decode_dense(features)[:2], *model.decode_cameras(features))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("views, height, width", [(1, 70, 98), (2, 98, 56), (3, 56, 112), (5, 70, 98), (8, 42, 70)])
def test_small(pair, views, height, width, strategy):
    model, reference = pair(SMALL)
    images = make_images(views, height, width, seed=views)
    theirs = reference(images, ref_view_strategy=strategy)
    ours = model(images, ref_view=strategy, return_ray=True)
    tied = choices(model, images, strategy)
    if len(tied) > 1:
        errors = {i: relative_error(forward_with_reference(model, images, i).depth, theirs["depth"]) for i in tied}
        best = min(errors, key=errors.__getitem__)
        assert_same(forward_with_reference(model, images, best), theirs)
        return
    assert_same(ours, theirs)
    assert scaled_error(ours.ray, reference.head_output["ray"]) < TOLERANCE
    assert relative_error(ours.ray_conf, reference.head_output["ray_conf"]) < TOLERANCE


def test_small_at_a_working_resolution(pair):
    model, reference = pair(SMALL)
    images = make_images(4, 154, 210)
    assert_same(model(images), reference(images))


@pytest.mark.parametrize("name", ["base", "large", "giant"])
@pytest.mark.parametrize("views, height, width", [(1, 56, 70), (4, 42, 84)])
def test_shrunken(pair, name, views, height, width):
    model, reference = pair(SHRUNKEN[name])
    images = make_images(views, height, width)
    ours = model(images, return_ray=True)
    assert_same(ours, reference(images))
    assert scaled_error(ours.ray, reference.head_output["ray"]) < TOLERANCE


def test_batch(pair):
    """Two windows at once, each with its own reference view."""
    model, reference = pair(SMALL)
    images = make_images(5, 56, 70, batch=2, seed=3)
    chosen = model.select_reference(model.encode_views(images))
    assert chosen[0] != chosen[1], "pick a seed whose windows choose different views"
    ours = model(images, return_ray=True)
    for i in range(2):
        alone = model(images[i:i + 1], return_ray=True)
        for field in ("depth", "depth_conf", "extrinsics", "intrinsics", "ray", "ray_conf"):
            assert scaled_error(getattr(ours, field)[i:i + 1], getattr(alone, field)) < 1e-5, field
        theirs = reference(images[i:i + 1])
        assert relative_error(ours.depth[i:i + 1], theirs["depth"]) < TOLERANCE


def test_more_views_than_are_decoded_at_once(pair):
    model, reference = pair(SHRUNKEN["base"])
    images = make_images(11, 28, 42)
    assert_same(model(images), reference(images))


@pytest.mark.parametrize("views", [1, 2, 4])
def test_known_cameras(pair, views):
    model, reference = pair(SMALL)
    images = make_images(views, 56, 84)
    extrinsics, intrinsics = make_cameras(views, 56, 84)
    ours = model(images, extrinsics, intrinsics)
    assert_same(ours, reference(images, extrinsics=extrinsics, intrinsics=intrinsics))
    upper = model(images, extrinsics[..., :3, :], intrinsics)
    assert torch.equal(ours.depth, upper.depth)
    assert scaled_error(ours.depth, model(images).depth) > 1e-3, "the cameras must matter"


@pytest.mark.parametrize("height, width", [(518, 518), (378, 504), (518, 28), (70, 560)])
def test_position_embedding(pair, height, width):
    """Larger, smaller and equal to the stored grid of 37 x 37."""
    model, reference = pair(SMALL)
    vit: VisionTransformer = model.backbone.pretrained
    blank = torch.zeros(1, 1, 3, height, width)
    tokens = vit.embed(blank, model.backbone._tables((height, width), blank.device))[0]     # (1, T, D)
    theirs = reference.net.backbone.pretrained.interpolate_pos_encoding(tokens, height, width)
    bias = torch.cat([vit.cls_token[0], vit.patch_embed.proj.bias.expand(tokens.shape[1] - 1, -1)])
    assert scaled_error(tokens - bias, theirs) < 1e-5


@pytest.mark.parametrize("batch, views, height, width", [(1, 1, 56, 70), (1, 3, 42, 84), (2, 5, 28, 42)])
def test_single_view(pair, batch, views, height, width):
    """Depth and sky as the network gives them, and with the published rule for the depth of sky."""
    model, reference = pair(SHRUNKEN["metric"])
    images = make_images(views, height, width, batch=batch)
    maps, ours = model.maps(images), model(images, as_published=True)
    for i in range(batch):          # the reference's head mixes up batches of several windows
        filled = reference(images[i:i + 1])
        theirs = reference.head_output
        assert relative_error(maps.depth[i:i + 1], theirs["depth"]) < TOLERANCE
        assert relative_error(ours.depth[i:i + 1], filled["depth"]) < TOLERANCE
        assert not torch.equal(filled["depth"], theirs["depth"]), "there must be sky"
        assert scaled_error(ours.sky[i:i + 1], theirs["sky"]) < TOLERANCE
    assert (ours.sky > 0).any() and (ours.sky == 0).any()
    assert ours.depth_conf is None and ours.extrinsics is None and ours.intrinsics is None


def test_checkpoint_in_published_layout(tmp_path, pair):
    """A file that we write loads strictly here, and in the reference but for the shared normalisation."""
    model, reference = pair(SMALL)
    save_checkpoint(model, tmp_path / "model.safetensors")
    loaded = load_model("da3-small", tmp_path / "model.safetensors")
    images = make_images(2, 28, 42)
    assert torch.equal(loaded(images).depth, model(images).depth)

    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == 437
    result = reference.net.load_state_dict({k.removeprefix("model."): v for k, v in stored.items()}, strict=False)
    assert not result.unexpected_keys
    assert sorted(result.missing_keys) == sorted(
        f"head.scratch.output_conv2_aux.{i}.2.{leaf}" for i in (1, 2, 3) for leaf in ("weight", "bias")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["da3-base", "da3-large", "da3metric-large"])
def test_full_size(reference_net, name):
    model = make_network(VARIANTS[name])
    reference = Reference(reference_net(VARIANTS[name]), model)
    images = make_images(3, 126, 168)
    ours, theirs = model(images), reference(images)
    if VARIANTS[name].any_view:
        assert_same(ours, theirs)
    else:
        ours = model(images, as_published=True)
        assert relative_error(model.maps(images).depth, reference.head_output["depth"]) < TOLERANCE
        assert relative_error(ours.depth, theirs["depth"]) < TOLERANCE
        assert scaled_error(ours.sky, theirs["sky"]) < TOLERANCE
