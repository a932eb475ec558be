"""Gaussians in the PLY layout of 3D Gaussian Splatting: what viewers expect, round trips, pruning, bad files."""

import numpy as np
import pytest
import torch

from da3_ros.errors import InputError
from da3_ros.geometry.gaussian_ply import GaussianCloud, prune_mask, read_gaussian_ply, write_gaussian_ply


def make_cloud(count=50, coefficients=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return GaussianCloud(
        means=torch.randn(count, 3, generator=generator),
        scales=torch.rand(count, 3, generator=generator) + 0.01,
        rotations=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        harmonics=torch.randn(count, 3, coefficients, generator=generator),
        opacities=torch.rand(count, generator=generator),
    )


def assert_close(found, expected):
    for part in ("means", "scales", "rotations", "harmonics", "opacities"):
        assert torch.allclose(getattr(found, part), getattr(expected, part), rtol=1e-5, atol=1e-6), part


def rows(path):
    """Names and values, by a reading of the format that shares nothing with the package."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", f"element vertex {len(body) // 4 // len(names)}"]
    return dict(zip(names, np.frombuffer(body, "<f4").reshape(-1, len(names)).T, strict=True))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_round_trip(tmp_path, degree):
    cloud = make_cloud().to_degree(degree)
    assert write_gaussian_ply(tmp_path / "scene.ply", cloud) == 50
    found = read_gaussian_ply(tmp_path / "scene.ply")
    assert found.degree == degree
    assert_close(found, cloud)


def test_what_viewers_expect(tmp_path):
    """Order of the properties; opacity a logit, scale a logarithm, rotation w first; f_rest colour by colour."""
    cloud = make_cloud()
    write_gaussian_ply(tmp_path / "scene.ply", cloud)
    table = rows(tmp_path / "scene.ply")
    assert list(table) == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"), *(f"f_rest_{i}" for i in range(24)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]  # fmt: skip
    assert np.allclose(1 / (1 + np.exp(-table["opacity"])), cloud.opacities, atol=1e-6)
    assert np.allclose(np.exp(table["scale_1"]), cloud.scales[:, 1], rtol=1e-5)
    assert np.allclose(table["rot_0"], cloud.rotations[:, 0]) and np.allclose(table["y"], cloud.means[:, 1])
    assert np.allclose(table["f_dc_2"], cloud.harmonics[:, 2, 0]) and not table["nx"].any()
    assert np.allclose(table["f_rest_0"], cloud.harmonics[:, 0, 1])
    assert np.allclose(table["f_rest_8"], cloud.harmonics[:, 1, 1])  # 8 of red come first
    assert np.allclose(table["f_rest_23"], cloud.harmonics[:, 2, 8])


def test_only_what_can_be_drawn_is_written(tmp_path):
    cloud = make_cloud(6)
    cloud.scales[1] *= -1
    cloud.means[2, 1] = torch.nan
    cloud.harmonics[3, 0, 4] = torch.inf
    cloud.opacities[4], cloud.opacities[5] = 1.0, 0.0
    assert cloud.valid().tolist() == [True, False, False, False, True, True]
    assert write_gaussian_ply(tmp_path / "scene.ply", cloud) == 3
    found = read_gaussian_ply(tmp_path / "scene.ply")
    assert_close(found, cloud.keep(cloud.valid()))
    assert all(np.isfinite(column).all() for column in rows(tmp_path / "scene.ply").values())
    with pytest.raises(InputError, match="no Gaussian is left"):
        write_gaussian_ply(tmp_path / "scene.ply", cloud.keep(torch.zeros(6, dtype=torch.bool)))


def test_files_of_other_tools(tmp_path):
    """Doubles, another order, comments, more properties; no normals."""
    names = ["opacity", "x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1",
             "rot_2", "rot_3", "quality"]  # fmt: skip
    lines = "".join(f"property {'uchar' if name == 'quality' else 'double'} {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\ncomment by hand\nelement vertex 2\n{lines}end_header\n"
    table = np.zeros(2, [(name, "u1" if name == "quality" else "<f8") for name in names])
    table["x"], table["scale_2"], table["rot_3"] = 3.0, np.log(2.0), 1.0
    (tmp_path / "other.ply").write_bytes(header.encode() + table.tobytes())
    found = read_gaussian_ply(tmp_path / "other.ply")
    assert found.degree == 0 and found.means[1].tolist() == [3, 0, 0]
    assert torch.allclose(found.scales[0], torch.tensor([1.0, 1.0, 2.0])) and found.opacities.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-10], r"is cut short: 50 Gaussians need \d+ bytes, not \d+"),
        (lambda content: b"PK" + content, "is no PLY file: its header is missing"),
        (lambda content: content.replace(b"binary_little_endian", b"ascii"), "binary little-endian vertices"),
        (lambda content: content.replace(b"property float rot_2\n", b""), "lacks the property rot_2"),
        (lambda content: content.replace(b"property float f_rest_3\n", b""), "has 23 properties f_rest"),
        (lambda content: content.replace(b"float opacity", b"quad opacity"), "unknown type quad"),
    ],
)
def test_damaged_files(tmp_path, damage, message):
    path = tmp_path / "scene.ply"
    write_gaussian_ply(path, make_cloud())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as error:
        read_gaussian_ply(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_places(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_gaussian_ply(tmp_path / "absent.ply")
    with pytest.raises(InputError, match="cannot be written"):
        write_gaussian_ply(tmp_path / "absent" / "scene.ply", make_cloud())


def test_pruning():
    depth = torch.arange(2 * 32 * 64, dtype=torch.float32).reshape(2, 32, 64)
    assert prune_mask(depth).all()
    border = prune_mask(depth, border=8 / 256)
    assert border.sum() == 2 * 30 * 60 and not border[:, 0].any() and not border[:, :, 1].any() and border[0, 1, 2]
    nearest = prune_mask(depth, depth_quantile=0.9)
    for view in range(2):
        assert torch.equal(nearest[view], depth[view] <= torch.quantile(depth[view], 0.9))
    assert torch.equal(prune_mask(depth, 8 / 256, 0.9), border & nearest)
    for border_share, quantile in ((0.5, 1.0), (-0.1, 1.0), (0.0, 0.0), (0.0, 1.1)):
        with pytest.raises(InputError, match="must be in"):
            prune_mask(depth, border_share, quantile)


def test_degree_out_of_range():
    with pytest.raises(InputError, match="degree 3 were asked for, but these have degree 2"):
        make_cloud().to_degree(3)
