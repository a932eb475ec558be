"""Pictures of Gaussians: measures and camera paths everywhere, drawing itself on a CUDA machine with gsplat."""

import math
import sys
import types

import pytest
import torch

from da3_ros.errors import InputError, UnavailableError
from da3_ros.geometry.gaussian_ply import GaussianCloud
from da3_ros.model.gaussians import FIELDS, world_gaussians
from da3_ros.rendering import cameras_between, find_rasterizer, psnr, render

_DEGREE_0 = math.sqrt(1 / (4 * math.pi))  # value of the constant harmonic


def rotation_about(axis, angle):
    """(3, 3) about "x", "y" or "z"."""
    c, s = math.cos(angle), math.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    R = torch.eye(3)
    R[i, i], R[i, j], R[j, i], R[j, j] = c, -s, s, c
    return R


def pose(R_world_cam, centre):
    """World to camera (3, 4)."""
    centre = torch.tensor(centre)
    return torch.cat([R_world_cam.mT, -(R_world_cam.mT @ centre)[:, None]], dim=1)


def test_psnr():
    target = torch.zeros(3, 3, 4, 5)
    image = target.clone()
    image[0] += 0.1
    image[1, :, :2] = 7.0  # clamped to 1: half of the pixels are wrong by 1
    found = psnr(image, target)
    assert found.tolist() == pytest.approx([20.0, -10 * math.log10(0.5), math.inf], abs=1e-4)
    right_part = torch.zeros(3, 4, 5, dtype=torch.bool)
    right_part[:2, 2:] = True
    masked = psnr(image, target, right_part)
    assert masked[0].item() == pytest.approx(20.0, abs=1e-4) and masked[1] == math.inf and masked[2].isnan()
    with pytest.raises(InputError, match="cannot be compared"):
        psnr(image, target[:1])


def test_cameras_between():
    first, last = rotation_about("y", 0.2), rotation_about("y", 0.2) @ rotation_about("x", 0.9)
    extrinsics = torch.stack([pose(first, [0.0, 0.0, 0.0]), pose(last, [2.0, 1.0, 0.0]), pose(last, [2.0, 1.0, 4.0])])
    K = torch.eye(3).repeat(3, 1, 1)
    K[:, 0, 0] = torch.tensor([100.0, 200.0, 200.0])
    poses, intrinsics = cameras_between(extrinsics, K, 2)
    assert poses.shape == (4, 3, 4) and intrinsics[:, 0, 0].tolist() == pytest.approx([400 / 3, 500 / 3, 200, 200])
    expected = pose(first @ rotation_about("x", 0.3), [2 / 3, 1 / 3, 0.0])
    assert torch.allclose(poses[0], expected, atol=1e-5)
    assert torch.allclose(poses[3], pose(last, [2.0, 1.0, 8 / 3]), atol=1e-5)


