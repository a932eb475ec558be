"""Properties of the networks that need no reference: what runs, where, and what is refused."""

from dataclasses import replace

import pytest
import torch
from model_helpers import TINY, make_cameras, make_images, make_network, scaled_error
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from da3_ros.errors import InputError
from da3_ros.model.layers import low_precision_parameters
from da3_ros.model.reference_view import STRATEGIES, select_reference
from da3_ros.model.weights import build

TINY_SINGLE = replace(TINY, name="tiny-single", mix_start=None, out_layers=(1, 2, 3, 5))
DEAD = [f"head.scratch.output_conv{stage}_aux.{i}." for stage in (1, 2) for i in (0, 1, 2)]
SHARED_NORM = "head.scratch.output_conv2_aux.0.2."


def is_dead(name: str) -> bool:
    return any(name.startswith(prefix) for prefix in DEAD) and not name.startswith(SHARED_NORM)


def test_every_parameter_counts_but_the_dead_ones():
    """Gradients reach everything that the outputs depend on, and nothing else."""
    model = make_network(TINY).requires_grad_(True)
    images = make_images(3, 28, 42)
    extrinsics, intrinsics = make_cameras(3, 28, 42)
    with torch.enable_grad():
        free = model(images, return_ray=True)
        conditioned = model(images, extrinsics, intrinsics)
        outputs = [value for value in vars(free).values() if value is not None] + [conditioned.depth]
        sum((value * torch.rand_like(value)).sum() for value in outputs).backward()
    silent = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert silent == {name for name, _ in model.named_parameters() if is_dead(name)}


def test_dead_parameters_do_not_matter():
    model, images = make_network(TINY), make_images(3, 28, 42)
    before = model(images, return_ray=True)
    for name, value in model.named_parameters():
        if is_dead(name) or name.startswith("cam_enc."):
            value.fill_(torch.nan)
    after = model(images, return_ray=True)
    for field in ("depth", "depth_conf", "extrinsics", "intrinsics", "ray", "ray_conf"):
        assert torch.equal(getattr(before, field), getattr(after, field))


