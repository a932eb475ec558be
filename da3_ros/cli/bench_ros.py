"""``da3-ros bench --ros``: the whole way through ROS, from the images' stamp to the last topic published for it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from da3_ros.cli.node_parameters import parse_parameter
from da3_ros.errors import ConfigError, UnavailableError

if TYPE_CHECKING:  # the other ways to measure need no ROS
    from da3_ros.cli.bench_ros_run import RosBench, RosSettings, Trial

# The search for the rate that is held starts here, and ends when the step to a rate that is not held is this small.
_FIRST_HZ, _LEAST_HZ, _RESOLUTION = 1.0, 0.125, 1.15
_MOST_HZ = 240.0
# Of the duration of the measurement, and at least so many seconds, for each rate that is tried on the way.
_TRIAL_SHARE, _TRIAL_S = 1 / 6, 5.0


@dataclass(frozen=True)
class Scenario:
    """What is measured when nothing else is asked for. ``rate_hz`` 0: the highest rate that is held is looked for."""

    variant: str
    cameras: int
    image_size: str
    rate_hz: float
    sets: int
    process_res: int
    seconds: float


_ON_CUDA = Scenario("da3-base", 4, "1280x720", rate_hz=30.0, sets=3, process_res=504, seconds=60.0)
# 4:3, of which process_res 210 makes 210x154.
_ON_CPU = Scenario("da3-small", 2, "960x720", rate_hz=0.0, sets=3, process_res=210, seconds=60.0)
# p95 from the image's stamp to the last topic published, and no drops, for _ON_CUDA on one H100.
TARGET_P95_MS = 33.0


@dataclass(frozen=True)
class RosRow:
    """One measurement. Latencies in milliseconds from the images' stamp; CPU in seconds per second of run."""

    variant: str
    cameras: int
    image_width: int
    image_height: int
    process_res: int
    sets: int
    network: bool
    rate_hz: float
    seconds: float
    sent: int
    answered: int
    dropped: int
    not_sent: int
    answered_hz: float
    published_p50: float
    published_p95: float
    published_max: float
    received_p50: float
    received_p95: float
    received_max: float
    node_cpu: float
    cameras_cpu: float
    target: str | None
    report: Mapping[str, Mapping[str, str]]  # the node's last diagnostics: counts of drops, times of its stages


# The table is printed in two parts.
RATES = ("variant", "cameras", "image_width", "image_height", "process_res", "sets", "network", "rate_hz", "seconds",
         "sent", "answered", "dropped", "not_sent", "answered_hz", "target")  # fmt: skip
