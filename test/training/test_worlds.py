"""Training samples: determined by their seeds, geometrically consistent, varied."""

import cv2
import numpy as np
import pytest
import torch

from da3_ros.errors import ConfigError
from da3_ros.training.data import FIRST_TRAINING_SEED
from da3_ros.training.scenes.atlas import make_atlas
from da3_ros.training.worlds import SceneSource
from da3_ros.training.worlds.builder import Builder
from da3_ros.training.worlds.camera_noise import degraded
from da3_ros.training.worlds.draws import Draws, hashed
from da3_ros.training.worlds.image_textures import picture_patterns
from da3_ros.training.worlds.patterns import WORLD_PATTERNS
from da3_ros.training.worlds.samples import intrinsics

H, W = 28, 42


@pytest.fixture(scope="module")
def source():
    return SceneSource("cpu", texture_size=64)


@pytest.fixture(scope="module")
def batch(source):
    return source.sequence(torch.arange(24), 2, 2, (H, W))


def test_a_seed_is_a_sample_whatever_else_is_in_the_batch(source, batch):
    alone = source.sequence(torch.tensor([5]), 2, 2, (H, W))
    for name in ("images", "depth", "sky", "K", "T_cam_world"):
        assert torch.equal(getattr(alone, name)[0], getattr(batch, name)[5]), name
    other = source.sequence(torch.tensor([FIRST_TRAINING_SEED + 5]), 2, 2, (H, W))
    assert not torch.equal(other.depth[0], batch.depth[5])


def test_shapes_and_kinds(batch):
    assert batch.images.shape == (24, 4, 3, H, W) and batch.images.dtype == torch.uint8
    assert batch.depth.shape == batch.valid.shape == batch.sky.shape == (24, 4, H, W)
    assert not (batch.valid & batch.sky).any()
    assert batch.sky.any() and not batch.sky.flatten(1).any(1).all(), "some scenes are outdoors, some are rooms"
    assert (batch.depth[batch.valid] > 0.02).all() and batch.depth[batch.valid].isfinite().all()
    assert batch.valid.flatten(1).float().mean(1).min() > 0.02


def test_depth_of_one_view_predicts_that_of_another(batch):
    v, u = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], -1)
    shares = []
    for i in range(len(batch.depth)):
        for a, b in ((0, 2), (1, 3)):  # the same camera, a step later
            K, T = batch.K[i], batch.T_cam_world[i]
            points = (pixels @ torch.linalg.inv(K[a]).T) * batch.depth[i, a].unsqueeze(-1)
            there = T[b] @ torch.linalg.inv(T[a])
            points = points @ there[:3, :3].T + there[:3, 3]
            x, y = (points @ K[b].T)[..., :2].unbind(-1)
            x, y = (x / points[..., 2]).floor().long(), (y / points[..., 2]).floor().long()
            inside = batch.valid[i, a] & (points[..., 2] > 0.1) & (x >= 0) & (x < W) & (y >= 0) & (y < H)
            if inside.float().mean() > 0.2:
                found = batch.depth[i, b][y[inside], x[inside]]
                shares.append(float(((found / points[..., 2][inside]).log().abs() < 0.1).float().mean()))
    # The rest is what one of the two sees and the other does not, and half a pixel of slanted ground.
    assert len(shares) > 20 and np.median(shares) > 0.9 and np.mean(shares) > 0.85


def test_rig_cameras_keep_their_places_on_the_rig(batch):
    T = batch.T_cam_world.double()
    between = T[:, 1::2] @ torch.linalg.inv(T[:, 0::2])
    # Paths that would leave the room are held at its walls, rig and all.
    torch.testing.assert_close(between[:, 0], between[:, 1], atol=1e-4, rtol=0)


def test_intrinsics_are_counted_from_the_corner():
    K = intrinsics(torch.tensor([np.pi / 2]), (60, 80))[0]
    assert K[0, 2] == 40 and K[1, 2] == 30 and K[0, 0] == pytest.approx(40) and K[1, 1] == K[0, 0]
    upright = intrinsics(torch.tensor([np.pi / 2]), (80, 60))[0]
    assert upright[1, 1] == pytest.approx(40), "the field of view is that of the longer side"


def test_fields_of_view_and_motions_vary(batch):
    fov = torch.rad2deg(2 * (W / 2 / batch.K[:, 0, 0, 0]).atan())
    assert fov.min() >= 39.9 and fov.max() <= 100.1 and fov.max() - fov.min() > 30
    T = torch.linalg.inv(batch.T_cam_world)
    step = (T[:, 2, :3, 3] - T[:, 0, :3, 3]).norm(dim=-1)
    assert step.max() > 5 * step.median() > 0, "some turn in place, some drive"


def test_numbers_of_a_seed_are_even_and_its_own():
    numbers = hashed(torch.arange(2000), 50)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(numbers.std() - 12**-0.5) < 0.01
    assert torch.corrcoef(numbers.T).fill_diagonal_(0).abs().max() < 0.12
    assert len(numbers.unique()) > 0.98 * numbers.numel() * (1 - numbers.numel() / 2**25)


