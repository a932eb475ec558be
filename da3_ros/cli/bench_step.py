"""A step of the engine alone, and as the node runs it, timed from images on the host to results on the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from da3_ros.cli.bench_floor import step_gflop
from da3_ros.cli.bench_reference import ReferenceTimes
from da3_ros.cli.bench_targets import find_target
from da3_ros.cli.bench_timing import Repeats, run_times
from da3_ros.config import RANDOM_CHECKPOINT, Config, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.pipeline import Pipeline

_GIB = 2**30
# Steps on their way at once when the rate is measured: one on the device, one whose images go up.
_PENDING = 2


@dataclass(frozen=True)
class Case:
    """``views`` in the window, ``new`` of them new in each step, camera images of ``image_hw``.

    ``dtype``: as ``model.dtype``; ``parameters``: further ones of the node.
    """

    variant: str
    views: int
    new: int
    image_hw: tuple[int, int]
    process_res: int
    device: torch.device
    dtype: str
    parameters: Mapping[str, Any]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras, each of which has one new view in each step."""
        return tuple(f"camera{index}" for index in range(self.new))


@dataclass(frozen=True)
class EngineTimes:
    """Milliseconds from uint8 images on the host to depth and confidence of the new views and poses and intrinsics of
    all views on the host, warm, in the window's own frame and unit: nothing is tracked."""

    size_hw: tuple[int, int]
    dtype: str
    engine: float
    engine_p95: float


@dataclass(frozen=True)
class NodeTimes:
    """The same of steps as the node runs them, with tracking: poses in one frame, depth in one unit or metres.

    ``with_clouds``: to all that the node publishes, clouds included.
    """

    with_tracking: float
    with_tracking_p95: float
    with_clouds: float
    steps_per_s: float  # with the next step handed over before the last one is fetched
    stages: Mapping[str, float]  # medians of what the pipeline reports
    start_s: float  # from nothing to the first step of a full window: loading, compiling, choosing kernels
    memory_gib: float | None  # most that torch has reserved on the GPU, beside what it had before the pipeline was made


@dataclass(frozen=True)
class StepRow:
    """One line of the table: what was measured beside the arithmetic floor, the reference and the target."""

    variant: str
    views: int
    new: int
    height: int
    width: int
    dtype: str
    engine: float
    engine_p95: float
    with_tracking: float
    with_tracking_p95: float
    with_clouds: float
    steps_per_s: float
    start_s: float
    memory_gib: float | None
    floor: float  # milliseconds that the arithmetic takes at the rate of a large matrix product
    target_ms: float | None
    reference_forward: float | None
    reference_call: float | None
    times_forward: float | None  # that the engine is faster
    times_call: float | None
    target: str | None
    stages: Mapping[str, float]


class Source:
    """Frame sets of one picture, at 30 Hz."""

    def __init__(self, names: Sequence[str], image_hw: tuple[int, int]):
        self._names = names
        self._image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)
        self._stamp_ns = 0

    def next(self) -> FrameSet:
        """The next set."""
        self._stamp_ns += 33_000_000
        return FrameSet(self._stamp_ns, tuple(Frame(name, self._stamp_ns, self._image) for name in self._names))


