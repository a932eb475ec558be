"""Teacher depth onto measured depth: planted scale and shift among outliers."""

import pytest
import torch

from da3_ros.training.alignment import fit_depth


def planted(outliers, views=6, points=400, noise=0.0):
    """Teacher depths, measurements of some of their pixels, and the scale and shift between them."""
    generator = torch.Generator().manual_seed(3)
    teacher = 0.3 + 2 * torch.rand(views, 40, 50, generator=generator)
    scale = 0.5 + 4 * torch.rand(views, generator=generator)
    shift = 0.5 * torch.rand(views, generator=generator) - 0.1
    measured = scale[:, None, None] * teacher + shift[:, None, None]
    measured = measured * (1 + noise * torch.randn(measured.shape, generator=generator))
    rank = torch.rand(views, 2000, generator=generator).argsort(1).argsort(1).view(views, 40, 50)
    known = rank < points
    wrong = rank < outliers * points
    measured = torch.where(wrong, 0.2 + 12 * torch.rand(measured.shape, generator=generator), measured)
    return teacher, torch.where(known, measured, torch.nan).nan_to_num(-1.0), known, scale, shift


@pytest.mark.parametrize("outliers", [0.0, 0.4, 0.6])
def test_planted_scale_and_shift(outliers):
    teacher, measured, known, scale, shift = planted(outliers)
    fit = fit_depth(teacher, measured, known, torch.Generator().manual_seed(0))
    assert fit.trusted.all()
    assert torch.allclose(fit.scale, scale, rtol=0.01) and torch.allclose(fit.shift, shift, atol=0.02)
    assert ((fit.inliers - (1 - outliers)).abs() < 0.1).all()
    assert torch.allclose(fit.apply(teacher), scale[:, None, None] * teacher + shift[:, None, None], rtol=0.02)


def test_noise_and_outliers():
    teacher, measured, known, scale, _ = planted(0.4, noise=0.01)
    fit = fit_depth(teacher, measured, known, torch.Generator().manual_seed(0))
    assert torch.allclose(fit.scale, scale, rtol=0.03)


def test_least_squares_alone_would_fail():
    """What the random sampling is for: 40 % outliers pull a plain fit far off."""
    teacher, measured, known, scale, _ = planted(0.4)
    x, y = teacher[0][known[0]], measured[0][known[0]]
    plain = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(plain / scale[0] - 1) > 0.1


def test_pictures_that_cannot_be_aligned_are_not_trusted():
    """Nothing measured; too little; nothing that agrees; near and far exchanged."""
    teacher, measured, known, _, _ = planted(0.0)
    known[0] = False
    known[1] &= known[1].cumsum(0).cumsum(1) <= 3
    generator = torch.Generator().manual_seed(1)
    measured[2] = 0.2 + 30 * torch.rand(40, 50, generator=generator) ** 3
    measured[3] = 5 - teacher[3]
    fit = fit_depth(teacher, measured, known, torch.Generator().manual_seed(0))
    assert fit.trusted.tolist() == [False, False, False, False, True, True]
    assert fit.scale[:4].tolist() == [1.0] * 4 and fit.shift[:4].tolist() == [0.0] * 4
