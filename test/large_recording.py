"""Recordings as large as is asked for, and commands of ours in a process of their own that tells its peak memory.

DA3_ROS_BAG_GB says how large (in the temporary folder; 3 without).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.egress.bag import new_recording
from da3_ros.egress.message_types import message_builder
from da3_ros.share import share_folder

GIGABYTES = float(os.environ.get("DA3_ROS_BAG_GB", "3"))
WIDTH, HEIGHT, RATE_HZ = 1280, 720, 30
FRAMES = int(GIGABYTES * 1e9 / (WIDTH * HEIGHT * 3))
SMALL = (90, 160)  # true depth
START_NS = 1_700_000_000_000_000_000
# In a process of its own, whose memory is looked at: the whole command, but for a network, which would take hours.
COMMAND = """
import json, resource, sys, time
from types import SimpleNamespace
import numpy as np
from da3_ros.cli.main import main
from da3_ros.datatypes import CameraOutput, Estimate, ScaleEstimate, ViewEstimate
from da3_ros.cli import replay
from da3_ros.evaluation import segments

class StandIn:
    description = {"variant": "none", "weights_trained": True}
    def __init__(self, config, repeatable=False):
        self.K = np.array([[100.0, 0, 79.5], [0, 100, 44.5], [0, 0, 1]])
        self.depth = np.linspace(1, 3, 90 * 160, dtype=np.float32).reshape(90, 160)
    def submit(self, frame_set, request):
        (frame,) = frame_set.frames
        T = np.eye(4)
        T[:3, 3] = (np.sin(frame.stamp_ns / 3e9), np.cos(frame.stamp_ns / 3e9), frame.stamp_ns % 10**12 / 1e12)
        about = frame.camera, frame.stamp_ns, frame.frame_id
        view = ViewEstimate(*about, True, False, T, (90, 160), self.K, self.K, 1.0)
        size = self.depth * np.float32(1 + frame.image[0, 0, 0] / 1000)
        output = CameraOutput(*about, self.K, (90, 160), size, self.depth)
        estimate = Estimate(frame.stamp_ns, 1, (view,), (output,), T, ScaleEstimate(), timings_ms={"none": 0.0})
        return SimpleNamespace(result=lambda: estimate)
    def set_rig(self, rig): pass
    def reset(self): pass

segments.Pipeline = replay.Pipeline = StandIn
started = time.perf_counter()
assert main(sys.argv[1:]) == 0
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def write(path: Path, frames: int) -> None:
    """Raw pictures with true depth and poses; every picture has other pixels."""
    build = message_builder()
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    depth = np.linspace(1, 3, SMALL[0] * SMALL[1], dtype=np.float32).reshape(SMALL)
    K = np.array([[800.0, 0, WIDTH / 2 - 0.5], [0, 800, HEIGHT / 2 - 0.5], [0, 0, 1]])
    calibration = CameraCalibration(WIDTH, HEIGHT, K)
    with new_recording(path) as recording:
        for number in range(frames):
            at = START_NS + number * 1_000_000_000 // RATE_HZ
            pixels[0, 0] = number % 251
            T = np.eye(4)
            T[:3, 3] = (np.sin(at / 3e9), np.cos(at / 3e9), at % 10**12 / 1e12)
            recording.write("/front/camera_info", at, build.camera_info(calibration, at, "front"))
            recording.write("/front/image_raw", at, build.image(pixels, at, "front"))
            recording.write("/front/ground_truth/depth", at, build.image(depth, at, "front"))
            recording.write("/ground_truth/odometry", at, build.odometry(T, at, "world", "front"))


def run_alone(*arguments: str) -> dict:
    """``seconds`` that ``da3-ros`` took, and ``bytes`` of memory at most."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=share_folder(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def told(what: str, size: int, written_s: float, found: dict, least: int) -> str:
    """A line about both."""
    return (
        f"\n{size / 1e9:.2f} GB, {FRAMES} pictures (written in {written_s:.0f} s): {what} in {found['seconds']:.0f} s, "
        f"{FRAMES / RATE_HZ / found['seconds']:.1f} times real time, in {found['bytes'] / 1e6:.0f} MB of memory "
        f"(100 pictures: {least / 1e6:.0f} MB)"
    )
