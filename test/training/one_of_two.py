"""One process of a run of two: trains and writes its weights; started by torchrun from test_processes.py."""

import sys
from pathlib import Path

from safetensors.torch import save_file
from training_helpers import TINY, tiny_run, walls

from da3_ros.model import VARIANTS
from da3_ros.training import optim
from da3_ros.training.processes import join, leave
from da3_ros.training.trainer import Trainer

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    VARIANTS["tiny"] = TINY
    # Muon turns what rounding leaves in directions without a gradient into steps as long as the others.
    optim._LAYERS = ()
    processes = join("cpu")
    trainer = Trainer(tiny_run(steps=4, posed=0.0, checkpoint_every=2), walls, folder / "run", processes)
    trainer.run()
    save_file(dict(trainer.mean.weights), folder / f"rank{processes.rank}.safetensors")
    leave(processes)
