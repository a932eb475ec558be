"""The node as a program, with the pipeline of fake_pipeline.

From the environment: ``LOAD_S``, ``WARM_UP_S`` and ``DELAY_S``, seconds that loading, the warm-up (without it there is
none) and each step take; ``BUG``, what a step raises; ``SIGNAL_TO_A_THREAD``, seconds after the start at which a thread
that is not the main one gets SIGINT. Says when it loads and warms up, and when a step begins.
"""

import os
import signal
import threading
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


class InterruptedNode(Da3Node):
    """A thread gets SIGINT, once the main one waits for signals."""

    def start(self):
        threading.Thread(target=self._interrupt, daemon=True).start()
        return super().start()

    def _interrupt(self):
        time.sleep(float(os.environ["SIGNAL_TO_A_THREAD"]))
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)


if __name__ == "__main__":
    node_class = InterruptedNode if "SIGNAL_TO_A_THREAD" in os.environ else Da3Node
    end_process(run(lambda: node_class(make_pipeline)))
