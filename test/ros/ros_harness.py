"""What the tests of da3_ros.ros share: simulated cameras, a listener, the node in this process or in its own."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

ROOT = Path(__file__).resolve().parents[2]
_RUN_NODE = "from da3_ros.ros.node import main; main()"


def _take_domain() -> int:
    """A ROS domain that no other test run on this machine uses; the lock lasts as long as the process.

    Below 101, where DDS ports cannot meet ephemeral ones. Programs started by a test get its domain.
    """
    if "DA3_ROS_TEST_DOMAIN" in os.environ:
        return int(os.environ["DA3_ROS_TEST_DOMAIN"])
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        lock = (Path(tempfile.gettempdir()) / f"da3_ros_test_domain_{domain}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _LOCKS.append(lock)
        return domain
    raise RuntimeError("100 test runs at once: no ROS domain is left")


_LOCKS: list = []
DOMAIN = _take_domain()
NS = 1_000_000_000
SIZE_HW = (48, 64)
K = (40.0, 0.0, 31.5, 0.0, 41.0, 23.5, 0.0, 0.0, 1.0)
PATIENCE_S = 100.0  # what comes at all comes far sooner, except on a machine that is busy with much else
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def wait_until(condition, timeout_s: float = PATIENCE_S, what: str = "") -> Any:
    """The first true value of ``condition``; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"nothing within {timeout_s} s: {what or condition}"
        time.sleep(0.01)


def make_image(stamp_ns: int, frame_id: str, size_hw=SIZE_HW, pixels: bytes = b"") -> Image:
    """A bgr8 image, plain where no ``pixels`` are given."""
    height, width = size_hw
    image = Image(height=height, width=width, encoding="bgr8", step=3 * width)
    image.header.frame_id = frame_id
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, NS)
    image.data = array("B", pixels or bytes([7]) * (3 * width * height))
    return image


