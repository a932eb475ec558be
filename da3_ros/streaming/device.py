"""Which device and arithmetic the network gets."""

from __future__ import annotations

import functools
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch

from da3_ros.errors import ConfigError, UnavailableError

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The torch device for ``model.device``; ``auto`` is CUDA where torch has it, else the CPU.

    Raises UnavailableError when CUDA is asked for by name and is not there: the CPU is never a silent substitute.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UnavailableError(
                f"model.device is '{name}' but torch {torch.__version__} sees {count} CUDA devices: check the "
                "driver with nvidia-smi and that torch was installed with CUDA, or set model.device to cpu"
            )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The arithmetic for ``model.dtype``; ``auto`` is float16 on CUDA and float32 on the CPU.

    Those are the fastest that stay within 0.7 % of float32 depth, float16 within 0.2 % (docs/precision.md).
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def choose_matmul(name: str, dtype: str, device: torch.device) -> str | None:
    """The format for ``model.matmul`` beside ``model.dtype``; None: as the network's dtype is.

    ``auto`` is bfloat16 on a CPU that multiplies in it, where nobody asked for a dtype: a third less time within the
    same 0.7 % of float32 depth. Raises ConfigError for fp8 on a CPU.
    """
    if name == "fp8" and device.type == "cpu":
        raise ConfigError("model.matmul is fp8, which CPUs do not multiply in: set it to auto, bfloat16 or int8")
    if name == "auto":
        return "bfloat16" if dtype == "auto" and device.type == "cpu" and _multiplies_bfloat16() else None
    return None if name == "as_dtype" else name


def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; without them it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())


def choose_execution(name: str, device: torch.device) -> str:
    """How steps run for ``model.execution``; on CUDA ``auto`` is compiled and ``uncompiled`` graphs, on the CPU eager.

    Raises ConfigError for graphs and compiled on another device than CUDA.
    """
    on_cuda = {"auto": "compiled", "uncompiled": "graphs"}
    if name in on_cuda:
        return on_cuda[name] if device.type == "cuda" else "eager"
    if name != "eager" and device.type != "cuda":
        raise ConfigError(
            f"model.execution is {name}, which needs a CUDA device, but the network is on {device}: set it to auto or "
            "eager"
        )
    return name


def set_cpu_threads(requested: int, device: torch.device, beside_gpu: int = 4) -> None:
    """Give torch ``requested`` threads; 0: all cores but one, which is left to ROS, with the network on a GPU at most
    ``beside_gpu``.

    What is left to the CPU beside a GPU is small: threads that wait for each other at every operation cost more than
    they save.
    """
    most = beside_gpu if device.type == "cuda" else sys.maxsize
    torch.set_num_threads(requested or max(1, min(most, usable_cores() - 1)))


def usable_cores() -> int:
    """Cores that this process may use: by its affinity, and by the share of time that its container has (cgroup v2)."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return cores


def pinned(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy of ``array`` on the host, from where ``device`` fetches it without making the host wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor.clone()


@functools.lru_cache(maxsize=512)
def pinned_indices(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The same of int64 values. Do not write to it: the windows of a stream come up again and again, and share it."""
    return pinned(np.array(values, dtype=np.int64), device)


def describe_device(device: torch.device) -> str:
    """Name of the chip for logs and tables."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"cpu, {torch.get_num_threads()} threads"
