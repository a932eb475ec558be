"""3D Gaussians of da3-giant: the reference's numbers, and geometry that is right where the reference's is not."""

import functools
import math
import warnings
from dataclasses import replace

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, Reference, make_cameras, make_images, make_network, scaled_error
from torch.nn import functional as F

from da3_ros.errors import InputError
from da3_ros.model.camera import invert_pose, matrix_from_quaternion
from da3_ros.model.gaussians import FIELDS, rotate_harmonics, world_gaussians

TOLERANCE = 1e-4
GIANT = replace(SHRUNKEN["giant"], gaussians=True)
PARTS = ("means", "scales", "harmonics", "opacities")


@pytest.fixture(scope="module")
def giant():
    return make_network(GIANT)


@pytest.fixture(scope="module")
def reference(giant, reference_net):
    for module in ("e3nn", "evo"):
        pytest.importorskip(module, reason=f"the reference's Gaussians need the package {module}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Reference(reference_net(GIANT), giant)


def predict(model, images, published_rotations, extrinsics=None, intrinsics=None):
    """The stages that forward runs, with the choice of how rotations are made."""
    state = model.encode_views(images)
    if extrinsics is None:
        tokens = model.role_tokens(model.select_reference(state), images.shape[1])
    else:
        tokens = model.encode_cameras(extrinsics, intrinsics, state.size)
    features = model.mix_views(state, tokens)
    depth, cameras = model.decode_dense(features).depth, model.decode_cameras(features)
    return model.decode_gaussians(features, images, depth, *cameras, published_rotations)


def rotation_error(ours, theirs):
    """Of quaternions, whose sign has no meaning."""
    return torch.minimum((ours - theirs).abs().amax(-1), (ours + theirs).abs().amax(-1)).max().item()


def assert_same(ours, theirs):
    for part in PARTS:
        assert scaled_error(getattr(ours, part), getattr(theirs, part)) < TOLERANCE, part
    # A coefficient is small where its degree's gain is: the largest one must not hide the others.
    for band in (slice(0, 1), slice(1, 4), slice(4, 9)):
        assert scaled_error(ours.harmonics[..., band], theirs.harmonics[..., band]) < TOLERANCE, band


@pytest.mark.parametrize("views, height, width", [(1, 56, 70), (4, 42, 84), (9, 28, 42)])
def test_parity(giant, reference, views, height, width):
    images = make_images(views, height, width, seed=views)
    theirs = reference(images, infer_gs=True)["gaussians"]
    ours = giant(images, return_gaussians=True)
    assert ours.gaussians.means.shape == (1, views * height * width, 3)
    assert_same(ours.gaussians, theirs)
    published = predict(giant, images, published_rotations=True)
    assert rotation_error(published.rotations, theirs.rotations) < TOLERANCE
    for part in PARTS:
        assert torch.equal(getattr(published, part), getattr(ours.gaussians, part))
    assert rotation_error(ours.gaussians.rotations, theirs.rotations) > 0.1, "the reference mixes up components"


def test_parity_with_known_poses(giant, reference):
    """The reference brings Gaussians to the scale of the given poses, with a scale clamped to 1/3 to 3."""
    from depth_anything_3.utils.pose_align import batch_align_poses_umeyama

    images = make_images(5, 42, 56)
    extrinsics, intrinsics = make_cameras(5, 42, 56)
    predicted = giant(images, extrinsics, intrinsics).extrinsics
    # Poses of a known scale to the predicted ones: of unrelated ones the scale would be clamped.
    centres = invert_pose(predicted)
    given = extrinsics.clone()
    given[..., :3, :] = invert_pose(torch.cat([centres[..., :3], 1.7 * centres[..., 3:]], dim=-1))
    predicted = giant(images, given, intrinsics).extrinsics     # depends on the poses that are given
    scale = batch_align_poses_umeyama(given, predicted)[2].clamp(1 / 3, 3)
    theirs = reference(images, extrinsics=given, intrinsics=intrinsics, infer_gs=True)["gaussians"]
    ours = giant(images, given, intrinsics, return_gaussians=True).gaussians.scaled(scale)
    assert abs(scale.item() - 1) > 0.05
    assert_same(ours, theirs)
    published = predict(giant, images, True, given, intrinsics)
    assert rotation_error(published.rotations, theirs.rotations) < TOLERANCE


def test_batch(giant):
    """Two windows at once: each with its own cameras."""
    images = make_images(3, 28, 42, batch=2, seed=3)
    both = giant(images, return_gaussians=True).gaussians
    for index in range(2):
        alone = giant(images[index:index + 1], return_gaussians=True).gaussians
        for part, mine in zip((*PARTS[:2], "rotations", *PARTS[2:]), both.window(index), strict=True):
            assert scaled_error(mine, getattr(alone, part)[0]) < 1e-4, part


def test_some_views_only(giant):
    """Gaussians of a subset of the views are those of all, and come in the order of the views."""
    images = make_images(3, 28, 42)
    every = giant(images, return_gaussians=True).gaussians
    state = giant.encode_views(images)
    features = giant.mix_views(state, giant.role_tokens(giant.select_reference(state), 3)).views(slice(1, None))
    depth, cameras = giant.decode_dense(features).depth, giant.decode_cameras(features)
    some = giant.decode_gaussians(features, images[:, 1:], depth, *(value[:, -2:] for value in cameras))
    assert scaled_error(some.means, every.means[:, 28 * 42:]) < 1e-5
    assert scaled_error(some.opacities, every.opacities[:, 28 * 42:]) < 1e-5


# Without a network: parameters that are chosen, one camera that is turned and moved.

def make_parameters(views, height, width, **fields):
    """Parameters (1, views, H, W, 37): zero but for ``fields``."""
    parts = [
        torch.as_tensor(fields.get(name, 0.0)).float().expand(1, views, height, width, count)
        for name, count in FIELDS.items()
    ]
    return torch.cat(parts, dim=-1)


def to_world(parameters, depth, extrinsics, intrinsics, **options):
    return world_gaussians(parameters, torch.full(depth.shape, 0.5), depth, extrinsics, intrinsics, **options)


def camera(height=6, width=8, views=1, seed=2):
    extrinsics, intrinsics = make_cameras(views, height, width, seed=seed)
    return extrinsics[..., :3, :], intrinsics


def test_means_project_back_onto_their_pixels():
    height, width = 6, 8
    extrinsics, intrinsics = camera(height, width, views=2)
    offset = 2 * torch.rand(1, 2, height, width, 2, generator=torch.Generator().manual_seed(0)) - 1
    depth = 1 + torch.rand(1, 2, height, width)
    means = to_world(make_parameters(2, height, width, offset=offset, depth_offset=0.25), depth, extrinsics, intrinsics)
    local = (means.means.view(1, 2, -1, 3) @ extrinsics[..., :3].mT) + extrinsics[..., None, :, 3]
    assert torch.allclose(local.norm(dim=-1).view(depth.shape), depth + 0.25, atol=1e-5)    # a distance, not z
    pixels = (local / local[..., 2:]) @ intrinsics.mT
    expected = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1) + 0.5
    assert torch.allclose(pixels[..., :2].view(offset.shape), expected + offset, atol=1e-4)


