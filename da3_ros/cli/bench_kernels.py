"""Which kernels a step of the window runs on a GPU, and how long each takes.

Run with ``python -m da3_ros.cli.bench_kernels``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from da3_ros.config import VARIANTS
from da3_ros.datatypes import Frame, FrameSet
from da3_ros.errors import UnavailableError
from da3_ros.model import load_model
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.device import describe_device
from da3_ros.streaming.timing import StageTimer

_IMAGE_HWC = (720, 960, 3)
_PROFILED = 10  # steps
_TIMED = 50
_NAME = 110  # characters of a kernel's name


def main() -> None:
    """Print the warm-up, what a step's stages take, and its kernels, longest first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="da3-small", choices=VARIANTS)
    parser.add_argument("--views", type=int, default=8, help="views in the window")
    parser.add_argument("--new", type=int, default=1, help="new views in each step")
    parser.add_argument("--execution", default="auto", help="model.execution")
    parser.add_argument("--kernels", type=int, default=25, help="kernels in the table")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise UnavailableError("there is no CUDA device: the CPU runs no kernels")
    device = torch.device("cuda")
    model = load_model(arguments.variant, None, device=device, dtype=torch.float16)
    sets = max(1, arguments.views // arguments.new)
    config = WindowConfig(sets=sets, cameras=arguments.new, execution=arguments.execution)
    stream = StreamingDA3(model, config)
    names = [f"camera{index}" for index in range(arguments.new)]
    started = time.perf_counter()
    stream.warm_up(dict.fromkeys(names, (_IMAGE_HWC[:2], None)))
    torch.cuda.synchronize()
    print(f"{describe_device(device)}, torch {torch.__version__}, {arguments.variant}, window of {config.views} views, "
          f"{arguments.new} new; warm-up {time.perf_counter() - started:.1f} s", flush=True)  # fmt: skip

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, _IMAGE_HWC, dtype=np.uint8) for _ in names]
    stages: list[dict[str, float]] = []

    def step() -> None:
        timer = StageTimer(device)
        stream.step(FrameSet(0, tuple(Frame(name, 0, image) for name, image in zip(names, images, strict=True))), timer)
        torch.cuda.synchronize()
        stages.append(timer.durations_ms())

    for _ in range(sets + _TIMED):
        step()
    print(", ".join(f"{name} {np.median([s[name] for s in stages[sets:]]):.3f} ms" for name in stages[-1]), flush=True)
    kernels = profile(step)
    total = sum(milliseconds for _, milliseconds in kernels.values())
    print(f"{sum(count for count, _ in kernels.values()):.0f} kernels and copies a step, together {total:.3f} ms")
    ranked = sorted(kernels.items(), key=lambda item: -item[1][1])
    for name, (count, milliseconds) in ranked[: arguments.kernels]:
        print(f"{milliseconds:8.4f} ms {count:6.1f} x {name[:_NAME]}")


def profile(step: Callable[[], None]) -> dict[str, tuple[float, float]]:
    """Kernel -> how often a step runs it, and for how long altogether (ms)."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        for _ in range(_PROFILED):
            step()
    kernels: dict[str, tuple[float, float]] = {}
    for event in found.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            count, milliseconds = kernels.get(event.name, (0.0, 0.0))
            milliseconds += event.time_range.elapsed_us() / 1e3 / _PROFILED
            kernels[event.name] = (count + 1 / _PROFILED, milliseconds)
    return kernels


if __name__ == "__main__":
    main()
