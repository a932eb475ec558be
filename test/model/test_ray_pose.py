"""Cameras from ray maps: exact on exact rays, robust, repeatable, and equal to the reference where it is right."""

import pytest
import torch
from model_helpers import TINY, make_images, make_network, scaled_error

from da3_ros.model.camera import invert_pose
from da3_ros.model.ray_pose import cameras_from_rays, make_ray_tables

HEIGHT, WIDTH = 42, 56
RAY_H, RAY_W = 24, 32


def make_rays(principal=(0.0, 0.0), noise=0.0, outliers=0.0, views=4, seed=0):
    """Ray maps (1, V, h, w, 6), confidences (1, V, h, w) and true cameras T (1, V, 3, 4), K (1, V, 3, 3)."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]             # camera to world
    centre = torch.randn(views, 3, generator=generator)
    half = torch.tensor([WIDTH / 2, HEIGHT / 2, 1.0])
    k = torch.eye(3).repeat(views, 1, 1)                                        # for an image that spans [-1, 1]
    k[:, 0, 0], k[:, 1, 1] = 0.8 + torch.rand(2, views, generator=generator)
    k[:, :2, 2] = torch.tensor(principal)
    points = make_ray_tables(RAY_H, RAY_W, torch.device("cpu")).points
    directions = points @ (rotation @ torch.linalg.inv(k)).mT                   # (V, n, 3)
    directions = directions + noise * torch.randn(directions.shape, generator=generator)
    confidence = 2 + torch.rand(directions.shape[:2], generator=generator)
    wrong = torch.rand(confidence.shape, generator=generator) < outliers
    directions = torch.where(wrong[..., None], torch.randn(directions.shape, generator=generator), directions)
    ray = torch.cat([directions, centre[:, None].expand_as(directions)], dim=-1)
    pixels = half[:, None] * k
    pixels[:, :2, 2] += half[:2]
    shape = (1, views, RAY_H, RAY_W)
    extrinsics = invert_pose(torch.cat([rotation, centre[..., None]], dim=-1))
    return ray.view(*shape, 6), confidence.view(shape), extrinsics[None], pixels[None]


def solve(ray, confidence, **kwargs):
    tables = make_ray_tables(*ray.shape[2:4], ray.device)
    return cameras_from_rays(ray, confidence, (HEIGHT, WIDTH), tables, **kwargs)


@pytest.mark.parametrize("principal", [(0.0, 0.0), (0.2, -0.15), (-0.4, 0.5)])
def test_exact_rays_give_exact_cameras(principal):
    ray, confidence, extrinsics, intrinsics = make_rays(principal)
    ours = solve(ray, confidence)
    assert scaled_error(ours[0], extrinsics) < 1e-4
    assert scaled_error(ours[1], intrinsics) < 1e-4


def test_published_factorisation_needs_a_centred_principal_point():
    ray, confidence, extrinsics, _ = make_rays()
    assert scaled_error(solve(ray, confidence, published_factorisation=True)[0], extrinsics) < 1e-4
    ray, confidence, extrinsics, _ = make_rays((0.2, -0.15))
    published = solve(ray, confidence, published_factorisation=True)[0]
    assert scaled_error(published, extrinsics) > 0.1


def test_noise_and_outliers():
    ray, confidence, extrinsics, intrinsics = make_rays((0.1, 0.1), noise=0.01, outliers=0.3)
    ours = solve(ray, confidence)
    assert scaled_error(ours[0][..., :3], extrinsics[..., :3]) < 0.03
    assert scaled_error(ours[1], intrinsics) < 0.03


def test_scale_of_directions_does_not_matter():
    ray, confidence, extrinsics, _ = make_rays((0.1, 0.0))
    ray = torch.cat([ray[..., :3] * (0.5 + torch.rand(*ray.shape[:-1], 1)), ray[..., 3:]], dim=-1)
    assert scaled_error(solve(ray, confidence)[0], extrinsics) < 1e-4


def test_repeatable_and_batched():
    ray, confidence, _, _ = make_rays(noise=0.05, outliers=0.2, views=4)
    together = solve(ray, confidence)
    assert torch.equal(together[0], solve(ray, confidence)[0])
    windows = solve(ray.view(2, 2, RAY_H, RAY_W, 6), confidence.view(2, 2, RAY_H, RAY_W))
    assert windows[0].shape == (2, 2, 3, 4)
    assert scaled_error(windows[0].flatten(0, 1), together[0][0]) < 1e-5


def test_flat_directions_are_left_out():
    """Rays in the plane z = 0 have no point on the plane z = 1, and do not vote for the camera centre either."""
    ray, confidence, extrinsics, _ = make_rays()
    flat = torch.rand(ray.shape[:-1], generator=torch.Generator().manual_seed(1)) < 0.1
    ray[..., 2] = torch.where(flat, torch.zeros(()), ray[..., 2])
    ray[..., 3:] = torch.where(flat[..., None], torch.full((), 1e3), ray[..., 3:])
    assert scaled_error(solve(ray, confidence)[0], extrinsics) < 1e-4


@pytest.mark.parametrize("noise, outliers", [(0.002, 0.0), (0.02, 0.0), (0.02, 0.3)])
@pytest.mark.parametrize("principal", [(0.0, 0.0), (0.2, -0.15)])
def test_equals_the_reference_for_the_same_samples(monkeypatch, principal, noise, outliers):
    utils = pytest.importorskip("depth_anything_3.utils.ray_utils", reason="parity needs depth-anything-3")
    ray, confidence, _, _ = make_rays(principal, noise, outliers)
    torch.manual_seed(0)
    drawn = utils.get_params_for_ransac(RAY_H * RAY_W, ray.device)
    monkeypatch.setattr(utils, "get_params_for_ransac", lambda *args, **kwargs: drawn)
    poses, focal, principal_point = utils.get_extrinsic_from_camray(ray, confidence.clone(), RAY_H, RAY_W)

    tables = make_ray_tables(RAY_H, RAY_W, ray.device)._replace(samples=drawn[-1])
    extrinsics, intrinsics = cameras_from_rays(
        ray, confidence, (HEIGHT, WIDTH), tables, published_factorisation=True
    )
    half = torch.tensor([WIDTH / 2, HEIGHT / 2])
    assert scaled_error(extrinsics, invert_pose(poses[..., :3, :])) < 1e-4
    assert scaled_error(intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2], focal * half) < 1e-4
    assert scaled_error(intrinsics[..., :2, 2], principal_point * half) < 1e-4


def test_forward():
    """The network's option returns the cameras of its own ray maps, and keeps the maps to itself."""
    model, images = make_network(TINY), make_images(3, HEIGHT, WIDTH)
    full = model(images, return_ray=True)
    posed = model(images, use_ray_pose=True)
    tables = make_ray_tables(*full.ray.shape[2:4], images.device)
    extrinsics, intrinsics = cameras_from_rays(full.ray, full.ray_conf, (HEIGHT, WIDTH), tables)
    assert torch.equal(posed.extrinsics, extrinsics) and torch.equal(posed.intrinsics, intrinsics)
    assert torch.equal(posed.depth, full.depth) and posed.ray is None
    assert not torch.equal(posed.extrinsics, full.extrinsics)
    published = model(images, use_ray_pose=True, as_published=True)
    lower = cameras_from_rays(full.ray, full.ray_conf, (HEIGHT, WIDTH), tables, published_factorisation=True)
    assert torch.equal(published.extrinsics, lower[0]) and not torch.equal(lower[0], posed.extrinsics)
