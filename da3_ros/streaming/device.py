"""Which device and arithmetic the network gets."""

from __future__ import annotations

import os

import torch

from da3_ros.errors import UnavailableError

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

    Those are the fastest that stay within 0.5 % of float32 depth (docs/precision.md).
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def set_cpu_threads(requested: int) -> None:
    """Give torch ``requested`` threads; 0: all cores but one, which is left to ROS."""
    torch.set_num_threads(requested or max(1, (os.cpu_count() or 2) - 1))


def describe_device(device: torch.device) -> str:
    """Name of the chip for logs and tables."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"cpu, {torch.get_num_threads()} threads"