def test_without_gsplat(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(UnavailableError, match="pip install gsplat") as error:
        render(plane_cloud(), torch.eye(4)[None], torch.eye(3)[None], (8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cuda", "backend", "message"),
    [
        (False, {"_C": None}, "needs a CUDA device, and torch .* sees none"),
        (True, {"_C": None}, "no CUDA toolkit"),
        (True, {}, "cannot be compiled here"),
    ],
)
def test_where_gsplat_cannot_work(monkeypatch, cuda, backend, message):
    """A stand-in for gsplat; the message is one line and comes before any work."""
    for name, contents in (("gsplat", {"rasterization": None}), ("gsplat.cuda", {}), ("gsplat.cuda._backend", backend)):
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    with pytest.raises(UnavailableError, match=message) as error:
        find_rasterizer()
    assert "\n" not in str(error.value)


def plane_cloud(count=4):
    return GaussianCloud(
        torch.zeros(count, 3), torch.ones(count, 3), torch.eye(4)[:1].repeat(count, 1), torch.zeros(count, 3, 1),
        torch.ones(count),
    )  # fmt: skip


# On the device.

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def gsplat():
    return pytest.importorskip("gsplat", reason="rendering needs gsplat")


def one_gaussian(mean, scales, rotation_wxyz=(1.0, 0.0, 0.0, 0.0), harmonics=None):
    if harmonics is None:
        harmonics = torch.zeros(1, 3, 9)
        harmonics[0, 0, 0] = 0.5 / _DEGREE_0  # pure red
        harmonics[0, 1:, 0] = -0.5 / _DEGREE_0
    parts = (torch.tensor([mean]), torch.tensor([scales]), torch.tensor([rotation_wxyz]), harmonics, torch.ones(1))
    return GaussianCloud(*(part.cuda() for part in parts))


def camera_matrix(focal, size):
    K = torch.tensor([[focal, 0.0, size[1] / 2], [0.0, focal, size[0] / 2], [0.0, 0.0, 1.0]])
    return K[None].cuda()


class TestDrawing:
    pytestmark = gpu

    def test_where_what_colour_how_far(self, gsplat):
        size, K = (60, 80), camera_matrix(100.0, (60, 80))
        drawn = render(one_gaussian([0.1, -0.05, 2.0], [0.02, 0.02, 0.02]), torch.eye(4)[None], K, size)
        weight = drawn.coverage[0] / drawn.coverage[0].sum()
        v, u = torch.meshgrid(torch.arange(60.0).cuda() + 0.5, torch.arange(80.0).cuda() + 0.5, indexing="ij")
        assert (weight * u).sum().item() == pytest.approx(40 + 5, abs=0.05)
        assert (weight * v).sum().item() == pytest.approx(30 - 2.5, abs=0.05)
        peak = drawn.coverage[0].flatten().argmax()
        red, green, blue = drawn.images[0].flatten(1)[:, peak].tolist()
        assert red > 0.8 and max(green, blue) < 0.02
        assert drawn.depth[0].flatten()[peak].item() == pytest.approx(2.0, rel=1e-3)
        assert drawn.depth[0, 0, 0] == 0 and drawn.images[0, :, 0, 0].abs().max() == 0

    def test_background(self, gsplat):
        drawn = render(one_gaussian([0.0, 0.0, 2.0], [0.01] * 3), torch.eye(4)[None], camera_matrix(50.0, (20, 20)),
                       (20, 20), background=(0.25, 0.5, 1.0))  # fmt: skip
        assert drawn.images[0, :, 0, 0].tolist() == pytest.approx([0.25, 0.5, 1.0])

    def test_colour_follows_the_direction(self, gsplat):
        """Our harmonics in gsplat's basis: red grows along world x as the closed form has it."""
        harmonics = torch.zeros(1, 3, 9)
        harmonics[0, 0, 3] = 0.4
        seen = []
        for side in (-1.0, 1.0):
            R = rotation_about("y", side * math.pi / 2)  # looks along side * x
            extrinsics = pose(R, [-2.0 * side, 0.0, 0.0])[None]
            cloud = one_gaussian([0.0, 0.0, 0.0], [0.1] * 3, harmonics=harmonics.clone())
            drawn = render(cloud, extrinsics, camera_matrix(50.0, (20, 20)), (20, 20))
            seen.append((drawn.images[0, 0] / drawn.coverage[0]).flatten()[drawn.coverage[0].flatten().argmax()].item())
        expected = [0.5 - side * 0.4 * math.sqrt(3) * _DEGREE_0 for side in (-1.0, 1.0)]
        assert seen == pytest.approx(expected, abs=1e-3)

    def test_what_the_head_describes_is_what_is_seen(self, gsplat):
        """A textured wall as Gaussians of a turned camera: drawn from there it is the texture, and stays flat."""
        size, focal, distance = (48, 64), 70.0, 2.0
        K = camera_matrix(focal, size)
        extrinsics = pose(rotation_about("y", 0.7) @ rotation_about("z", 0.4), [0.3, -0.2, 0.5])[None].cuda()
        v, u = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
        texture = 0.5 + 0.4 * torch.stack([(u / 9).sin(), (v / 7).cos(), ((u + v) / 11).sin()])
        ray = torch.stack([(u + 0.5 - 32) / focal, (v + 0.5 - 24) / focal, torch.ones_like(u)], -1).norm(dim=-1)
        harmonics = torch.zeros(1, 1, *size, 3, 9)
        harmonics[0, 0, ..., 0] = ((texture - 0.5) / _DEGREE_0).permute(1, 2, 0)
        fields = {"depth_offset": (distance * (ray - 1))[None, None, ..., None],
                  "quaternion": torch.tensor([0.0, 0.0, 0.0, 1.0]), "size": torch.tensor(-1.9),
                  "harmonics": harmonics.flatten(-2)}  # fmt: skip
        parameters = torch.cat(
            [torch.as_tensor(fields.get(name, 0.0)).expand(1, 1, *size, count) for name, count in FIELDS.items()], -1
        ).cuda()
        depth = torch.full((1, 1, *size), distance).cuda()
        found = world_gaussians(parameters, torch.full_like(depth, 0.95), depth, extrinsics[None], K[None])
        drawn = render(GaussianCloud(*found.window(0)), extrinsics, K, size)
        inside = torch.zeros(1, *size, dtype=torch.bool, device="cuda")
        inside[:, 3:-3, 3:-3] = True
        assert psnr(drawn.images, texture[None].cuda(), inside).item() > 25
        assert (drawn.depth[inside] - distance).abs().max() < 0.02

    @pytest.mark.parametrize("published", [False, True])
    def test_long_gaussians_lie_along_the_rows(self, gsplat, published):
        """Long along the camera's x: seen by that camera, turned in the world, they are horizontal. Unless the
        published mix-up turns them away."""
        size, K = (60, 60), camera_matrix(60.0, (60, 60))
        turn = rotation_about("z", 1.0) @ rotation_about("y", 0.6) @ rotation_about("x", -0.8)
        extrinsics = pose(turn, [0.0, 0.0, 0.0])[None].cuda()
        parameters = torch.zeros(1, 1, *size, 37)
        parameters[..., 2:5] = torch.tensor([3.0, -3.0, -3.0])
        parameters[..., 8] = 1.0  # quaternion x, y, z, w of no rotation
        depth = torch.full((1, 1, *size), 2.0).cuda()
        found = world_gaussians(parameters.cuda(), depth / 4, depth, extrinsics[None], K[None], published)
        cloud = GaussianCloud(*found.window(0))
        middle = torch.zeros(60 * 60, dtype=torch.bool, device="cuda")
        middle[30 * 60 + 30] = True
        weight = render(cloud.keep(middle), extrinsics, K, size).coverage[0]
        v, u = torch.meshgrid(torch.arange(60.0).cuda(), torch.arange(60.0).cuda(), indexing="ij")
        spread_u, spread_v = ((weight * (x - 30.5) ** 2).sum() / weight.sum() for x in (u + 0.5, v + 0.5))
        assert (spread_u > 4 * spread_v).item() is not published

    def test_gaussians_must_be_there(self, gsplat):
        with pytest.raises(InputError, match="move them to a CUDA device"):
            render(plane_cloud(), torch.eye(4)[None], torch.eye(3)[None], (8, 8))