def test_covariance_is_that_of_the_camera_frame_turned():
    """The default: R_cw S (R_cw S)^T from the quaternion in the camera, brought to world by the camera's pose."""
    generator = torch.Generator().manual_seed(1)
    extrinsics, intrinsics = camera(views=2)
    quaternion = torch.randn(1, 2, 6, 8, 4, generator=generator)
    size = torch.randn(1, 2, 6, 8, 3, generator=generator)
    parameters, depth = make_parameters(2, 6, 8, quaternion=quaternion, size=size), torch.full((1, 2, 6, 8), 2.0)
    found = to_world(parameters, depth, extrinsics, intrinsics)

    def covariance(rotations_wxyz, scales):
        axes = matrix_from_quaternion(rotations_wxyz[..., [1, 2, 3, 0]]) * scales[..., None, :]
        return axes @ axes.mT

    scales = found.scales.view(1, 2, 48, 3)
    local = matrix_from_quaternion(quaternion).flatten(2, 3) * scales[..., None, :]     # R S, in the camera
    turn = invert_pose(extrinsics)[..., None, :, :3]
    expected = turn @ (local @ local.mT) @ turn.mT
    ours = covariance(found.rotations.view(1, 2, 48, 4), scales)
    assert scaled_error(ours, expected) < 1e-5
    assert torch.allclose(found.rotations.norm(dim=-1), torch.ones(1, 96), atol=1e-5)
    published = to_world(parameters, depth, extrinsics, intrinsics, published_rotations=True)
    assert scaled_error(covariance(published.rotations.view(1, 2, 48, 4), scales), expected) > 0.1


