"""Alignment of known and predicted poses: any number of views, and what the poses leave open."""

import pytest
import torch
from published_package import published

from da3_ros.geometry.align import (
    Similarity,
    align_cameras,
    align_centres,
    align_centres_robustly,
    camera_centres,
    closest_rotation,
)


def rotations(generator, *shape):
    q = torch.linalg.qr(torch.randn(*shape, 3, 3, generator=generator, dtype=torch.float64)).Q
    return q * torch.linalg.det(q)[..., None, None]


def make_poses(centres, seed=0):
    """World-to-camera poses (..., N, 4, 4) with random rotations at ``centres`` (..., N, 3)."""
    centres = torch.as_tensor(centres, dtype=torch.float64)
    R = rotations(torch.Generator().manual_seed(seed), *centres.shape[:-1])
    T = torch.eye(4, dtype=torch.float64).repeat(*centres.shape[:-1], 1, 1)
    T[..., :3, :3] = R
    T[..., :3, 3] = -(R @ centres[..., None])[..., 0]
    return T


def make_similarity(scale=0.37, seed=5, shape=()):
    generator = torch.Generator().manual_seed(seed)
    return Similarity(
        torch.full(shape, scale, dtype=torch.float64),
        rotations(generator, *shape),
        torch.randn(*shape, 3, generator=generator, dtype=torch.float64),
    )


def rotated(T, angles, seed=0):
    """Poses that see from the same places with rotations off by normally distributed ``angles`` (radians) about
    each axis."""
    w = angles * torch.randn(*T.shape[:-2], 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    zero = torch.zeros_like(w[..., 0])
    x, y, z = w.unbind(-1)
    off = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3)).matrix_exp()
    turned = T.clone()
    turned[..., :3, :3] = off @ T[..., :3, :3]
    turned[..., :3, 3] = -(turned[..., :3, :3] @ camera_centres(T)[..., None])[..., 0]
    return turned


def moved(T, offsets):
    """Poses with the same rotations and centres moved by ``offsets`` (..., N, 3)."""
    result = T.clone()
    result[..., :3, 3] -= (T[..., :3, :3] @ offsets[..., None])[..., 0]
    return result


def all_finite(alignment):
    values = (*vars(alignment.similarity).values(), alignment.residual)
    deviations = torch.stack((alignment.scale_stddev, alignment.rotation_stddev))
    return all(value.isfinite().all() for value in values) and not deviations.isnan().any()


@pytest.mark.parametrize(
    "centres",
    [
        [[0, 0, 0], [0.12, 0, 0]],  # a stereo camera
        [[0, 0, 0], [1, 0, 0], [3, 0, 0]],  # along a line
        [[0, 0, 0], [0, 0, 0], [0, 1, 0]],  # two in one place
        [[0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 1, 1], [4, -1, 2]],
        [[5e3, 2e3, 10], [5e3 + 1, 2e3, 10]],  # far from the origin of odometry
    ],
)
@pytest.mark.parametrize("scale", [0.003, 1.0, 40.0])
def test_two_views_and_more_determine_everything(centres, scale):
    a = make_poses(centres)
    truth = make_similarity(scale)
    found = align_cameras(a, truth.cameras(a))
    assert found.scale_determined and found.rotation_determined
    assert found.similarity.scale == pytest.approx(scale, rel=1e-6)
    torch.testing.assert_close(found.similarity.rotation, truth.rotation)
    torch.testing.assert_close(found.similarity.points(camera_centres(a)), truth.points(camera_centres(a)))
    assert found.scale_stddev < 1e-5 and found.rotation_stddev < 1e-7


