"""How the cost of a step grows with views, cameras and image size: the points of the plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from da3_ros.cli.bench_floor import step_gflop
from da3_ros.cli.bench_reference import Reference
from da3_ros.cli.bench_step import Case, measure_engine
from da3_ros.cli.bench_timing import Repeats

VIEWS = (2, 4, 8, 16, 32)
CAMERAS = (1, 2, 4, 6, 8)
SIZES = (280, 392, 504, 644, 756, 896, 1022)
_SETS = 4  # of every number of cameras
_VIEWS = 8  # of every size


@dataclass(frozen=True)
class GrowthPoint:
    """One point: ``sweep`` is views, cameras or size, ``x`` its value; milliseconds of a step of the engine alone and
    of the reference's whole call on the same window; ``floor`` as in the table of steps."""

    sweep: str
    x: int
    variant: str
    views: int
    new: int
    height: int
    width: int
    step: float
    step_p95: float
    floor: float
    reference_call: float | None


def growth_cases(case: Case) -> Iterator[tuple[str, int, Case]]:
    """Sweep, value and case, all other things being as in ``case``.

    views: one new view a step in windows of 2 to 32. cameras: 1 to 8, all of them new in each step, windows of
    4 sets. size: longest side of the network's images, one new view in windows of 8.
    """
    for views in VIEWS:
        yield "views", views, replace(case, views=views, new=1)
    for cameras in CAMERAS:
        yield "cameras", cameras, replace(case, views=_SETS * cameras, new=cameras)
    for size in SIZES:
        yield "size", size, replace(case, views=_VIEWS, new=1, process_res=size)


def measure_growth(
    base: Case, repeats: Repeats, tflops: float, reference: Reference | None, progress: Callable[[str], None]
) -> list[GrowthPoint]:
    """Points of all sweeps of ``base``; the same window is measured once, whatever sweeps it is in."""
    points = []
    known: dict[tuple[int, int, int], GrowthPoint] = {}
    for sweep, x, case in growth_cases(base):
        progress(f"{case.variant}, {sweep} {x}")
        key = (case.views, case.new, case.process_res)
        if key not in known:
            known[key] = _measure(sweep, x, case, repeats, tflops, reference)
        points.append(replace(known[key], sweep=sweep, x=x))
    return points


def _measure(
    sweep: str, x: int, case: Case, repeats: Repeats, tflops: float, reference: Reference | None
) -> GrowthPoint:
    times = measure_engine(case, repeats)
    height, width = times.size_hw
    return GrowthPoint(
        sweep=sweep,
        x=x,
        variant=case.variant,
        views=case.views,
        new=case.new,
        height=height,
        width=width,
        step=times.engine,
        step_p95=times.engine_p95,
        floor=step_gflop(case.variant, case.views, case.new, height, width) / tflops,
        reference_call=None
        if reference is None
        else reference.call_ms(case.views, case.image_hw, case.process_res, replace(repeats, warm_up=1, least=2)),
    )
