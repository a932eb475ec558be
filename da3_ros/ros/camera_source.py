"""A camera that runs like clockwork, for measurements: ``python -m da3_ros.ros.camera_source NAME``.

It is triggered at whole multiples of its period since 1970 and stamps its images with that time, so that cameras in
processes of their own agree about the stamps of a set without talking to each other, as cameras on one trigger line
do. On SIGINT or SIGTERM it prints one line of JSON with what it sent.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from array import array
from collections.abc import Sequence

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from da3_ros.geometry.se3 import T_BODY_OPTICAL
from da3_ros.ros import rcl
from da3_ros.ros.compat.tf2_ros import StaticTransformBroadcaster
from da3_ros.ros.stamped import set_stamp
from da3_ros.ros.to_msg import to_transform

_NS = 1_000_000_000
_FOV_DEG = 70.0  # horizontal


class CameraSource(Node):
    """Publishes images with texture, their CameraInfo, and its place ``index`` of ``count`` on a ring about the base.

    ``size_hw``: pixels. Messages are serialized once; each one sent is a copy with a new stamp.
    """

    def __init__(self, name: str, size_hw: tuple[int, int], index: int, count: int, base: str, reliability: str):
        super().__init__(f"{name}_source")
        frame_id = f"{name}_optical"
        policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
        profile = QoSProfile(depth=5, reliability=policy)
        self._image = self.create_publisher(Image, f"{name}/image_raw", profile)
        self._info = self.create_publisher(CameraInfo, f"{name}/camera_info", profile)
        self._image_bytes = bytearray(serialize_message(_image(size_hw, frame_id, index)))
        self._info_bytes = bytearray(serialize_message(_info(size_hw, frame_id)))
        self._tf = StaticTransformBroadcaster(self)
        T_base_cam = _on_ring(2 * math.pi * index / count)
        self._tf.sendTransform(to_transform(T_base_cam, time.time_ns(), base, frame_id))

    def send(self, stamp_ns: int) -> None:
        """Publish one image and its CameraInfo."""
        for publisher, data in ((self._info, self._info_bytes), (self._image, self._image_bytes)):
            set_stamp(data, stamp_ns)
            rcl.publish(publisher, np.frombuffer(data, np.uint8))


def run(source: CameraSource, period_ns: int, ended: list[bool]) -> tuple[list[int], int]:
    """Send at every multiple of ``period_ns`` until something is in ``ended``; returns the stamps that were sent.

    A trigger that comes while the last image is still being sent is missed, as with a real camera; the second value
    is how many were.
    """
    stamps: list[int] = []
    missed = 0
    tick = time.time_ns() // period_ns + 1
    while not ended:
        time.sleep(max(0.0, (tick * period_ns - time.time_ns()) / _NS))
        source.send(tick * period_ns)
        stamps.append(tick * period_ns)
        following = max(tick + 1, time.time_ns() // period_ns)
        missed += following - tick - 1
        tick = following
    return stamps, missed


def _image(size_hw: tuple[int, int], frame_id: str, seed: int) -> Image:
    """Coarse and fine noise, so that the network has something to look at."""
    height, width = size_hw
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 200, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(coarse, 40, axis=0), 40, axis=1)[:height, :width]
    pixels = pixels + random.integers(0, 56, (height, width, 3), dtype=np.uint8)
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", pixels.tobytes()))
    message.header.frame_id = frame_id
    return message


def _info(size_hw: tuple[int, int], frame_id: str) -> CameraInfo:
    height, width = size_hw
    focal = width / 2 / math.tan(math.radians(_FOV_DEG) / 2)
    k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    message = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5, k=k)
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    message.header.frame_id = frame_id
    return message


def _on_ring(yaw: float) -> np.ndarray:
    """T_base_cam (4, 4) of a camera 0.3 m from the base's axis and 1 m above it that looks outwards at ``yaw``."""
    c, s = math.cos(yaw), math.sin(yaw)
    T_base_body = np.array([[c, -s, 0, 0.3 * c], [s, c, 0, 0.3 * s], [0, 0, 1, 1], [0, 0, 0, 1]])
    return T_base_body @ T_BODY_OPTICAL


def main(arguments: Sequence[str] | None = None) -> int:
    """Be one camera until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the camera; its topics are NAME/image_raw and NAME/camera_info")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rate", type=float, required=True, help="images a second")
    parser.add_argument("--place", type=int, nargs=2, default=(0, 1), metavar=("INDEX", "COUNT"), help="on the ring")
    parser.add_argument("--base", default="base_link", help="frame in which the ring is")
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="best_effort")
    args = parser.parse_args(arguments)
    ended: list[bool] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(True))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    (width, height), (index, count) = args.size, args.place
    source = CameraSource(args.name, (height, width), index, count, args.base, args.reliability)
    stamps, missed = run(source, round(_NS / args.rate), ended)
    print(json.dumps({"stamps": stamps, "missed": missed}))
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
