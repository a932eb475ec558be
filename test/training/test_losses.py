"""Every term of the objective against a case worked out by hand, and the targets that it compares with."""

import math

import pytest
import torch
from training_helpers import walls

from da3_ros.training.batch import SceneBatch
from da3_ros.training.losses import (
    Answer,
    LossWeights,
    camera_loss,
    depth_loss,
    gradient_loss,
    objective,
    point_loss,
    ray_loss,
    relative_loss,
)
from da3_ros.training.targets import Targets, at_rays, make_targets, ray_map


def scene(depth=2.0, views=1, size=(28, 28), K=None, T_cam_world=None):
    """A fronto-parallel wall; focal length 14 pixels, principal point at the centre."""
    height, width = size
    if K is None:
        K = torch.tensor([[14.0, 0, width / 2], [0, 14.0, height / 2], [0, 0, 1]])
    T = torch.eye(4) if T_cam_world is None else T_cam_world
    known = torch.ones(1, views, height, width, dtype=torch.bool)
    return SceneBatch(
        torch.zeros(1, views, 3, height, width), torch.full(known.shape, depth), known, ~known,
        K.expand(1, views, 3, 3), T.expand(1, views, 4, 4),
    )  # fmt: skip


def perfect(targets, conf=1.5):
    """The answer that is exactly right."""
    centre, quaternion, fov = targets.camera.split((3, 4, 2), dim=-1)
    depth = torch.where(targets.valid, targets.depth, 3.0)
    one = torch.ones_like
    return Answer(depth, conf * one(depth), targets.ray, conf * one(targets.ray[..., 0]), centre, quaternion, fov)


def change(answer, **fields):
    return Answer(**{**vars(answer), **fields})


def no_targets(shape=(1, 1, 14, 14)):
    """Nothing to see: depth 1 everywhere, not valid."""
    batch = scene(1.0, size=shape[-2:])
    targets = make_targets(batch, torch.zeros(1, dtype=torch.int64))
    return Targets(**{**vars(targets), "valid": torch.zeros_like(targets.valid)})


def test_confident_depth():
    """Two known pixels, errors 0.5 and 0.25, confidences e and 2: (e 0.5 - 0.2 + 2 0.25 - 0.2 ln 2) / 2."""
    targets = no_targets()
    targets.valid[0, 0, 0, :2] = True
    depth, conf = targets.depth.clone(), torch.full(targets.depth.shape, 1.5)
    depth[0, 0, 0, 0] += 0.5
    depth[0, 0, 0, 1] -= 0.25
    depth[0, 0, 5, 5] = 99.0                # not known: does not count
    conf[0, 0, 0, :2] = torch.tensor([math.e, 2.0])
    loss = depth_loss(depth, targets.depth, conf, targets, 0.2)
    assert loss.item() == pytest.approx((math.e * 0.5 - 0.2 + 2 * 0.25 - 0.2 * math.log(2)) / 2)


def test_confidence_is_best_at_lambda_over_error():
    targets = no_targets()
    targets.valid[...] = True
    conf = torch.full(targets.depth.shape, 4.0, requires_grad=True)
    (slope,) = torch.autograd.grad(depth_loss(targets.depth + 0.05, targets.depth, conf, targets, 0.2), conf)
    assert slope.abs().max() < 1e-6         # 0.2 / 0.05 = 4


def test_sky_teaches_confidence_alone():
    targets = no_targets()
    targets.sky[0, 0, :7] = True
    depth = torch.full(targets.depth.shape, 5.0, requires_grad=True)
    conf = torch.full(targets.depth.shape, 2.0, requires_grad=True)
    loss = depth_loss(depth, targets.depth, conf, targets, 0.2)
    assert loss.item() == pytest.approx(2.0 - 0.2 * math.log(2))
    of_depth, of_conf = torch.autograd.grad(loss, (depth, conf))
    assert of_depth.abs().max() == 0
    assert (of_conf[targets.sky] > 0).all() and of_conf[~targets.sky].abs().max() == 0


def test_rays():
    """All six numbers off by 0.3 on half of the map: mean over all of 1.5 * error - 0.2 ln 1.5."""
    targets = no_targets()
    ray = targets.ray.clone()
    ray[0, 0, :4] += 0.3
    loss = ray_loss(change(perfect(targets), ray=ray), targets, 0.2)
    assert loss.item() == pytest.approx(1.5 * 0.15 - 0.2 * math.log(1.5), abs=1e-6)


