"""The forward pass of training is that of the network, whatever its precision."""

import pytest
import torch
from training_helpers import TINY, walls

from da3_ros.model.camera import normalise_cameras
from da3_ros.model.dense_head import _enlarge_by_products, enlarge
from da3_ros.training.batch import SceneBatch
from da3_ros.training.initial import initial_network
from da3_ros.training.losses import LossWeights
from da3_ros.training.step import TrainingStep


@pytest.fixture
def step():
    return TrainingStep(initial_network(TINY, 0, torch.device("cpu")), LossWeights())


def test_it_sees_what_inference_sees(step):
    """Depth and rays of an unposed and a posed sample are those of calling the network."""
    batch = walls(torch.tensor([1, 2]), 3, (28, 42))
    batch = SceneBatch(**{**vars(batch), "images": (batch.images * 255).round().to(torch.uint8)})
    answer = step.answer(batch, torch.tensor([0, 0]), posed=1)
    images = step.normalise(batch.images)
    posed = step.network(images[:1], normalise_cameras(batch.T_cam_world[:1]), batch.K[:1], return_ray=True)
    free = step.network(images[1:], ref_view="first", return_ray=True)
    for name in ("depth", "depth_conf", "ray"):
        expected = torch.cat([getattr(posed, name)[0], getattr(free, name)[0]])
        assert torch.allclose(getattr(answer, name), expected, atol=1e-5), name


def test_enlarging_by_products_is_interpolation():
    """What training on a GPU does instead; positions are rounded to 1/256 of a pixel, and so are gradients."""
    x = torch.randn(2, 3, 6, 9).to(memory_format=torch.channels_last).requires_grad_()
    found, wanted = _enlarge_by_products(x, (21, 28)), enlarge(x, (21, 28))
    assert torch.allclose(found, wanted, atol=0.02)
    toward = torch.randn_like(found)
    slopes = [torch.autograd.grad(one, x, toward)[0] for one in (found, wanted)]
    assert torch.allclose(*slopes, atol=0.05)
    flat = torch.ones(1, 1, 6, 9).requires_grad_()
    assert torch.equal(_enlarge_by_products(flat, (21, 28)), torch.ones(1, 1, 21, 28))


def test_the_reference_view_matters(step):
    batch = walls(torch.tensor([1]), 3, (28, 42))
    one, two = (step.answer(batch, torch.tensor([view])).depth for view in (0, 2))
    assert not torch.allclose(one, two)


def test_bf16_is_close(step):
    half = TrainingStep(step.network, LossWeights(), bf16=True)
    batch = walls(torch.tensor([1, 2]), 3, (28, 42))
    reference = torch.tensor([0, 1])
    full, reduced = step(batch, reference), half(batch, reference)
    for name, value in full.items():
        assert reduced[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.01), name
        assert reduced[name].dtype == torch.float32
    assert half.answer(batch, reference).quat_xyzw.dtype == torch.float32


def test_untrained_it_predicts_something_sensible(step):
    """Depth about 1, no rotation, a usual field of view: training starts from there."""
    answer = step.answer(walls(torch.tensor([1, 2]), 2, (28, 42)), torch.tensor([0, 0]))
    assert 0.7 < answer.depth.mean() < 1.4 and answer.depth.log().std() < 0.3
    assert torch.allclose(answer.quat_xyzw, torch.tensor([0.0, 0, 0, 1]).expand_as(answer.quat_xyzw), atol=0.1)
    assert torch.allclose(answer.fov, torch.tensor([0.95, 1.2]).expand_as(answer.fov), atol=0.1)
