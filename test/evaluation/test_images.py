"""Structural similarity against SciPy's Gaussian filter, written out from the formula."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from da3_ros.errors import InputError
from da3_ros.evaluation.images import ssim


def test_equals_the_formula_with_another_filter():
    generator = np.random.default_rng(0)
    target = gaussian_filter(generator.random((2, 3, 40, 50)), (0, 0, 2, 2))
    image = np.clip(0.8 * target + 0.1 * generator.random(target.shape), 0, 1)
    wanted = []
    for a, b in zip(image, target, strict=True):
        channels = []
        for x, y in zip(a, b, strict=True):
            blur = lambda values: gaussian_filter(values, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]  # noqa: E731
            ux, uy = blur(x), blur(y)
            vx, vy, vxy = blur(x * x) - ux**2, blur(y * y) - uy**2, blur(x * y) - ux * uy
            top = (2 * ux * uy + 1e-4) * (2 * vxy + 9e-4)
            channels.append((top / ((ux**2 + uy**2 + 1e-4) * (vx + vy + 9e-4))).mean())
        wanted.append(np.mean(channels))
    found = ssim(torch.from_numpy(image), torch.from_numpy(target))
    assert found.numpy() == pytest.approx(wanted, abs=1e-6)
    assert 0.05 < wanted[0] < 0.95


def test_a_picture_is_like_itself_and_not_like_its_negative():
    picture = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert ssim(picture, picture).item() == pytest.approx(1.0)
    assert ssim(1 - picture, picture).item() < 0


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match="11 pixels"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