@pytest.mark.parametrize(
    "centres", [[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]] * 2, [[1.0, 2.0, 3.0]] * 5, [[0.0, 0.0, 0.0]] * 2]
)
def test_without_baseline_only_the_scale_is_open(centres):
    a = make_poses(centres).float()
    truth = make_similarity()
    noise = 0.05 * torch.randn(len(centres), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = moved(truth.cameras(a.double()), noise).float()
    found = align_cameras(a, b)
    assert not found.scale_determined and found.rotation_determined
    assert found.similarity.scale == 1.0 and found.scale_stddev == torch.inf
    assert all_finite(found)
    torch.testing.assert_close(found.similarity.rotation, truth.rotation, atol=1e-5, rtol=0)
    # The cameras still coincide as well as they can.
    mean = (found.similarity.points(camera_centres(a.double())) - camera_centres(b.double())).mean(0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)
    assert align_cameras(a, b, prior_scale=2.5).similarity.scale == 2.5
    assert not align_cameras(a, b, prior_scale=2.5).scale_determined


def test_known_scale_is_taken_and_prior_scale_only_where_it_is_needed():
    a = make_poses([[0.0, 0, 0], [1, 0, 0]])
    b = make_similarity(0.37).cameras(a)
    assert align_cameras(a, b, prior_scale=9.0).similarity.scale == pytest.approx(0.37)
    known = align_cameras(a, b, known_scale=9.0)
    assert known.similarity.scale == 9.0 and known.scale_determined and known.scale_stddev == 0


@pytest.mark.parametrize("predicted", [[[0.0, 0, 0], [-1, 0, 0]], [[0.0, 0, 0], [0.1, 1, 0]], [[0.0, 0, 0], [0, 0, 0]]])
def test_baselines_that_contradict_each_other_give_no_scale(predicted):
    a = make_poses([[0.0, 0, 0], [1, 0, 0]])
    b = make_poses(predicted)
    found = align_cameras(a, b)
    assert not found.scale_determined and found.similarity.scale == 1.0 and all_finite(found)


def test_each_entry_of_a_batch_stands_for_itself():
    a = make_poses([[[0.0, 0, 0], [1, 0, 0]], [[1.0, 1, 1], [1, 1, 1]]])
    truth = make_similarity(2.0, shape=(2,))
    together = align_cameras(a, truth.cameras(a), prior_scale=torch.tensor([3.0, 4.0]))
    assert together.scale_determined.tolist() == [True, False]
    assert together.similarity.scale.tolist() == pytest.approx([2.0, 4.0])
    for i in range(2):
        alone = align_cameras(a[i], truth.cameras(a)[i])
        torch.testing.assert_close(alone.similarity.rotation, together.similarity.rotation[i])


def test_views_without_weight_do_not_count():
    a = make_poses([[0.0, 0, 0], [1, 0, 0], [7, 7, 7]])
    truth = make_similarity(0.5)
    b = truth.cameras(a)
    b[2] = make_poses([[-90.0, 3, 4]], seed=9)[0]
    found = align_cameras(a, b, torch.tensor([1.0, 1.0, 0.0]))
    assert found.similarity.scale == pytest.approx(0.5)
    assert found.residual[:2].max() < 1e-9 and found.residual[2] > 10
    assert all_finite(align_cameras(a, b, torch.zeros(3)))


@pytest.mark.parametrize("views", [2, 3, 8])
def test_deviations_are_those_of_repeated_trials(views):
    trials = 3000
    generator = torch.Generator().manual_seed(views)
    rig = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    a = make_poses(rig.expand(trials, views, 3))
    truth = make_similarity(2.0, shape=(trials,))
    noise = 0.08 * torch.randn(trials, views, 3, generator=generator, dtype=torch.float64)
    found = align_cameras(a, moved(rotated(truth.cameras(a), 0.02), noise))
    error = found.similarity.scale / 2 - 1
    assert found.scale_determined.all()
    assert error.std() == pytest.approx(found.scale_stddev.square().mean().sqrt().item(), rel=0.15)
    off = found.similarity.rotation @ truth.rotation.mT - torch.eye(3, dtype=torch.float64)
    spread = (off.square().sum((-2, -1)).mean() / 6).sqrt().item()
    assert spread == pytest.approx(found.rotation_stddev.square().mean().sqrt().item(), rel=0.1)


def test_closest_rotation_is_the_one_of_the_svd():
    M = torch.randn(500, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (torch.linalg.det(M) < 0).any()
    U, _, Vh = torch.linalg.svd(M)
    flip = torch.ones(500, 3, dtype=torch.float64)
    flip[:, 2] = torch.linalg.det(U @ Vh)
    torch.testing.assert_close(closest_rotation(M), U @ torch.diag_embed(flip) @ Vh, atol=1e-9, rtol=0)
    torch.testing.assert_close(closest_rotation(torch.zeros(3, 3)), torch.eye(3))


def test_centres_on_a_line_leave_a_rotation_open_without_the_cameras_own():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    found = align_centres(a, make_similarity(2.0).points(a.double()))
    assert found.similarity.scale == pytest.approx(2.0) and found.scale_determined
    assert not found.rotation_determined
    assert all_finite(found) and all_finite(align_centres(a[:1], a[:1]))


@pytest.mark.parametrize("views", [3, 4, 9, 10, 12, 31])
@pytest.mark.parametrize("outliers", [0, 2])
def test_centres_align_as_in_the_published_code(views, outliers):
    align_poses_umeyama = published("depth_anything_3.utils.pose_align").align_poses_umeyama
    generator = torch.Generator().manual_seed(views)
    a = make_poses(torch.randn(views, 3, generator=generator))
    b = rotated(make_similarity().cameras(a), 0.05)
    b = moved(b, 0.02 * torch.randn(views, 3, generator=generator, dtype=torch.float64))
    b[:outliers, :3, 3] += 2.0
    robust = views >= 10
    R, t, s = align_poses_umeyama(b.numpy(), a.numpy(), ransac=robust, random_state=42)
    found = (align_centres_robustly if robust else align_centres)(camera_centres(a), camera_centres(b)).similarity
    assert found.scale == pytest.approx(s, rel=1e-9)
    torch.testing.assert_close(found.rotation, torch.from_numpy(R), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.translation, torch.from_numpy(t), atol=1e-9, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_is_not_waited_for():
    a = make_poses(torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0))).cuda()
    b = make_similarity(2.0, shape=(2,)).cameras(a.cpu()).cuda()
    align_cameras(a, b)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = align_cameras(a, b), align_centres(camera_centres(a), camera_centres(b))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(alignment.similarity.scale.allclose(torch.tensor(2.0).double().cuda()) for alignment in found)