def measure_engine(case: Case, repeats: Repeats) -> EngineTimes:
    """Time ``Pipeline.step`` without tracking; raises ConfigError or UnavailableError when the case cannot run."""
    source = Source(case.cameras, case.image_hw)
    wanted = _wanted(case)
    pipeline = Pipeline(pipeline_config(case), tracks=False)
    try:
        for _ in range(case.views // case.new):
            pipeline.step(source.next(), wanted)
        times = run_times(lambda: pipeline.step(source.next(), wanted), case.device, repeats, to_the_end=False)
        size_hw = pipeline.canvas_hw
    finally:
        pipeline.close()
    return EngineTimes(size_hw, pipeline.description["dtype"], float(np.median(times)), float(np.percentile(times, 95)))


def measure_node(case: Case, repeats: Repeats) -> NodeTimes:
    """Time ``Pipeline.step`` as the node runs it; raises as ``measure_engine``."""
    reserved = reserved_from_now_on(case.device)
    source = Source(case.cameras, case.image_hw)
    wanted, everything = _wanted(case), OutputRequest.everything(case.cameras)
    stages: list[Mapping[str, float]] = []

    def step(request: OutputRequest) -> None:
        estimate = pipeline.step(source.next(), request)
        assert estimate is not None
        stages.append(estimate.timings_ms)

    begun = time.perf_counter()
    pipeline = Pipeline(pipeline_config(case))
    try:
        for _ in range(case.views // case.new):
            step(wanted)
        start_s = time.perf_counter() - begun
        with_clouds = run_times(lambda: step(everything), case.device, repeats, to_the_end=False)
        stages.clear()
        times = run_times(lambda: step(wanted), case.device, repeats, to_the_end=False)
        medians = {name: float(np.median([stage[name] for stage in stages])) for name in stages[0]}
        steps_per_s = _rate(lambda: pipeline.submit(source.next(), wanted), repeats)
    finally:
        pipeline.close()
    return NodeTimes(
        with_tracking=float(np.median(times)),
        with_tracking_p95=float(np.percentile(times, 95)),
        with_clouds=float(np.median(with_clouds)),
        steps_per_s=steps_per_s,
        stages=medians,
        start_s=start_s,
        memory_gib=reserved(),
    )


def reserved_from_now_on(device: torch.device) -> Callable[[], float | None]:
    """Gives the most GiB that torch reserves on ``device`` from now on beside what is in use now; None on the CPU.

    Networks that were made before, as the reference of ``--reference``, are not part of it.
    """
    if device.type != "cuda":
        return lambda: None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    return lambda: (torch.cuda.max_memory_reserved(device) - before) / _GIB


def _wanted(case: Case) -> OutputRequest:
    return OutputRequest(depth=frozenset(case.cameras), confidence=frozenset(case.cameras))


def pipeline_config(case: Case) -> Config:
    """The node's configuration for ``case``."""
    return from_flat(
        {
            "cameras": case.cameras,
            "model.variant": case.variant,
            "model.checkpoint": RANDOM_CHECKPOINT,
            "model.device": str(case.device),
            "model.dtype": case.dtype,
            "model.process_res": case.process_res,
            "window.sets": case.views // case.new,
            "loops.enabled": False,  # loops and map have a bench of their own, and work beside the steps
            "map.enabled": False,
            **case.parameters,
        }
    )


def _rate(submit: Callable[[], Any], repeats: Repeats) -> float:
    """Steps a second with ``_PENDING`` of them on their way."""
    pending = [submit() for _ in range(_PENDING)]
    count, begun = 0, time.perf_counter()
    while count < repeats.least or time.perf_counter() - begun < repeats.seconds:
        pending.append(submit())
        pending.pop(0).result()
        count += 1
    seconds = time.perf_counter() - begun
    for last in pending:
        last.result()
    return count / seconds


def make_row(case: Case, engine: EngineTimes, node: NodeTimes, reference: ReferenceTimes, tflops: float) -> StepRow:
    """Put what was measured beside the floor at ``tflops`` TFLOP/s, the reference and the target.

    The reference's work is the engine's: it tracks nothing.
    """
    height, width = engine.size_hw
    target = find_target(case.variant, case.views, case.new, engine.size_hw, engine.dtype, case.device.type)
    times_call = None if reference.call_ms is None else reference.call_ms / engine.engine
    times_forward = None if reference.forward_ms is None else reference.forward_ms / engine.engine
    return StepRow(
        variant=case.variant,
        views=case.views,
        new=case.new,
        height=height,
        width=width,
        dtype=engine.dtype,
        engine=engine.engine,
        engine_p95=engine.engine_p95,
        with_tracking=node.with_tracking,
        with_tracking_p95=node.with_tracking_p95,
        with_clouds=node.with_clouds,
        steps_per_s=node.steps_per_s,
        start_s=node.start_s,
        memory_gib=node.memory_gib,
        floor=step_gflop(case.variant, case.views, case.new, height, width) / tflops,
        target_ms=None if target is None else target.step_ms,
        reference_forward=reference.forward_ms,
        reference_call=reference.call_ms,
        times_forward=times_forward,
        times_call=times_call,
        target=None if target is None else target.verdict(engine.engine, times_call, times_forward),
        stages=node.stages,
    )
