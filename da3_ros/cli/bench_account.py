"""Where a step's time on the GPU goes: its kernels in groups, beside what each group needs at least."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from da3_ros.cli.bench_floor import StepArithmetic

ATTENTION = "attention"
PRODUCTS = "matrix products, 16 bit"
LAYERS = "compiled: norms, rotation, residuals, what joins convolutions"
HEAD = "convolutions of the head"
# By name, the first that fits: those of cuDNN, cuBLAS, CUTLASS, Inductor, torch, and our own.
_GROUPS = (
    ("upload", r"Memcpy HtoD"),
    ("download", r"Memcpy DtoH"),
    ("other copies and fills", r"^Memcpy|^Memset"),
    (ATTENTION, r"flash|fmha|sdpa|attention|^_attend"),
    (HEAD, r"conv(?!ert)|fprop|dgrad|implicit_gemm|cudnn|nchwToNhwc|nhwcToNchw"),
    ("images to network input", r"^(resample|rectify)_kernel"),
    ("median of the confidence", r"^(count|median)_kernel"),
    (LAYERS, r"^triton_(?!tem)"),
    ("matrix products, 32 bit", r"sgemm|gemmSN|gemv|nvjet_(sss|tst|tss)|f32f32|_s1688|tf32|dot_kernel"),
    (PRODUCTS, r"gemm|nvjet|cutlass|wgmma|^triton_tem|splitKreduce|cublasLt"),
    ("small operations, one by one", r""),
)
# Inductor joins the head's convolutions with what comes before and after them under one such name.
_JOINED_WITH_HEAD = re.compile(r"^triton_.*(convolution|upsample|relu)")


@dataclass(frozen=True)
class Kernel:
    """One kernel, copy or fill on the device: microseconds. ``graph``: its launch started a whole CUDA graph."""

    name: str
    begin: float
    duration: float
    launch: int
    graph: bool

    @property
    def end(self) -> float:
        """When it ended."""
        return self.begin + self.duration


@dataclass(frozen=True)
class GroupRow:
    """Milliseconds of one step; ``ideal`` where there is one: arithmetic, or bytes through memory."""

    kernels: str
    count: float
    ms: float
    ideal: float | None
    above: float | None


@dataclass(frozen=True)
class LaunchRow:
    """One CUDA graph of a step, in order, and all that was launched by itself."""

    launch: str
    count: float
    ms: float  # sum of its kernels
    span: float  # from the first one's beginning to the last one's end
    longest: str  # name of the kernel that takes most of it


def read_kernels(events: Iterable[dict]) -> list[Kernel]:
    """Everything that ran on the device in a Chrome trace of torch's profiler, in order."""
    events = list(events)
    graphs = {
        event["args"]["correlation"] for event in events
        if "GraphLaunch" in event.get("name", "") and "correlation" in event.get("args", {})
    }  # fmt: skip
    found = []
    for event in events:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            launch = event.get("args", {}).get("correlation", -1)
            found.append(Kernel(event["name"], event["ts"], event["dur"], launch, launch in graphs))
    return sorted(found, key=lambda kernel: kernel.begin)


def group_of(name: str) -> str:
    """The group of a kernel of that name."""
    if _JOINED_WITH_HEAD.search(name):
        return LAYERS
    return next(group for group, pattern in _GROUPS if re.search(pattern, name))


def account(
    kernels: Sequence[Kernel], steps: int, arithmetic: StepArithmetic, tflops: float, gbyte_per_s: float
) -> list[GroupRow]:
    """Rows for each group that occurs, all kernels together, and what of that ran side by side."""
    ideal = {
        ATTENTION: arithmetic.attention / tflops,
        PRODUCTS: arithmetic.products / tflops,
        HEAD: arithmetic.head / tflops,
        LAYERS: arithmetic.layers_gbyte / gbyte_per_s * 1e3,
    }
    milliseconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for kernel in kernels:
        group = group_of(kernel.name)
        milliseconds[group] += kernel.duration / 1e3 / steps
        counts[group] += 1
    rows = []
    for group, _ in _GROUPS:
        if counts[group]:
            ms, least = milliseconds[group], ideal.get(group)
            rows.append(GroupRow(group, counts[group] / steps, ms, least, None if least is None else ms - least))
    total, least = sum(milliseconds.values()), sum(ideal.values())
    rows.append(GroupRow("all", len(kernels) / steps, total, least, total - least))
    rows.append(GroupRow("of which side by side", 0, total - _busy_ms(kernels) / steps, None, None))
    return rows


def launches(kernels: Sequence[Kernel], steps: int) -> list[LaunchRow]:
    """The graphs of a step in the order in which they start; one row of all steps where they are not the same."""
    by_launch: dict[int, list[Kernel]] = defaultdict(list)
    single = []
    for kernel in kernels:
        if kernel.graph:
            by_launch[kernel.launch].append(kernel)
        else:
            single.append(kernel)
    graphs = sorted(by_launch.values(), key=lambda graph: graph[0].launch)
    each = len(graphs) // steps if len(graphs) % steps == 0 else 0
    if each:
        rows = [_launch_row(f"graph {index + 1}", graphs[index::each], steps) for index in range(each)]
    else:
        rows = [_launch_row("graphs", graphs, steps)] if graphs else []
    return rows + ([_launch_row("one by one", [[kernel] for kernel in single], steps)] if single else [])


def _launch_row(name: str, groups: Sequence[Sequence[Kernel]], steps: int) -> LaunchRow:
    by_name: dict[str, float] = defaultdict(float)
    for kernel in (kernel for group in groups for kernel in group):
        by_name[kernel.name] += kernel.duration
    span = sum(max(kernel.end for kernel in group) - group[0].begin for group in groups)
    return LaunchRow(
        launch=name,
        count=sum(map(len, groups)) / steps,
        ms=sum(by_name.values()) / 1e3 / steps,
        span=span / 1e3 / steps,
        longest=max(by_name, key=by_name.__getitem__)[:60],
    )


def _busy_ms(kernels: Iterable[Kernel]) -> float:
    """How long at least one of ``kernels``, which are in order, ran."""
    busy, until = 0.0, float("-inf")
    for kernel in kernels:
        busy += max(0.0, kernel.end - max(kernel.begin, until))
        until = max(until, kernel.end)
    return busy / 1e3