def test_pictures_are_degraded_differently_but_stay_recognisable():
    v, u = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 48), indexing="ij")
    clean = torch.stack([u, v, 0.5 * u + 0.5 * v]).clamp(0.05, 0.95) * 0.6
    pictures = degraded(clean.expand(32, 2, 3, 40, 48), torch.arange(32), compiled=False).float()
    assert pictures.std(0).mean() > 8, "samples differ"
    same_rig = (pictures[:, 0] - pictures[:, 1]).abs().mean((1, 2, 3))
    assert same_rig.median() < 12, "views of one sample are alike"
    for picture in pictures[:, 0]:
        seen = np.corrcoef(picture.mean(0).flatten(), clean.mean(0).flatten())[0, 1]
        assert seen > 0.8


@pytest.mark.gpu
def test_the_gpu_shows_what_the_cpu_shows(batch, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)  # as the trainer sets it
    on_gpu = SceneSource("cuda", compiled=False, texture_size=64).sequence(torch.arange(24), 2, 2, (H, W)).to("cpu")
    torch.testing.assert_close(on_gpu.T_cam_world, batch.T_cam_world, atol=2e-5, rtol=1e-5)
    # The kernel adds in another order: where two surfaces meet, the other one may win.
    differs = (on_gpu.depth / batch.depth - 1).abs() > 1e-3
    assert differs.float().mean() < 5e-3 and (on_gpu.sky != batch.sky).float().mean() < 5e-3
    assert (on_gpu.images.float() - batch.images.float()).abs().mean() < 2.0


@pytest.fixture
def folder(tmp_path):
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 2] = 255  # OpenCV's order
    cv2.imwrite(str(tmp_path / "red.png"), red)
    ramp = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None], (1, 48, 3))
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp)
    return tmp_path


def test_pictures_are_on_a_quarter_of_the_surfaces_that_have_a_choice(folder):
    atlas = make_atlas(torch.Generator().manual_seed(0), 32, 4, {**WORLD_PATTERNS, **picture_patterns(str(folder))})
    drawn = make_atlas(torch.Generator().manual_seed(0), 32, 4, WORLD_PATTERNS)
    n = len(WORLD_PATTERNS) * 4 * 32 * 32
    assert torch.equal(atlas.texels[:n], drawn.texels[:n]), "drawn patterns stay as they are"
    red = atlas.texels[atlas.texture("picture: red.png") * 32 * 32 :][: 4 * 32 * 32]
    assert torch.allclose(red, torch.tensor([1.0, 0.0, 0.0]), atol=1e-3)
    ramp = atlas.texels[atlas.texture("picture: ramp.png") * 32 * 32 :][: 32 * 32].view(32, 32, 3)
    assert ramp[0].mean() > ramp[-1].mean() + 0.2, "row 0 is the lower edge, where this picture is bright"

    builder = Builder(Draws(torch.arange(200), 2000), atlas)
    share = (builder.surface(("plain", "metal"), 20, (0.5, 1.0)).texture >= len(WORLD_PATTERNS) * 4).float().mean()
    assert 0.22 < share < 0.28
    assert (builder.surface(("plain",), 20, (0.5, 1.0)).texture < len(WORLD_PATTERNS) * 4).all(), "lamps, windows"


def test_scenes_with_pictures_look_otherwise(folder, batch):
    source = SceneSource("cpu", texture_size=64, textures=str(folder))
    some = source.sequence(torch.arange(6), 2, 2, (H, W))
    assert not torch.equal(some.images, batch.images[:6])
    red, green = some.images[:, :, 0].int(), some.images[:, :, 1].int()
    before = (batch.images[:6, :, 0].int() > 3 * batch.images[:6, :, 1].int() + 40).float().mean()
    assert (red > 3 * green + 40).float().mean() > before + 0.005
    again = source.sequence(torch.tensor([4]), 2, 2, (H, W))
    assert torch.equal(again.images[0], some.images[4])


@pytest.mark.parametrize(
    "name, said",
    [("nowhere", "or a folder with pictures"), ("empty", "or a folder with pictures"), ("bad", "is no picture")],
)
def test_pictures_that_are_none(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.png").write_text("not a picture")
    with pytest.raises(ConfigError, match=said):
        SceneSource("cpu", texture_size=32, textures=str(tmp_path / name))


def test_scikit_image_is_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install scikit-image"):
        picture_patterns("scikit-image")


@pytest.mark.optional("skimage")
def test_the_pictures_of_scikit_image():
    patterns = picture_patterns("scikit-image")
    assert len(patterns) == 16
    for name, pattern in patterns.items():
        squares = pattern(2, 64, torch.Generator().manual_seed(1))
        assert squares.shape == (2, 64, 64, 3) and squares.min() >= 0 and squares.max() <= 1, name
        assert not torch.equal(squares[0], squares[1]), name


def test_scenes_are_exact_where_matrix_products_are_not(source, batch, monkeypatch):
    class Coarse(torch.utils._python_dispatch.TorchDispatchMode):
        """Matrix products of float32 as with TF32: of inputs with 11 bits."""

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if function in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default):
                arguments = tuple(a.half().float() if a.dtype == torch.float32 else a for a in arguments)
            return function(*arguments, **(named or {}))

    # The camera's noise is not looked at: JPEG's cosines may be coarse.
    monkeypatch.setattr("da3_ros.training.worlds.samples.degraded", lambda colour, *_: colour)
    exact = source.sequence(torch.arange(6), 2, 2, (H, W))
    with Coarse():
        coarse = source.sequence(torch.arange(6), 2, 2, (H, W))
    for name in ("images", "depth", "K", "T_cam_world"):
        assert torch.equal(getattr(coarse, name), getattr(exact, name)), name
