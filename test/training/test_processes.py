"""A run of two processes under torchrun, and the same run in one process that sees both halves of every batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import TINY, tiny_run, walls

from da3_ros.errors import ConfigError
from da3_ros.model import VARIANTS
from da3_ros.training import optim, trainer
from da3_ros.training.data import draw_reference, sample_seeds, shape_of
from da3_ros.training.processes import Processes, see_own_gpu
from da3_ros.training.trainer import Trainer

CPU = torch.device("cpu")


class BothHalves(Trainer):
    """Draws what the two processes draw together."""

    def _batches(self, group):
        shape = shape_of(self.config, group)
        seeds = [sample_seeds(self.config.seed, group, rank, shape.batch, CPU) for rank in (0, 1)]
        return self.source(torch.cat(seeds), shape.views, shape.size)


def reference_of_both(seed, step, rank, shape, posed, device):
    return torch.cat([draw_reference(seed, step, rank, shape, posed, device) for rank in (0, 1)])


def run_two(folder, device):
    """Weights of the two processes after a run under torchrun."""
    program = Path(__file__).parent / "one_of_two.py"
    root = Path(__file__).parents[2]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, program, folder, device]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{program.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_make_one_larger_batch(tmp_path, monkeypatch):
    """Both end with the same weights: those of one process with batches of twice the size."""
    one, two = run_two(tmp_path, "cpu")
    assert all(torch.equal(value, two[name]) for name, value in one.items())

    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    monkeypatch.setattr(trainer, "draw_reference", reference_of_both)
    monkeypatch.setattr(optim, "_LAYERS", ())
    config = tiny_run(steps=4, posed=0.0, checkpoint_every=2)
    alone = BothHalves(config, walls, tmp_path / "alone", Processes(0, 1, CPU))
    before = {name: value.clone() for name, value in alone.mean.weights.items()}
    alone.run()
    for name, value in alone.mean.weights.items():
        assert torch.allclose(one[name], value, atol=2e-4), name
    assert max((one[name] - value).abs().max() for name, value in before.items()) > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_end_with_the_same_weights(tmp_path, monkeypatch):
    """Captured steps, each process on a GPU of its own; they were trained."""
    one, two = run_two(tmp_path, "cuda")
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    begun = Trainer(tiny_run(steps=4), walls, tmp_path / "begun", Processes(0, 1, CPU)).mean.weights
    assert all(value.isfinite().all() for value in one.values())
    assert max((one[name] - value).abs().max() for name, value in begun.items()) > 1e-3


def test_a_process_sees_its_own_gpu_only(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,4,6")
    see_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    see_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,4")
    with pytest.raises(ConfigError, match=r"process 2 .* names 2 GPUs"):
        see_own_gpu()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,4")
    see_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,4"
