"""Three cameras as a program of their own: noise of 240x320 pixels, CameraInfo and /tf_static, at 10 Hz."""

import signal
import time

from ros_harness import NS, Cameras, Graph

NAMES = ("front", "left", "right")
SIZE_HW = (240, 320)
K = (200.0, 0.0, 159.5, 0.0, 210.0, 119.5, 0.0, 0.0, 1.0)
FIRST_NS = 1_700_000_000 * NS
PERIOD_NS = NS // 10

if __name__ == "__main__":
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    graph = Graph()
    cameras = Cameras(graph, NAMES, size_hw=SIZE_HW, k=K, textured=True)
    cameras.stamp_ns = FIRST_NS
    cameras.send_tf()
    while not ending:
        cameras.send(step_ns=PERIOD_NS)
        time.sleep(PERIOD_NS / NS)
    graph.close()