LATENCIES = ("variant", "rate_hz", "published_p50", "published_p95", "published_max", "received_p50", "received_p95",
             "received_max", "node_cpu", "cameras_cpu")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that only ``--ros`` has."""
    group = parser.add_argument_group("through ROS")
    group.add_argument(
        "--ros",
        action="store_true",
        help="instead, start the node and synthetic cameras and measure the whole way over DDS "
        "(--variants, --process-res, --image-size, --device and --dtype hold here too)",
    )
    group.add_argument("--cameras", type=int, metavar="N", help="default: 4 on CUDA, 2 on the CPU")
    group.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="of each camera; 0: find the highest at which every set is answered (default: 30 on CUDA, 0 on the CPU)",
    )
    group.add_argument("--sets", type=int, metavar="N", help="sets of images in the window (default: 3)")
    group.add_argument("--duration", type=float, metavar="S", help="seconds of the measurement (default: 60)")
    group.add_argument(
        "--reliability",
        choices=("reliable", "best_effort"),
        default="reliable",
        help="of the images (default: reliable)",
    )
    group.add_argument(
        "--no-network",
        action="store_true",
        help="the node answers at once, without computing: what is measured is transport",
    )


def scenario(device: torch.device) -> Scenario:
    """What ``--ros`` measures on ``device`` when nothing else is asked for."""
    return _ON_CUDA if device.type == "cuda" else _ON_CPU


def measure_ros(args: argparse.Namespace, image_hw: tuple[int, int], device: torch.device) -> list[RosRow]:
    """One row for each variant and process_res; raises Da3Error for what cannot be run."""
    try:
        from da3_ros.cli.bench_ros_run import RosSettings
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"--ros needs ROS 2, and the Python module {error.name} is missing: run `make env` and use "
            ".venv/bin/da3-ros, or source a ROS 2 distribution"
        ) from error
    usual = scenario(device)
    cameras, sets = _or(args.cameras, usual.cameras), _or(args.sets, usual.sets)
    rate_hz, seconds = _or(args.rate, usual.rate_hz), _or(args.duration, usual.seconds)
    if not 1 <= cameras <= 64:
        raise ConfigError(f"--cameras must be from 1 to 64, not {cameras}")
    if not 0 <= rate_hz <= _MOST_HZ:
        raise ConfigError(f"--rate must be from 0 (find it) to {_MOST_HZ:g} Hz, not {rate_hz:g}")
    if seconds < 1:
        raise ConfigError(f"--duration must be at least 1 second, not {seconds:g}")
    parameters = dict(map(parse_parameter, args.parameters))
    rows = []
    for variant in args.variants or [usual.variant]:
        for process_res in args.process_res or [usual.process_res]:
            settings = RosSettings(
                variant,
                cameras,
                image_hw,
                sets,
                process_res,
                str(device),
                args.dtype,
                args.reliability,
                parameters,
                not args.no_network,
            )
            rows.append(_row(settings, _run(settings, rate_hz, seconds), seconds, device))
    return rows


def _or(value, default):
    return default if value is None else value


def _run(settings: RosSettings, rate_hz: float, seconds: float) -> Trial:
    from da3_ros.cli.bench_ros_run import RosBench
    from da3_ros.cli.processes import terminable

    with (
        terminable(),
        tempfile.TemporaryDirectory(prefix="da3_bench_") as folder,
        RosBench.started(settings, Path(folder)) as bench,
    ):
        return bench.trial(rate_hz, seconds) if rate_hz else find_held(bench, seconds)


def find_held(bench: RosBench, seconds: float) -> Trial:
    """The trial over ``seconds`` at the highest rate at which every set is answered.

    From 1 Hz the rate doubles until sets are lost, or is halved until none are; the gap is then halved until it is
    small, and the whole measurement at the rate found has the last word: if it loses a set, the next lower rate gets
    its turn. Raises UnavailableError when not even the lowest rate is held.
    """
    short = max(_TRIAL_S, _TRIAL_SHARE * seconds)
    held_hz = _FIRST_HZ
    while not _holds(bench, held_hz, short):
        held_hz /= 2
        if held_hz < _LEAST_HZ:
            raise UnavailableError(
                f"sets are lost even at {2 * held_hz:g} Hz: choose a smaller network, size or window"
            )
    lost_hz = 2 * held_hz
    # Where it had to go down, the rate above is known to be too much.
    while held_hz >= _FIRST_HZ and lost_hz <= _MOST_HZ and _holds(bench, lost_hz, short):
        held_hz, lost_hz = lost_hz, 2 * lost_hz
    while lost_hz / held_hz > _RESOLUTION:
        middle_hz = (held_hz * lost_hz) ** 0.5
        if _holds(bench, middle_hz, short):
            held_hz = middle_hz
        else:
            lost_hz = middle_hz
    while held_hz >= _LEAST_HZ:
        trial = bench.trial(held_hz, seconds)
        if trial.figures.held:
            return trial
        held_hz /= _RESOLUTION
    raise UnavailableError(
        f"no rate from {_LEAST_HZ:g} Hz on is held for {seconds:g} s: choose a smaller network, size or window"
    )


def _holds(bench: RosBench, rate_hz: float, seconds: float) -> bool:
    figures = bench.trial(rate_hz, seconds).figures
    if sys.stderr.isatty():
        print(f"{rate_hz:.2f} Hz: {figures.answered} of {figures.sent} sets answered", file=sys.stderr)
    return figures.held


def _row(settings: RosSettings, trial: Trial, seconds: float, device: torch.device) -> RosRow:
    figures = trial.figures
    on_target = device.type == "cuda" and settings.network
    is_target = on_target and (settings.variant, settings.cameras, settings.sets, trial.rate_hz) == (
        _ON_CUDA.variant, _ON_CUDA.cameras, _ON_CUDA.sets, _ON_CUDA.rate_hz,
    )  # fmt: skip
    met = figures.held and figures.published.p95 <= TARGET_P95_MS
    return RosRow(
        variant=settings.variant,
        cameras=settings.cameras,
        image_width=settings.size_hw[1],
        image_height=settings.size_hw[0],
        process_res=settings.process_res,
        sets=settings.sets,
        network=settings.network,
        rate_hz=trial.rate_hz,
        seconds=seconds,
        sent=figures.sent,
        answered=figures.answered,
        dropped=figures.dropped,
        not_sent=figures.incomplete,
        answered_hz=figures.answered_hz,
        published_p50=figures.published.p50,
        published_p95=figures.published.p95,
        published_max=figures.published.most,
        received_p50=figures.received.p50,
        received_p95=figures.received.p95,
        received_max=figures.received.most,
        node_cpu=trial.node_cpu,
        cameras_cpu=trial.cameras_cpu,
        target=("met" if met else "missed") if is_target else None,
        report=trial.report,
    )