def test_published_rotations_are_right_for_a_camera_at_rest():
    extrinsics, intrinsics = camera()
    extrinsics = torch.eye(4)[None, None, :3]
    parameters = make_parameters(1, 6, 8, quaternion=torch.randn(1, 1, 6, 8, 4))
    both = [to_world(parameters, torch.ones(1, 1, 6, 8), extrinsics, intrinsics, published_rotations=value).rotations
            for value in (False, True)]
    assert rotation_error(*both) < 1e-5


def test_size_is_in_pixels():
    """A logit of 0 is 1.5 pixels at whatever distance, from the mean of both focal lengths' reciprocals."""
    extrinsics, intrinsics = camera()
    found = to_world(make_parameters(1, 6, 8), torch.full((1, 1, 6, 8), 3.0), extrinsics, intrinsics)
    pixel = (3.0 / intrinsics[0, 0, 0, 0] + 3.0 / intrinsics[0, 0, 1, 1]) / 2
    assert torch.allclose(found.scales, 3.0 * pixel.expand(found.scales.shape), rtol=1e-4)


def harmonic_basis(direction):
    """Y_0 to Y_8 (..., 9) at unit directions (..., 3), as in Kerbl et al.; orthonormal on the sphere."""
    x, y, z = direction.unbind(-1)
    a = math.sqrt(1 / (4 * math.pi))
    b, c = math.sqrt(3) * a, math.sqrt(15) * a
    return torch.stack([
        torch.full_like(x, a), -b * y, b * z, -b * x,
        c * x * y, -c * y * z, c / math.sqrt(12) * (2 * z * z - x * x - y * y), -c * x * z, c / 2 * (x * x - y * y),
    ], dim=-1)


def test_colours_turn_with_the_camera():
    """What the camera sees along d, the world shows along R d."""
    generator = torch.Generator().manual_seed(4)
    direction = F.normalize(torch.randn(50, 3, generator=generator), dim=-1)
    harmonics = torch.randn(7, 1, 9, generator=generator)
    rotation = invert_pose(camera(views=7)[0])[0, :, None, :, :3]
    turned = rotate_harmonics(harmonics, rotation)
    seen = (harmonics * harmonic_basis(direction)).sum(-1)                              # (7, 50)
    shown = (turned * harmonic_basis((rotation @ direction[..., None])[..., 0])).sum(-1)
    assert scaled_error(shown, seen) < 1e-5
    assert torch.equal(rotate_harmonics(harmonics, torch.eye(3))[..., 0], harmonics[..., 0])


