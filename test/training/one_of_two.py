"""One process of a run of two: FOLDER DEVICE; trains, writes its weights. torchrun starts it from test_processes.py."""

import sys
from pathlib import Path

from safetensors.torch import save_file
from training_helpers import TINY, tiny_run, walls

from da3_ros.model import VARIANTS
from da3_ros.training import optim
from da3_ros.training.processes import join, leave, see_own_gpu
from da3_ros.training.trainer import Trainer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    VARIANTS["tiny"] = TINY
    # Muon turns what rounding leaves in directions without a gradient into steps as long as the others.
    optim._LAYERS = ()
    see_own_gpu()
    processes = join(sys.argv[2])
    trainer = Trainer(tiny_run(steps=4, posed=0.0, checkpoint_every=2), walls, folder / "run", processes)
    trainer.run()
    weights = {name: value.cpu().contiguous() for name, value in trainer.mean.weights.items()}
    save_file(weights, folder / f"rank{processes.rank}.safetensors")
    leave(processes)
