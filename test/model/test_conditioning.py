"""Known cameras: the published calls' numbers, and sound ones where those fail."""

import numpy as np
import pytest
import torch
from model_helpers import (
    SHRUNKEN,
    TINY,
    make_cameras,
    make_images,
    make_network,
    relative_error,
    scaled_error,
)
from published_package import published

from da3_ros.errors import InputError
from da3_ros.geometry.align import Similarity, camera_centres
from da3_ros.model import Prediction, predict_with_cameras
from da3_ros.model.camera import normalise_cameras
from da3_ros.model.nested import NestedDepthAnything3

TOLERANCE = 1e-4
HEIGHT, WIDTH = 42, 56
MEAN, STD = ((torch.tensor(values)[:, None, None]) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def published_call(reference_net):
    """The published ``inference`` around a network of the reference, in fp32."""
    api = published("depth_anything_3.api")

    def make(reference):
        caller = object.__new__(api.DepthAnything3)
        torch.nn.Module.__init__(caller)
        caller.model = reference.net
        caller.device = torch.device("cpu")
        caller.input_processor = api.InputProcessor()
        caller.output_processor = api.OutputProcessor()
        # Its own forward is this under autocast, which has no fp32.
        caller.forward = lambda images, extrinsics, intrinsics, *_: reference.net(images, extrinsics, intrinsics)
        return caller

    return make


@pytest.mark.parametrize("name", ["base", "giant"])
@pytest.mark.parametrize("views", [3, 5, 12])
@pytest.mark.parametrize("to_input_scale", [True, False])
def test_published_call(pair, published_call, name, views, to_input_scale):
    model, reference = pair(SHRUNKEN[name])
    pixels = np.random.default_rng(views).integers(0, 256, (views, HEIGHT, WIDTH, 3), dtype=np.uint8)
    extrinsics, intrinsics = make_cameras(views, HEIGHT, WIDTH, seed=views)
    theirs = published_call(reference).inference(
        list(pixels), extrinsics[0].numpy(), intrinsics[0].numpy(), to_input_scale, process_res=WIDTH
    )
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    ours, alignment = predict_with_cameras(
        model, images[None], extrinsics, intrinsics, as_published=True, to_input_scale=to_input_scale
    )
    assert relative_error(ours.depth[0], torch.from_numpy(theirs.depth)) < TOLERANCE
    their_poses = torch.from_numpy(theirs.extrinsics).float()[:, :3]
    assert scaled_error(ours.extrinsics[0], their_poses) < TOLERANCE
    assert scaled_error(ours.intrinsics[0], torch.from_numpy(theirs.intrinsics)) < TOLERANCE
    assert alignment.rotation_determined
    assert alignment.similarity.scale.log().abs() > 0.05, "a scale of 1 would hide errors"


def test_published_call_of_the_nested_pair(reference_net):
    """Normalisation and alignment around the nested network, whose own numbers are tested elsewhere."""
    model = NestedDepthAnything3(make_network(SHRUNKEN["base"]), make_network(SHRUNKEN["metric"]))
    images = make_images(3, HEIGHT, WIDTH)
    extrinsics, intrinsics = make_cameras(3, HEIGHT, WIDTH)
    inner = model(images, normalise_cameras(extrinsics, as_published=True), intrinsics, as_published=True)
    ours, alignment = predict_with_cameras(model, images, extrinsics, intrinsics, as_published=True)
    assert scaled_error(ours.depth * alignment.similarity.scale.float(), inner.depth) < 1e-5
    assert ours.scale is None       # the unit is that of the given cameras


def distances(extrinsics):
    return camera_centres(extrinsics).norm(dim=-1)


def rig_of(centres):
    """World-to-camera poses (1, N, 4, 4) with random rotations at ``centres`` (N, 3)."""
    centres = torch.as_tensor(centres, dtype=torch.float32)
    extrinsics, _ = make_cameras(len(centres), HEIGHT, WIDTH)
    extrinsics[0, :, :3, 3] = -(extrinsics[0, :, :3, :3] @ centres[..., None])[..., 0]
    return extrinsics


@pytest.mark.parametrize("views", [3, 4, 5, 8])
def test_unit_of_poses_is_the_published_one_where_that_is_sound(views):
    extrinsics, _ = make_cameras(views, HEIGHT, WIDTH, batch=2, seed=views)
    ours = normalise_cameras(extrinsics)
    for i in range(2):      # the published median is over a batch as a whole
        theirs = normalise_cameras(extrinsics[i:i + 1], as_published=True)
        assert scaled_error(ours[i:i + 1], theirs) < 1e-6
    assert (ours[:, 0] - torch.eye(4)).abs().max() < 1e-6
    assert torch.equal(ours, normalise_cameras(extrinsics[..., :3, :]))


@pytest.mark.parametrize("centres, expected", [
    ([[1, 2, 3]], [0]),
    ([[0, 0, 0], [0.004, 0, 0]], [0, 1]),
    ([[5000, 0, 0], [5000, 120, 0]], [0, 1]),
    ([[1, 2, 3]] * 4, [0, 0, 0, 0]),
    ([[0, 0, 0], [0, 0, 0], [0, 2, 0]], [0, 0, 1]),
    ([[0, 0, 0], [0, 0, 1e-5], [0, 0, 2e-5], [0, 3, 0], [0, 6, 0]], [0, 1e-5 / 3, 2e-5 / 3, 1, 2]),
    ([[0, 0, 0], [0, 0.05, 0], [0, 0.1, 0]], [0, 1, 2]),
])
def test_unit_of_poses_that_the_published_one_does_not_fit(centres, expected):
    found = normalise_cameras(rig_of(centres))
    assert found.isfinite().all()
    torch.testing.assert_close(distances(found)[0], torch.tensor(expected, dtype=torch.float32), atol=2e-5, rtol=1e-3)


def test_published_unit_blows_up_two_views():
    assert distances(normalise_cameras(rig_of([[0, 0, 0], [3, 0, 0]]), as_published=True))[0, 1] == pytest.approx(30)


class Oracle:
    """A network that sees the true depth and poses, in a world and unit of its own; keeps what it was given."""

    device = torch.device("cpu")

    def __init__(self, depth, extrinsics, similarity):
        self.depth, self.extrinsics, self.similarity = depth, extrinsics, similarity

    def __call__(self, images, extrinsics, intrinsics, **options):
        self.given = extrinsics
        seen = self.similarity.cameras(self.extrinsics.double()).float()[..., :3, :]
        depth = self.depth * self.similarity.scale.float()[:, None, None, None]
        return Prediction(depth, torch.ones_like(depth), seen, intrinsics)


@pytest.mark.parametrize("centres", [
    [[0, 0, 0], [0.07, 0, 0]],
    [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]],
    [[9, 9, 9], [9, 9, 9], [9, 9.5, 9]],
    [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
])
def test_a_rig_gives_depth_in_its_own_unit(centres):
    extrinsics = rig_of(centres)
    views = len(centres)
    depth = torch.rand(1, views, HEIGHT, WIDTH) + 1
    other = make_cameras(1, HEIGHT, WIDTH, seed=7)[0][:, 0].double()
    world = Similarity(torch.tensor([31.0]).double(), other[:, :3, :3], other[:, :3, 3])
    model = Oracle(depth, extrinsics, world)
    images, intrinsics = make_images(views, HEIGHT, WIDTH), make_cameras(views, HEIGHT, WIDTH)[1]
    found, alignment = predict_with_cameras(model, images, extrinsics, intrinsics)
    assert alignment.scale_determined and alignment.scale_stddev < 1e-3
    assert relative_error(found.depth, depth) < 1e-4
    assert torch.equal(found.extrinsics, extrinsics[..., :3, :])
    assert torch.equal(found.intrinsics, intrinsics)
    assert torch.equal(model.given, normalise_cameras(extrinsics))
    there, _ = predict_with_cameras(model, images, extrinsics, intrinsics, to_input_scale=False)
    assert scaled_error(there.depth, depth * 31) < 1e-6
    assert scaled_error(there.extrinsics, world.cameras(extrinsics.double()).float()[..., :3, :]) < 1e-4


@pytest.mark.parametrize("centres", [[[1, 2, 3]], [[1, 2, 3]] * 2, [[1, 2, 3]] * 4])
def test_without_baseline_depth_stays_in_the_unit_of_the_network(centres):
    model, views = make_network(TINY), len(centres)
    extrinsics, intrinsics = rig_of(centres), make_cameras(views, HEIGHT, WIDTH)[1]
    images = make_images(views, HEIGHT, WIDTH)
    found, alignment = predict_with_cameras(model, images, extrinsics, intrinsics)
    assert not alignment.scale_determined and alignment.scale_stddev == torch.inf
    assert torch.equal(found.depth, model(images, normalise_cameras(extrinsics), intrinsics).depth)
    assert found.depth.isfinite().all() and torch.equal(found.extrinsics, extrinsics[..., :3, :])
    half, _ = predict_with_cameras(model, images, extrinsics, intrinsics, prior_scale=2.0)
    assert scaled_error(half.depth * 2, found.depth) < 1e-6


def test_result_does_not_depend_on_the_world_of_the_given_poses():
    """Another origin, axes and unit of the rig move the result along with it."""
    model, views = make_network(TINY), 3
    images = make_images(views, HEIGHT, WIDTH)
    extrinsics, intrinsics = make_cameras(views, HEIGHT, WIDTH)
    other = make_cameras(1, HEIGHT, WIDTH, seed=7)[0][:, 0].double()
    world = Similarity(torch.tensor([1000.0]).double(), other[:, :3, :3], other[:, :3, 3])
    first, here = predict_with_cameras(model, images, extrinsics, intrinsics, prior_scale=1.0)
    moved = world.cameras(extrinsics.double()).float()
    second, there = predict_with_cameras(model, images, moved, intrinsics, prior_scale=1e-3)
    assert here.scale_determined.equal(there.scale_determined)
    assert scaled_error(second.depth, 1000 * first.depth) < TOLERANCE
    torch.testing.assert_close(second.extrinsics, moved[..., :3, :])


def test_intrinsics_alone():
    model, images = make_network(TINY), make_images(3, HEIGHT, WIDTH)
    intrinsics = make_cameras(3, HEIGHT, WIDTH)[1]
    plain = model(images)
    for found in (model(images, intrinsics=intrinsics), predict_with_cameras(model, images, None, intrinsics)[0]):
        assert torch.equal(found.depth, plain.depth) and torch.equal(found.extrinsics, plain.extrinsics)
        assert torch.equal(found.intrinsics, intrinsics)
    conditioned, alignment = predict_with_cameras(
        model, images, None, intrinsics, condition_on_intrinsics=True
    )
    assert alignment is None and torch.equal(conditioned.intrinsics, intrinsics)
    again = model(images, normalise_cameras(plain.extrinsics), intrinsics)
    assert torch.equal(conditioned.depth, again.depth)
    narrow = intrinsics * torch.tensor([3.0, 3.0, 1.0])[:, None]
    other, _ = predict_with_cameras(model, images, None, narrow, condition_on_intrinsics=True)
    assert scaled_error(other.depth, conditioned.depth) > 1e-3, "the focal length must matter"


def test_intrinsics_of_one_view_need_one_pass():
    model, images = make_network(TINY), make_images(1, HEIGHT, WIDTH)
    intrinsics = make_cameras(1, HEIGHT, WIDTH)[1]
    mixes = []
    mix_views = model.mix_views
    model.mix_views = lambda *arguments: mixes.append(1) or mix_views(*arguments)
    found, _ = predict_with_cameras(model, images, None, intrinsics, condition_on_intrinsics=True)
    assert len(mixes) == 1
    assert torch.equal(found.depth, model(images, torch.eye(4)[None, None], intrinsics).depth)


def test_nested_network_takes_the_known_focal_length():
    model = NestedDepthAnything3(make_network(SHRUNKEN["base"]), make_network(SHRUNKEN["metric"]))
    images, intrinsics = make_images(2, HEIGHT, WIDTH), make_cameras(2, HEIGHT, WIDTH)[1]
    zoomed = intrinsics * torch.tensor([2.0, 2.0, 1.0])[:, None]
    near, far = (predict_with_cameras(model, images, None, K)[0] for K in (intrinsics, zoomed))
    shown = near.depth.isfinite()
    # Robust weights and limits of depth in metres keep it from being exact.
    assert relative_error(far.depth[shown], 2 * near.depth[shown]) < 0.02


def test_refused_arguments():
    model, images = make_network(TINY), make_images(2, HEIGHT, WIDTH)
    extrinsics, intrinsics = make_cameras(2, HEIGHT, WIDTH)
    with pytest.raises(InputError, match="intrinsics are missing"):
        predict_with_cameras(model, images, extrinsics)
    with pytest.raises(InputError, match="three views or more, not 2: leave as_published out"):
        predict_with_cameras(model, images, extrinsics, intrinsics, as_published=True)
