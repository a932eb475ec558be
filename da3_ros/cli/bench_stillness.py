"""What ``window.skip_below`` leaves out of a sequence of pictures, and how much depth had changed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.datatypes import Frame, FrameSet
from da3_ros.model.layout import Network
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.stillness import Stillness


@dataclass(frozen=True)
class StillnessRow:
    """One threshold. ``change_percent``: median relative difference, after the median ratio is taken out, between the
    depth of a picture that was left out and that of the last one before it that was not; over all left out, the
    median and the largest. None where nothing was left out."""

    skip_below: float
    pictures: int
    left_out_percent: float
    change_percent: float | None = None
    largest_change_percent: float | None = None


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
    stream = StreamingDA3(model, WindowConfig(sets=views, process_res=process_res, ref_view="first"))
    tests = [Stillness(threshold) for threshold in thresholds]
    used: list[torch.Tensor | None] = [None] * len(tests)  # depth of the last picture that was not left out
    changes: list[list[float]] = [[] for _ in tests]
    for number, picture in enumerate(pictures):
        stamp_ns = int(number * period_s * 1e9)
        frame_set = FrameSet(stamp_ns, (Frame("camera", stamp_ns, picture),))
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
            float(np.median(found)) if found else None,
            max(found, default=None),
        )
        for threshold, found in zip(thresholds, changes, strict=True)
    ]
