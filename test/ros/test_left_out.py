"""Sets that barely moved: nothing is published for them, and they are counted."""

import numpy as np
from ros_harness import wait_until

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.ros.engine import Engine, EngineHooks, ImageSet
from da3_ros.ros.stats import Stats

_COUNTER = "sets left out, barely moved"


class _StillPipeline:
    """Leaves out every set."""

    description = {"device": "fake"}
    skipped = 0

    def submit(self, frame_set, request):
        self.skipped += 1

    def close(self):
        pass


def test_sets_that_barely_moved_are_counted_and_not_published():
    published, failures = [], []
    hooks = EngineHooks(
        decode=lambda image_set: FrameSet(image_set.stamp_ns, tuple(image_set.images.values())),
        request=OutputRequest,
        rig=lambda frames: None,
        publish=lambda estimate, description: published.append(estimate),
        dropped=failures.append,
        failed=failures.append,
    )
    stats = Stats(("left",))
    engine = Engine(from_flat({"cameras": ("left",)}, Config), lambda _: _StillPipeline(), hooks, stats)
    try:
        for number in range(3):
            frame = Frame("left", number, np.zeros((2, 2, 3), np.uint8))
            engine.submit(ImageSet(number, {"left": frame}, 0.0, 0.0))
            wait_until(lambda number=number: stats.counts()[_COUNTER] == number + 1)
    finally:
        engine.close(5.0)
    assert not published
    assert not failures