def test_only_what_is_asked_for_runs():
    """The ray path and the camera encoder run on request; dead sub-heads never do."""
    model, images = make_network(TINY), make_images(3, 28, 42)
    ran = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))

    plain = model(images)
    assert plain.ray is None and plain.ray_conf is None
    assert "cam_dec" in ran and "head.scratch.refinenet1" in ran
    assert not [name for name in ran if "_aux" in name or name.startswith("cam_enc")]
    posed = model(images, use_ray_pose=True)
    assert posed.ray is None and "head.scratch.refinenet1_aux" in ran
    model(images, *make_cameras(3, 28, 42), return_ray=True)
    assert "cam_enc" in ran
    assert not [name for name in ran if is_dead(name + ".")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stages_compose_to_forward(strategy):
    """What a streaming caller does: stages one by one, and heads for a few views only."""
    model, images = make_network(TINY), make_images(5, 28, 42, batch=2)
    whole = model(images, ref_view=strategy, return_ray=True)
    states = [model.encode_views(images[:, i:i + 1]) for i in range(5)]        # one view at a time
    state = replace(
        states[0],
        tokens=torch.cat([s.tokens for s in states], dim=1),
        summary=torch.cat([s.summary for s in states], dim=1),
    )
    reference = model.select_reference(state, strategy)
    features = model.mix_views(state, model.role_tokens(reference, 5))
    wanted = torch.tensor([4, 1])
    maps = model.decode_dense(features.views(wanted), ray=True)
    assert scaled_error(maps.depth, whole.depth[:, wanted]) < 1e-5
    assert scaled_error(maps.ray, whole.ray[:, wanted]) < 1e-5
    assert scaled_error(model.decode_dense(features.views(slice(2, 3))).depth, whole.depth[:, 2:3]) < 1e-5
    assert scaled_error(model.decode_cameras(features)[0], whole.extrinsics) < 1e-5


def test_order_of_views_does_not_matter_but_for_the_role():
    model, images = make_network(TINY), make_images(4, 28, 42)
    state, order = model.encode_views(images), torch.tensor([2, 0, 3, 1])
    shuffled = replace(state, tokens=state.tokens[:, order], summary=state.summary[:, order])

    def depth(state, reference):
        return model.decode_dense(model.mix_views(state, model.role_tokens(torch.tensor([reference]), 4))).depth

    assert scaled_error(depth(shuffled, 0), depth(state, 2)[:, order]) < 1e-5
    assert scaled_error(depth(state, 0), depth(state, 2)) > 1e-3


def test_reference_view():
    summary = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for strategy in STRATEGIES:
        chosen = select_reference(summary, strategy)
        assert chosen.shape == (2,) and chosen.dtype == torch.int64
        assert select_reference(summary[:, :2], strategy).tolist() == [0, 0]
        assert torch.equal(chosen, torch.cat([select_reference(summary[i:i + 1], strategy) for i in range(2)]))
    assert select_reference(summary, "first").tolist() == [0, 0]
    assert select_reference(summary, "middle").tolist() == [2, 2]
    # The most similar pair ties; the earlier of the two is taken, whatever rounding says.
    alike = torch.eye(4)[None] + 0.5
    alike[0, 3] = alike[0, 1] + 0.01
    assert select_reference(alike, "saddle_sim_range").item() == 1


class NothingLeavesTheDevice(TorchDispatchMode):
    """Fails when an operator touches a tensor that is not on the meta device; reading a value there fails anyway."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            assert not isinstance(leaf, torch.Tensor) or leaf.device.type == "meta", f"{func} on {leaf.device}"
        return result


@pytest.mark.parametrize("case", [*STRATEGIES, "known cameras", "ray pose", "single view"])
def test_forward_stays_on_the_device(case):
    """No value is read back and no host tensor is made: on the meta device either would raise."""
    model = build(TINY_SINGLE if case == "single view" else TINY)
    model.prepare(28, 42)
    images = torch.empty(2, 4, 3, 28, 42, device="meta")
    with NothingLeavesTheDevice():
        if case == "known cameras":
            model(images, torch.empty(2, 4, 4, 4, device="meta"), torch.empty(2, 4, 3, 3, device="meta"))
        elif case == "ray pose":
            model(images, use_ray_pose=True)
        elif case == "single view":
            model(images)
        else:
            model(images, ref_view=case, return_ray=True)


@pytest.mark.parametrize(
    "options", [{}, {"use_ray_pose": True}, pytest.param({"return_ray": True}, marks=pytest.mark.slow)]
)
def test_one_graph(options):
    """The whole forward is one graph: a break, such as a branch on data, is an error with fullgraph."""
    model, images = make_network(TINY), make_images(3, 28, 42)
    model.prepare(28, 42)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for field in ("depth", "extrinsics"):
        assert torch.equal(getattr(compiled(images, **options), field), getattr(model(images, **options), field))


def test_export():
    """Results and stages can be exported, also where the tables were not prepared."""
    model, images = make_network(TINY), make_images(3, 28, 42)
    exported = torch.export.export(model, (images,)).module()
    assert scaled_error(exported(images).depth, model(images).depth) < 1e-5


def test_tables_are_made_once():
    model = make_network(TINY)
    model.prepare(28, 42)
    caches = (model.backbone.tables, model.head.tables, model.ray_tables)
    before = [dict(cache._kept) for cache in caches]
    model(make_images(2, 28, 42), use_ray_pose=True)
    for cache, kept in zip(caches, before, strict=True):
        assert cache._kept.keys() == kept.keys() and all(cache._kept[key] is kept[key] for key in kept)
    model(make_images(2, 42, 42))
    assert len(model.backbone.tables._kept) == 2


def test_training_after_inference():
    """Tables that were made in inference mode serve a training step too."""
    model, images = make_network(TINY), make_images(2, 28, 42)
    with torch.inference_mode():
        model(images)
    model.requires_grad_(True)
    with torch.enable_grad():
        model(images).depth.mean().backward()
    assert model.backbone.pretrained.pos_embed.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    """Matrix products take the dtype, everything sensitive stays in fp32, results are near."""
    model, images = make_network(TINY, dtype), make_images(3, 56, 70)
    reduced = {name for name, value in model.named_parameters() if value.dtype == dtype}
    assert reduced == {
        name for name, value in model.named_parameters()
        if any(value is one for one in low_precision_parameters(model))
    }
    kept = [name for name, _ in model.named_parameters() if name not in reduced]
    assert all(word in " ".join(kept) for word in ("cam_dec", "cam_enc", "norm", "gamma", "token", "pos_embed"))
    assert "head.scratch.output_conv2.2.weight" in kept and "head.scratch.output_conv2.0.weight" in reduced
    assert "backbone.pretrained.blocks.0.attn.qkv.weight" in reduced

    state = model.encode_views(images)
    features = model.mix_views(state, model.role_tokens(model.select_reference(state), 3))
    assert {state.tokens.dtype, features.camera.dtype, *(level.dtype for level in features.levels)} == {torch.float32}
    low, full = model(images, return_ray=True), make_network(TINY)(images, return_ray=True)
    for field in ("depth", "depth_conf", "extrinsics", "intrinsics", "ray", "ray_conf"):
        assert getattr(low, field).dtype == torch.float32
    assert ((low.depth - full.depth).abs() / full.depth).median() < 0.03


CAMERAS = make_cameras(2, 28, 42)


@pytest.mark.parametrize("images, kwargs, message", [
    ("a.png", {}, "must be a tensor"),
    (torch.zeros(2, 3, 28, 42), {}, "(2, 3, 28, 42) but must be (B, N, 3, H, W)"),
    (torch.zeros(1, 2, 28, 42, 3), {}, "must be (B, N, 3, H, W)"),
    (torch.zeros(1, 0, 3, 28, 42), {}, "at least one"),
    (torch.zeros(1, 2, 3, 30, 42), {}, "30 x 42 pixels but height and width must be multiples of 14"),
    (torch.zeros(1, 2, 3, 0, 42), {}, "multiples of 14"),
    (torch.zeros(1, 2, 3, 28, 42, dtype=torch.uint8), {}, "torch.uint8 but must be normalised floats"),
    (torch.zeros(1, 2, 3, 28, 42, device="meta"), {}, "on meta but the network is on cpu"),
    (torch.zeros(1, 2, 3, 28, 42), {"ref_view": "auto"}, "'auto' but must be one of: saddle_balanced"),
    (torch.zeros(1, 2, 3, 28, 42), {"extrinsics": CAMERAS[0]}, "intrinsics are missing"),
    (torch.zeros(1, 3, 3, 28, 42), {"intrinsics": CAMERAS[1]}, "must be (1, 3, 3, 3)"),
    (torch.zeros(1, 3, 3, 28, 42), {"extrinsics": CAMERAS[0], "intrinsics": CAMERAS[1]}, "must be (1, 3, 3, 4)"),
    (torch.zeros(1, 2, 3, 28, 42), {"extrinsics": CAMERAS[0], "intrinsics": CAMERAS[1][..., :2]}, "(1, 2, 3, 3)"),
    (torch.zeros(1, 2, 3, 28, 42), {"extrinsics": CAMERAS[0], "intrinsics": CAMERAS[1].long()}, "floats on cpu"),
])
def test_refused_arguments(images, kwargs, message):
    with pytest.raises(InputError) as error:
        make_network(TINY)(images, **kwargs)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_single_view_network_has_no_cameras():
    model, images = make_network(TINY_SINGLE), make_images(2, 28, 42)
    assert model(images, ref_view="first").sky.shape == (1, 2, 28, 42)
    for kwargs in ({"use_ray_pose": True}, {"extrinsics": CAMERAS[0]}, {"intrinsics": CAMERAS[1]}):
        with pytest.raises(InputError, match="each view alone"):
            model(images, **kwargs)


def test_ray_cameras_need_rays():
    model = make_network(TINY)
    state = model.encode_views(make_images(2, 28, 42))
    maps = model.decode_dense(model.mix_views(state, model.role_tokens(torch.zeros(1, dtype=torch.int64), 2)))
    with pytest.raises(InputError, match="ray=True"):
        model.decode_ray_cameras(maps, state.size)
