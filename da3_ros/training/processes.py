"""The processes of one run: one, or as many as torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from da3_ros.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among the ``size`` of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def average(self, tensor: Tensor) -> None:
        """Replaces a tensor by its mean over the processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size

    def from_leader(self, value: float) -> float:
        """What the leading process has; waits for all."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return shared.item()


def see_own_gpu() -> None:
    """Hides from a process of torchrun's all GPUs but its own, which thereby is the first for each of them.

    What is compiled is kept under the number of its GPU: so what one process compiled serves all. Does nothing for a
    single process; must come before CUDA is asked for the first time. Raises ConfigError where GPUs are too few.
    """
    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) == 1:
        return
    number, named = int(os.environ["LOCAL_RANK"]), os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(i) for i in range(number + 1)]
    if number >= len(visible):
        raise ConfigError(
            f"process {number} of this machine has no GPU: CUDA_VISIBLE_DEVICES names {len(visible)} GPUs "
            f"({named}); start at most as many processes"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[number]


def join(device: str) -> Processes:
    """This process's place; with torchrun's environment it meets the others. ``device``: cuda or cpu."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = torch.device(device, 0) if device == "cuda" else torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1:
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Processes(rank, size, chosen)


def leave(processes: Processes) -> None:
    """Says goodbye to the others."""
    if processes.size > 1:
        distributed.destroy_process_group()
