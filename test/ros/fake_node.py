"""The node as a program, with the pipeline of fake_pipeline.

From the environment: ``LOAD_S``, ``WARM_UP_S`` and ``DELAY_S``, seconds that loading, the warm-up (without it there is
none) and each step take; ``BUG``, what a step raises. Says when it loads and warms up, and when a step begins.
"""

import os
import time

from fake_pipeline import FakePipeline

from da3_ros.ros.node import Da3Node
from da3_ros.ros.process import end_process, run


class TellingPipeline(FakePipeline):
    """Prints the number of each step as it begins."""

    warms_up = "WARM_UP_S" in os.environ

    def warm_up(self, calibrations):
        print("warming up", flush=True)
        time.sleep(float(os.environ["WARM_UP_S"]))

    def submit(self, frame_set, request):
        print("step", self.steps + 1, flush=True)
        return super().submit(frame_set, request)


def make_pipeline(config):
    print("loading", flush=True)
    time.sleep(float(os.environ.get("LOAD_S", "0")))
    pipeline = TellingPipeline(config)
    if "BUG" in os.environ:
        pipeline.error = RuntimeError(os.environ["BUG"])
    pipeline.delay_s = float(os.environ.get("DELAY_S", "0"))
    return pipeline


if __name__ == "__main__":
    end_process(run(lambda: Da3Node(make_pipeline)))
