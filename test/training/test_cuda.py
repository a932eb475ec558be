"""Training on a CUDA device: captured steps, compiled parts, runs that go on."""

import pytest
import torch
from training_helpers import TINY, tiny_run, walls

from da3_ros.model import VARIANTS
from da3_ros.training.config import Shape
from da3_ros.training.losses import LossWeights
from da3_ros.training.processes import Processes
from da3_ros.training.trainer import Trainer
from da3_ros.training.worlds import SceneSource

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = torch.device("cuda", 0)
SHAPES = (Shape(2, 28, 42, 8), Shape(4, 28, 42, 4))


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


def make(folder, **settings):
    """Of a run whose objective has all terms that there are."""
    settings = {"losses": LossWeights(relative=0.3, match=0.25), **settings}
    return Trainer(tiny_run(shapes=SHAPES, **settings), walls, folder, Processes(0, 1, DEVICE))


def backward(trainer, shape, *arguments):
    """Loss of a plain pass. What autograd keeps of it must go before the next capture, which is on another stream."""
    batch, reference, decoded = arguments
    loss = trainer.step_module(batch, reference, trainer._posed(shape), decoded)["loss"]
    loss.backward()
    return loss.item()


def test_captured_gradients_are_those_of_plain_passes(tmp_path):
    """For both kinds of batches, with dense maps of half of the pictures; twice, so that graphs are replayed."""
    trainer = make(tmp_path, decoded=0.5)
    for _ in range(2):
        for number, shape in enumerate(SHAPES):
            seeds = torch.arange(shape.batch, device=DEVICE) + 100 * number
            batch = walls(seeds, shape.views, shape.size)
            reference = torch.zeros(shape.batch, dtype=torch.int64, device=DEVICE)
            decoded = torch.arange(0, shape.batch * shape.views, 2, device=DEVICE)
            figures = trainer._gradients(shape, batch, reference, decoded)
            found, loss = trainer.stepper.gradient.clone(), figures["loss"].clone()
            trainer.stepper.gradient.zero_()
            plain = backward(trainer, shape, batch, reference, decoded)
            assert loss.item() == pytest.approx(plain, rel=1e-4)
            difference = (found - trainer.stepper.gradient).norm() / trainer.stepper.gradient.norm()
            assert difference < 5e-3
            trainer.stepper.gradient.zero_()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_learns_and_goes_on(tmp_path, compiled):
    settings = {"steps": 60, "log_every": 10, "checkpoint_every": 30, "bf16": True, "together": 2, "warmup": 5}
    first = make(tmp_path, compile=compiled, **settings)
    losses = [first.train_step()["loss"].item() for _ in range(30)]
    first.save()
    second = make(tmp_path, compile=compiled, **settings)
    assert second.done == 30
    assert second.run()
    reference = torch.zeros(8, dtype=torch.int64, device=DEVICE)
    last = second._gradients(SHAPES[0], walls(torch.arange(8, device=DEVICE), 2, (28, 42)), reference)["loss"].item()
    assert last < 0.8 * losses[0]


def test_nothing_in_a_step_waits_for_the_device(tmp_path):
    """Once both kinds of batches were seen: scenes are rendered, gradients made, weights moved, and nobody waits."""
    config = tiny_run(shapes=SHAPES, steps=500, decoded=0.5, together=2, checkpoint_every=500,
                      losses=LossWeights(relative=0.3, match=0.25))  # fmt: skip
    trainer = Trainer(config, SceneSource(DEVICE, compiled=False), tmp_path, Processes(0, 1, DEVICE))
    while len(trainer._captured) < len(SHAPES):
        trainer.train_step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(6 * config.together):
            figures = trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for value in figures.values())


@pytest.mark.slow
def test_a_long_run_of_several_kinds_of_batches(tmp_path):
    """Rendered scenes, made ahead beside hundreds of captured steps, as in a real run."""
    shapes = tuple(Shape(views, 112, 154, 32 // views) for views in (4, 8, 2))
    config = tiny_run(
        shapes=shapes, variant="da3-nano", steps=1500, log_every=25, checkpoint_every=500, bf16=True, posed=0.2,
        decoded=0.25, together=4, losses=LossWeights(log_depth=True, relative=0.5, match=0.25),
    )  # fmt: skip
    trainer = Trainer(config, SceneSource(DEVICE, compiled=False), tmp_path, Processes(0, 1, DEVICE))
    assert trainer.run()
    assert all(value.isfinite().all() for value in trainer.mean.weights.values())
