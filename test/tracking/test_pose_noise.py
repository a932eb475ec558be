"""Whether errors grow with motion is learnt from what views are off."""

import pytest
import torch

from da3_ros.tracking.pose_noise import growth_of, learn, unlearnt

CPU = torch.device("cpu")


def learnt(growth, windows=200, views=5, scale=1e-4, counted=lambda motion: torch.ones_like(motion)):
    """Growth that comes out of windows whose views have errors with squares of ``scale`` (1 + ``growth`` m^2)."""
    generator = torch.Generator().manual_seed(0)
    sums = unlearnt(CPU)
    for _ in range(windows):
        motion = torch.rand(views, generator=generator, dtype=torch.float64) * 0.3
        error = torch.randn(views, 3, generator=generator, dtype=torch.float64)
        error *= (scale * (1 + growth * motion) / 3).sqrt()[:, None]
        weight = counted(motion)
        residual = error - (weight[:, None] * error).sum(0) / weight.sum()
        sums = learn(sums, motion, residual.square().sum(-1), weight)
    return float(growth_of(sums))


def test_before_anything_is_known_errors_are_taken_to_grow():
    assert float(growth_of(unlearnt(CPU))) == pytest.approx(25.0)


@pytest.mark.parametrize("scale", [1e-6, 1e-2])
def test_errors_that_are_alike_in_all_views_are_found_to_be_whatever_the_views_counted(scale):
    assert learnt(0.0, scale=scale) < 3.0
    # A mean that follows the near views leaves less of their errors; that must not make far ones look worse.
    assert learnt(0.0, scale=scale, counted=lambda motion: 1 / (1 + 25 * motion)) < 3.0


def test_errors_that_grow_are_found_to():
    assert 10.0 < learnt(30.0) < 90.0
    assert learnt(30.0, scale=1e-2) == pytest.approx(learnt(30.0), rel=1e-6)


def test_windows_that_say_nothing_change_nothing():
    """Rounding; two views, of which each is off by what the other one is; none."""
    motion, ones = torch.tensor([0.0, 0.2, 0.3], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    sums = unlearnt(CPU)
    cases = ((1e-12 * ones, ones), (ones, ones * torch.tensor([1.0, 1, 0])), (ones * torch.nan, 0 * ones))
    for residual, counted in cases:
        assert torch.equal(learn(sums, motion, residual, counted), sums)
    assert torch.equal(learn(sums, motion * torch.nan, ones, ones), sums)


def test_one_view_that_is_far_off_does_not_decide():
    sums = unlearnt(CPU)
    motion = torch.tensor([0.01, 0.02, 0.03, 0.2], dtype=torch.float64)
    for _ in range(50):
        sums = learn(sums, motion, torch.full((4,), 1e-4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    before = float(growth_of(sums))
    wrong = torch.tensor([1e-4, 1e-4, 1e-4, 1e3], dtype=torch.float64)
    assert float(growth_of(learn(sums, motion, wrong, torch.ones(4, dtype=torch.float64)))) < before + 3.0
