"""What ``window.skip_below`` leaves out of a sequence of pictures, how much depth had changed there, what it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from da3_ros.cli.bench_timing import Repeats, run_times
from da3_ros.datatypes import Frame, FrameSet
from da3_ros.model.layout import Network
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.stillness import Stillness


@dataclass(frozen=True)
class StillnessRow:
    """One threshold. ``change_percent``: median relative difference, after the median ratio is taken out, between the
    depth of a picture that was left out and that of the last one before it that was not; over all left out, the
    median and the largest. ``left_out_ms`` and ``used_ms``: median time of a step whose picture is left out, and of
    one whose picture is used by a full window. None where there was no such picture."""

    skip_below: float
    pictures: int
    left_out_percent: float
    change_percent: float | None = None
    largest_change_percent: float | None = None
    left_out_ms: float | None = None
    used_ms: float | None = None


def measure_stillness(
    model: Network,
    pictures: Sequence[np.ndarray],
    thresholds: Sequence[float],
    period_s: float,
    process_res: int,
    views: int,
) -> list[StillnessRow]:
    """One row for each threshold, for ``pictures`` of one camera taken every ``period_s`` seconds.

    Depth is that of an exact window of so many ``views`` that sees every picture.
    """
    window = WindowConfig(sets=views, process_res=process_res, ref_view="first")
    frame_sets = [_frame_set(picture, int(number * period_s * 1e9)) for number, picture in enumerate(pictures)]
    stream = StreamingDA3(model, window)
    tests = [Stillness(threshold) for threshold in thresholds]
    used: list[torch.Tensor | None] = [None] * len(tests)  # depth of the last picture that was not left out
    changes: list[list[float]] = [[] for _ in tests]
    for frame_set in frame_sets:
        prediction = stream.step(frame_set)
        assert prediction is not None
        for index, test in enumerate(tests):
            last = used[index]
            if test.moved(frame_set, prediction.colours) or last is None:
                used[index] = prediction.depth.clone()
            else:
                ratio = prediction.depth / last
                changes[index].append(100 * float((ratio / ratio.median() - 1).abs().median()))
    return [
        StillnessRow(
            threshold,
            len(pictures),
            100 * len(found) / len(pictures),
            median(found) if found else None,
            max(found, default=None),
            *_step_ms(model, frame_sets, replace(window, skip_below=threshold)),
        )
        for threshold, found in zip(thresholds, changes, strict=True)
    ]


def _frame_set(picture: np.ndarray, stamp_ns: int) -> FrameSet:
    return FrameSet(stamp_ns, (Frame("camera", stamp_ns, picture),))


def _step_ms(model: Network, frame_sets: Sequence[FrameSet], window: WindowConfig) -> tuple[float | None, float | None]:
    """Median time of the steps that ``window.skip_below`` leaves out, and of the others once the window is full."""
    stream = StreamingDA3(model, window)
    once = Repeats(0.0, warm_up=0, least=1)
    left_out: list[float] = []
    used: list[float] = []
    for frame_set in frame_sets:
        skipped = stream.skipped
        (elapsed,) = run_times(lambda frame_set=frame_set: stream.step(frame_set), model.device, once)  # type: ignore[misc]
        if stream.skipped > skipped:
            left_out.append(elapsed)
        elif len(stream.slots) == window.sets:
            used.append(elapsed)
    return (median(left_out) if left_out else None), (median(used) if used else None)