def test_gains_of_the_degrees():
    extrinsics, intrinsics = torch.eye(4)[None, None, :3], camera()[1]
    ones = make_parameters(1, 6, 8, harmonics=torch.ones(27))
    harmonics = to_world(ones, torch.ones(1, 1, 6, 8), extrinsics, intrinsics).harmonics
    expected = torch.tensor([1.0] + 3 * [0.025] + 5 * [0.00625])
    assert torch.allclose(harmonics, expected.expand(harmonics.shape), atol=1e-6)


def test_scaled():
    extrinsics, intrinsics = camera()
    parameters = make_parameters(1, 6, 8, quaternion=torch.ones(4), harmonics=torch.ones(27))
    found = to_world(parameters, torch.ones(1, 1, 6, 8), extrinsics, intrinsics)
    wanted = to_world(
        parameters, torch.full((1, 1, 6, 8), 2.0), torch.cat([extrinsics[..., :3], 2 * extrinsics[..., 3:]], -1),
        intrinsics,
    )
    doubled = found.scaled(torch.tensor([2.0]))
    for part in ("means", "scales", "rotations", "harmonics", "opacities"):
        assert scaled_error(getattr(doubled, part), getattr(wanted, part)) < 1e-6, part


def test_only_where_there_is_a_head_and_only_on_request(giant, monkeypatch):
    images = make_images(2, 28, 42)
    monkeypatch.setattr(giant.gs_head, "forward", functools.partial(pytest.fail, "the head ran unasked"))
    assert giant(images).gaussians is None
    with pytest.raises(InputError, match="tiny has no Gaussian head: take da3-giant"):
        make_network(TINY)(images, return_gaussians=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(giant, dtype):
    """Positions and orientations stay fp32; a head in low precision stays near the full one."""
    images = make_images(2, 28, 42)
    expected = giant(images, return_gaussians=True).gaussians
    found = make_network(GIANT, dtype)(images, return_gaussians=True).gaussians
    for part in (*PARTS, "rotations"):
        value = getattr(found, part)
        assert value.dtype == torch.float32 and value.isfinite().all(), part
    assert (found.opacities - expected.opacities).abs().median() < 0.05


TINY_GIANT = replace(TINY, gaussians=True)


def test_one_graph_and_export():
    """Nothing branches on data, and results with Gaussians can be exported."""
    model, images = make_network(TINY_GIANT), make_images(2, 28, 42)
    model.prepare(28, 42)
    expected = model(images, return_gaussians=True).gaussians
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    exported = torch.export.export(model, (images,), {"return_gaussians": True}).module()
    for found in (compiled(images, return_gaussians=True), exported(images, return_gaussians=True)):
        for part in (*PARTS, "rotations"):
            assert scaled_error(getattr(found.gaussians, part), getattr(expected, part)) < 1e-5, part


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@gpu
def test_numbers_of_the_cpu():
    model, images = make_network(TINY_GIANT), make_images(3, 56, 84, batch=2)
    expected = model(images, return_gaussians=True).gaussians
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        found = model.cuda()(images.cuda(), return_gaussians=True).gaussians
    finally:
        torch.backends.cudnn.allow_tf32 = before
    for part in PARTS:
        assert scaled_error(getattr(found, part).cpu(), getattr(expected, part)) < 1e-4, part
    # A quaternion of the head that is next to zero turns with the last digits.
    errors = torch.minimum(*((found.rotations.cpu() + sign * expected.rotations).abs().amax(-1) for sign in (-1, 1)))
    assert errors.quantile(0.99) < 1e-3


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_wait_for_the_device_and_capture(dtype):
    model = make_network(TINY_GIANT, dtype).cuda()
    images = make_images(3, 56, 84, seed=1).cuda()
    model.prepare(56, 84)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(images, return_gaussians=True)
    stream.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(images, return_gaussians=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = model(images, return_gaussians=True).gaussians
    images.copy_(make_images(3, 56, 84, seed=2))
    expected = model(images, return_gaussians=True).gaussians
    graph.replay()
    for part in PARTS:
        assert scaled_error(getattr(captured, part), getattr(expected, part)) < 1e-3, part