def make_info(stamp_ns: int, frame_id: str, k=K, size_hw=SIZE_HW) -> CameraInfo:
    """CameraInfo of a pinhole camera."""
    info = CameraInfo(height=size_hw[0], width=size_hw[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = frame_id
    info.header.stamp.sec, info.header.stamp.nanosec = divmod(stamp_ns, NS)
    info.k = list(k)
    info.p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    return info


def end_context(context: Context):
    """Shut ``context`` down, and have what its nodes leave in reference cycles freed now.

    Later, a garbage collection in the middle of the next test would have to end this test's DDS participant.
    """
    rclpy.shutdown(context=context)
    gc.collect()


class Graph:
    """A context of its own with one node, spun in a thread."""

    def __init__(self):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("test_graph", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.failure: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while not self._stopping:
            try:
                self.executor.spin_once(timeout_sec=0.1)
            except BaseException as error:
                self.failure = error

    def call(self, function) -> Any:
        """The result of ``function``, run in the executor's thread as callbacks are."""
        task = self.executor.create_task(function)
        wait_until(task.done)
        return task.result()

    def close(self):
        self._stopping = True
        self._thread.join(5.0)
        self.node.destroy_node()
        # pytest keeps the fixture for a while; nothing in it may keep the DDS participant.
        self.node = self.executor = self.failure = None
        end_context(self.context)

    def listen(self, message_type, topic: str, qos=RELIABLE) -> list:
        """A list to which every message of ``topic`` is added."""
        messages: list = []
        self.node.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def request(self, service_type, name: str, request=None, timeout_s: float = PATIENCE_S) -> Any:
        """The response of the service ``name``."""
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request or service_type.Request())
        wait_until(future.done, timeout_s, name)
        self.node.destroy_client(client)
        return future.result()

    def change_state(self, transition: int, node: str = "/da3_node") -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.request(ChangeState, f"{node}/change_state", request).success

    def state(self, node: str = "/da3_node") -> str:
        return self.request(GetState, f"{node}/get_state").current_state.label


class Cameras:
    """Publishers of images, CameraInfo and /tf_static for some cameras; frame ids are ``<name>_optical``."""

    def __init__(self, graph: Graph, names=("left", "right"), image_qos=RELIABLE, size_hw=SIZE_HW, k=K, textured=False):
        self.names = names
        self.size_hw = size_hw
        self.k = k
        self.pixels = random.Random(0).randbytes(3 * size_hw[0] * size_hw[1]) if textured else b""
        self.stamp_ns = 1_700_000_000 * NS
        node = graph.node
        self.images = {n: node.create_publisher(Image, f"/{n}/image_raw", image_qos) for n in names}
        self.infos = {n: node.create_publisher(CameraInfo, f"/{n}/camera_info", RELIABLE) for n in names}
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf = node.create_publisher(TFMessage, "/tf_static", latched)

    def wait_for_subscriber(self, timeout_s: float = PATIENCE_S):
        """Until somebody has subscribed to everything."""
        publishers = [*self.images.values(), *self.infos.values()]
        wait_until(lambda: all(p.get_subscription_count() for p in publishers), timeout_s, "subscribers")

    def send_tf(self, base: str = "base_link"):
        """Camera number i is at (i, 0, 1) on the robot, looking forward."""
        message = TFMessage()
        for index, name in enumerate(self.names):
            transform = TransformStamped()
            transform.header.frame_id, transform.child_frame_id = base, f"{name}_optical"
            transform.transform.translation.x = float(index)
            transform.transform.translation.z = 1.0
            q = transform.transform.rotation
            q.x, q.y, q.z, q.w = -0.5, 0.5, -0.5, 0.5
            message.transforms.append(transform)
        self._tf.publish(message)

    def send(self, names=None, step_ns: int = 100_000_000, k=None, frame_ids=None, change=None) -> int:
        """One image and CameraInfo of each camera; returns the stamp. ``change(image)`` may spoil the image."""
        self.stamp_ns += step_ns
        for name in names or self.names:
            frame_id = (frame_ids or {}).get(name, f"{name}_optical")
            image = make_image(self.stamp_ns, frame_id, self.size_hw, self.pixels)
            if change is not None:
                change(image)
            self.infos[name].publish(make_info(self.stamp_ns, frame_id, k or self.k, self.size_hw))
            self.images[name].publish(image)
        return self.stamp_ns

    def send_until(self, condition, timeout_s: float = PATIENCE_S, period_s: float = 0.05, **how) -> Any:
        """Send sets until ``condition`` is true; returns its value."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"nothing within {timeout_s} s"
            self.send(**how)
            time.sleep(period_s)


def overrides(**values) -> list[Parameter]:
    """Parameter overrides: ``sync__slop_s=0.1`` is ``sync.slop_s``."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]


class Program:
    """A script of this folder, or the real node, as a process of its own. Its output goes to ``log``."""

    def __init__(self, tmp_path: Path, *arguments: str, script: str = "", **environ: str):
        self.log = tmp_path / f"{script or 'node'}.log"
        program = [str(Path(__file__).with_name(script))] if script else ["-c", _RUN_NODE]
        ros_arguments = ["--ros-args", *arguments] if arguments else []
        paths = [str(ROOT), str(Path(__file__).parent)]
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(DOMAIN),
            "DA3_ROS_TEST_DOMAIN": str(DOMAIN),
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
            **environ,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, *ros_arguments], stdout=log, stderr=log, env=environment, cwd=ROOT
            )

    def output(self) -> str:
        return self.log.read_text()

    def wait_for_output(self, text: str, timeout_s: float = PATIENCE_S):
        deadline = time.monotonic() + timeout_s
        while text not in self.output() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert text in self.output(), self.output()

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; the exit code and how long it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        return code, time.monotonic() - start

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class DiagnosticsListener:
    """The newest status of each name on /diagnostics."""

    def __init__(self, graph: Graph):
        self.latest: dict[str, Any] = {}
        graph.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, RELIABLE)

    def _take(self, message):
        self.latest.update({status.name.removeprefix("da3_node: "): status for status in message.status})

    def says(self, name: str, *words: str) -> Any:
        """The status of ``name`` if its message holds all ``words``, else None."""
        status = self.latest.get(name)
        return status if status is not None and all(word in status.message for word in words) else None

    def value(self, name: str, key: str) -> str | None:
        """A value of the newest status of ``name``."""
        status = self.latest.get(name)
        return next((pair.value for pair in status.values if pair.key == key), None) if status else None
