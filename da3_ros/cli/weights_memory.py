"""Peak memory of loading a checkpoint, measured in a process that does nothing else.

``python -m da3_ros.cli.weights_memory VARIANT FILE DEVICE DTYPE`` is that process; it prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from da3_ros.errors import UnavailableError
from da3_ros.model import VARIANTS
from da3_ros.model.layout import build
from da3_ros.model.weights import fill_from_file

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class LoadingMemory:
    """What loading took. Bytes; ``host`` figures are resident memory (VmHWM), with torch imported before."""

    device: str
    dtype: str
    host_before: int
    host_peak: int
    network: int  # parameters and buffers, wherever they are
    device_peak: int  # 0 where the network is on the host
    seconds: float

    @property
    def host_overhead(self) -> int:
        """Host memory beyond what was there before and, where it lives on the host, the network itself."""
        return self.host_peak - self.host_before - (self.network if self.device == "cpu" else 0)


def measure_loading(variant: str, path: Path, device: str, dtype: torch.dtype) -> LoadingMemory:
    """Load ``path`` as ``variant`` in a process of its own; raises UnavailableError where that cannot be measured."""
    if not _STATUS.is_file():
        raise UnavailableError("peak memory is read from /proc, which this system does not have")
    name = str(dtype).removeprefix("torch.")
    command = [sys.executable, "-m", "da3_ros.cli.weights_memory", variant, str(path), device, name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise UnavailableError(f"cannot load {path} on {device} in {name} to measure it: {reason}")
    return LoadingMemory(**json.loads(done.stdout))


def _main(variant: str, path: str, device_name: str, dtype_name: str) -> None:
    device, dtype = torch.device(device_name), getattr(torch, dtype_name)
    torch.empty(0, device=device)  # the driver's own memory is no part of loading
    model = build(VARIANTS[variant])
    before, start = peak_bytes(), time.perf_counter()
    fill_from_file(model, Path(path), device, dtype)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    network = sum(value.nbytes for value in model.parameters())
    device_peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    print(json.dumps(asdict(LoadingMemory(
        device_name, dtype_name, before, peak_bytes(), network, device_peak, seconds
    ))))  # fmt: skip


def peak_bytes() -> int:
    """High-water mark of this process's resident memory. (getrusage would include that of the parent.)"""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    _main(*sys.argv[1:])