def test_points():
    """The wall 0.5 units too far: z off by 0.5, x and y by 0.5 times the slope of the ray; the origin 0.1 too high."""
    targets = make_targets(scene(), torch.zeros(1, dtype=torch.int64))
    found = change(perfect(targets), depth=targets.depth + 0.5)
    slope = (torch.arange(16) + 0.5) * 1.75 / 14 - 1            # of the 16 cells of a row or column, f = 14, c = 14
    expected = (0.5 + 2 * 0.5 * slope.abs().mean()) / 3
    assert point_loss(found, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    ray = targets.ray + torch.tensor([0, 0, 0, 0, 0.1, 0])
    assert point_loss(change(perfect(targets), ray=ray), targets).item() == pytest.approx(0.1 / 3, rel=1e-4)


def test_camera():
    targets = no_targets()
    answer = perfect(targets)
    assert torch.allclose(answer.quat_xyzw[0, 0], torch.tensor([0.0, 0, 0, 1]))
    off = change(
        answer,
        centre=answer.centre + torch.tensor([0.3, 0, 0]),       # 0.1
        quat_xyzw=torch.tensor([[[0.0, 0.2, 0, 1.0]]]),         # 0.05
        fov=answer.fov + torch.tensor([0.1, -0.3]),             # 0.2
    )
    assert camera_loss(off, targets).item() == pytest.approx(0.35, abs=1e-6)
    assert camera_loss(change(answer, quat_xyzw=-answer.quat_xyzw), targets).item() == pytest.approx(0, abs=1e-6)


def test_gradient():
    """depth = x against a flat wall: the slopes along x are off by the distance of the pixels, 1, 2, 4, 8."""
    wanted = torch.ones(1, 1, 32, 32)
    ramp = wanted + torch.arange(32.0)
    known = torch.ones_like(wanted, dtype=torch.bool)
    assert gradient_loss(ramp, wanted, known).item() == pytest.approx((1 + 2 + 4 + 8) / 4)
    assert gradient_loss(ramp.mT, wanted, known).item() == pytest.approx((1 + 2 + 4 + 8) / 4)
    assert gradient_loss(wanted + 7, wanted, known).item() == 0
    known[..., 16] = False                  # an unknown column is on neither end of a difference
    jump = wanted.clone()
    jump[..., 16] = 50.0
    assert gradient_loss(jump, wanted, known).item() == 0


def test_the_right_answer_costs_nothing_but_confidence():
    batch = walls(torch.tensor([3, 4]), 3, (56, 84))
    targets = make_targets(batch, torch.tensor([0, 2]))
    terms = objective(perfect(targets), targets, LossWeights(confidence=0.0))
    assert all(value.item() == pytest.approx(0, abs=1e-6) for value in terms.values())


def test_weights_of_terms():
    targets = make_targets(scene(), torch.zeros(1, dtype=torch.int64))
    off = change(perfect(targets), depth=targets.depth * 1.1)
    one, double = objective(off, targets, LossWeights()), objective(off, targets, LossWeights(gradient=0, depth=2))
    assert double["loss"].item() == pytest.approx((one["loss"] + one["depth"] - one["gradient"]).item(), rel=1e-5)


def test_logarithms_of_depth():
    """Depth 10 % too far everywhere costs ln 1.1 near and far; the gradient of a constant factor costs nothing."""
    targets = make_targets(walls(torch.tensor([1, 2]), 1, (28, 28)), torch.tensor([0, 0]))
    off = change(perfect(targets, conf=1.0), depth=targets.depth * 1.1)
    terms = objective(off, targets, LossWeights(log_depth=True))
    assert terms["depth"].item() == pytest.approx(math.log(1.1), rel=1e-5)
    assert terms["gradient"].item() == pytest.approx(0, abs=1e-6)


def test_unit_is_the_mean_distance_of_points():
    """A wall at 2 m: depth 2 / unit, whatever the frame of the world and the metres."""
    targets = make_targets(scene(2.0), torch.zeros(1, dtype=torch.int64))
    slope = (torch.arange(16) + 0.5) * 1.75 / 14 - 1
    distance = 2 * (slope[:, None] ** 2 + slope[None] ** 2 + 1).sqrt()
    assert targets.unit.item() == pytest.approx(distance.mean().item(), rel=1e-5)
    assert torch.allclose(targets.depth, 2 / targets.unit.view(1, 1, 1, 1))
    far = make_targets(scene(200.0), torch.zeros(1, dtype=torch.int64))
    assert torch.allclose(far.depth, targets.depth, rtol=1e-5)


def test_world_is_the_reference_view():
    """Cameras 0.3 m apart on a line: seen from view 1 the first is 0.3 to the left, in units of the sample."""
    batch = walls(torch.tensor([5]), 3, (28, 42))
    targets = make_targets(batch, torch.tensor([1]))
    centre = targets.camera[0, :, :3] * targets.unit
    assert torch.allclose(centre, torch.tensor([[-0.3, 0, 0], [0, 0, 0], [0.3, 0, 0]]), atol=1e-6)
    moved = torch.eye(4)                    # another world: the same targets
    moved[:3, :3] = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    moved[:3, 3] = torch.tensor([10.0, -4, 3])
    elsewhere = SceneBatch(**{**vars(batch), "T_cam_world": batch.T_cam_world @ moved})
    again = make_targets(elsewhere, torch.tensor([1]))
    assert torch.allclose(again.camera, targets.camera, atol=1e-5) and torch.allclose(again.ray, targets.ray, atol=1e-5)


def test_ray_map_is_that_of_the_ray_pose_solver():
    """Our ray maps give back their cameras through the package's own solver."""
    from da3_ros.model.ray_pose import cameras_from_rays, make_ray_tables

    K = torch.tensor([[[[50.0, 0, 42], [0, 45.0, 28], [0, 0, 1]]]])
    angle = torch.tensor(0.4)
    T_world_cam = torch.eye(4)[:3].clone()
    T_world_cam[0, 0], T_world_cam[0, 2], T_world_cam[2, 0], T_world_cam[2, 2] = (
        angle.cos(), angle.sin(), -angle.sin(), angle.cos(),
    )  # fmt: skip
    T_world_cam[:, 3] = torch.tensor([0.5, -0.2, 0.1])
    rays = ray_map(K, T_world_cam[None, None], (56, 84))
    tables = make_ray_tables(32, 48, rays.device)
    extrinsics, found = cameras_from_rays(rays, torch.ones_like(rays[..., 0]), (56, 84), tables)
    assert torch.allclose(found, K, atol=1e-2)
    assert torch.allclose(extrinsics[0, 0, :, :3].T, T_world_cam[:, :3], atol=1e-4)
    assert torch.allclose(-extrinsics[0, 0, :, :3].T @ extrinsics[0, 0, :, 3], T_world_cam[:, 3], atol=1e-4)


def test_pixels_under_the_rays():
    rows = torch.arange(28.0)[:, None].expand(28, 14)
    found = at_rays(rows)
    assert found.shape == (16, 8)
    assert found[:, 0].tolist() == [math.floor((i + 0.5) * 14 / 8) for i in range(16)]


def test_ways_count_relative_to_their_length():
    """Ways of 0.09 and 0.99, off by 0.05 each, from there and back: half of ln(1 + 0.05 / 0.1) + ln(1 + 0.05 / 1)."""
    wanted = torch.tensor([[[0.0, 0, 0], [0.09, 0, 0]], [[0.0, 0, 0], [0, 0.99, 0]]])
    found = wanted + torch.tensor([[[0.0, 0, 0], [0, 0, 0.05]], [[0.0, 0, 0], [0, 0.05, 0]]])
    assert relative_loss(found, wanted).item() == pytest.approx((math.log(1.5) + math.log(1.05)) / 2, rel=1e-3)
    assert relative_loss(wanted + 5.0, wanted).item() < 1e-2


def test_ways_are_part_of_the_objective():
    targets = make_targets(scene(views=2), torch.zeros(1, dtype=torch.int64)).flat()
    off = change(perfect(targets), centre=targets.camera[..., :3] + torch.tensor([[0.0], [0.3]]))
    plain, more = (objective(off, targets, LossWeights(relative=weight), 2) for weight in (0.0, 2.0))
    in_one_place = math.log1p(0.3 * 3**0.5 / 0.01)
    assert more["relative"].item() == pytest.approx(in_one_place, rel=1e-4)
    assert more["loss"].item() == pytest.approx(plain["loss"].item() + 2 * more["relative"].item(), rel=1e-4)
