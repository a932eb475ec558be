"""The node as a program: images from another process through DDS and the real network, signals, exit codes."""

import signal

import numpy as np
import pytest
from camera_program import FIRST_NS, NAMES, PERIOD_NS, SIZE_HW
from camera_program import K as K_SENT
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import NS, PATIENCE_S, DiagnosticsListener, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from da3_ros.msg import WindowEstimate

pytestmark = pytest.mark.ros

CAMERAS = "cameras:=[front, left, right]"
AUTOSTART = ("-p", "autostart:=true", "-p", CAMERAS)
PROCESS_RES = 112


def by_stamp(messages):
    return {message.header.stamp.sec * NS + message.header.stamp.nanosec: message for message in messages}


def test_images_of_three_cameras_become_depth_clouds_poses_and_tf(graph, start_program):
    start_program(script="camera_program.py")
    settings = {
        "model.checkpoint": "random",
        "model.device": "cpu",
        "model.cpu_threads": 1,
        "model.process_res": PROCESS_RES,
        "window.sets": 2,
        "points.min_confidence_percentile": 0.0,
    }
    node = start_program(*AUTOSTART, *(part for pair in settings.items() for part in ("-p", "{}:={}".format(*pair))))
    depth = {name: graph.listen(Image, f"/{name}/depth/image_rect") for name in NAMES}
    info = {name: graph.listen(CameraInfo, f"/{name}/depth/camera_info") for name in NAMES}
    points = {name: graph.listen(PointCloud2, f"/{name}/points") for name in NAMES}
    confidence = graph.listen(Image, "/left/confidence")
    merged = graph.listen(PointCloud2, "/points")
    window = graph.listen(WindowEstimate, "/window")
    odometry = graph.listen(Odometry, "/odometry")
    tf = graph.listen(TFMessage, "/tf")
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    tf_static = graph.listen(TFMessage, "/tf_static", latched)
    diagnostics = DiagnosticsListener(graph)

    topics = [*depth.values(), *info.values(), *points.values(), confidence, merged, window, odometry, tf]
    wait_until(lambda: all(len(messages) > 2 for messages in topics), 200.0, node.output())

    # The longest side is process_res, and the other one keeps the aspect ratio.
    height, width = PROCESS_RES * SIZE_HW[0] // SIZE_HW[1], PROCESS_RES
    for name in NAMES:
        images, infos, clouds = by_stamp(depth[name]), by_stamp(info[name]), by_stamp(points[name])
        stamp_ns = max(images.keys() & infos.keys() & clouds.keys())
        assert (stamp_ns - FIRST_NS) % PERIOD_NS == 0
        image, calibration, cloud = images[stamp_ns], infos[stamp_ns], clouds[stamp_ns]
        assert image.header.frame_id == calibration.header.frame_id == cloud.header.frame_id == f"{name}_optical"
        assert (image.height, image.width) == (calibration.height, calibration.width) == (height, width)
        K = calibration.k.reshape(3, 3)
        # Calibrated, so the rays are those of the CameraInfo that was sent: each axis scales with its own size.
        np.testing.assert_allclose(K[0, 0], K_SENT[0] * width / SIZE_HW[1], rtol=1e-6)
        np.testing.assert_allclose(K[1, 1], K_SENT[4] * height / SIZE_HW[0], rtol=1e-6)
        np.testing.assert_allclose(K[:2, 2], [(width - 1) / 2, (height - 1) / 2], atol=0.51)
        z = np.frombuffer(image.data, np.float32).reshape(height, width)
        assert image.encoding == "32FC1" and np.isfinite(z).all() and (z > 0).all()
        xyz = np.frombuffer(cloud.data, np.float32).reshape(height, width, 4)[..., :3]
        row, column = 11, 23
        ray = np.linalg.inv(K) @ (column, row, 1.0)
        np.testing.assert_allclose(xyz[row, column], z[row, column] * ray, rtol=1e-4)
    assert (confidence[-1].height, confidence[-1].width) == (height, width)
    assert merged[-1].header.frame_id == "odom" and merged[-1].width == 3 * height * width

    # A set of the first moments, before every subscription was matched, may lack a camera.
    estimate = wait_until(lambda: next((message for message in window if len(message.views) == 6), None))
    assert [view.camera for view in estimate.views] == list(NAMES) * 2
    assert [view.newest for view in estimate.views] == [False] * 3 + [True] * 3
    assert estimate.scale_source == "none" and not estimate.weights_trained
    # The rig is known from /tf_static, so odometry is that of the base.
    pose = wait_until(lambda: odometry[-1].child_frame_id == "base_link" and odometry[-1])
    assert pose.header.frame_id == "odom"
    frames = {(t.header.frame_id, t.child_frame_id) for message in tf[-3:] for t in message.transforms}
    assert frames == {("odom", "base_link")} | {("odom", f"{name}_optical_estimated") for name in NAMES}
    assert ("map", "odom") in {(t.header.frame_id, t.child_frame_id) for m in tf_static for t in m.transforms}

    wait_until(lambda: diagnostics.says("pipeline", "the weights are random"))
    for stage in ("sync", "decode", "step", "publish", "total"):
        assert float(diagnostics.value("pipeline", f"{stage} p95 (ms)")) >= 0.0
    assert "Traceback" not in node.output()


@pytest.mark.parametrize(
    ("transport", "number"),
    [
        ("", signal.SIGINT),
        ("LARGE_DATA", signal.SIGTERM),
        pytest.param("", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("LARGE_DATA", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_node_cleanly(start_program, number, transport):
    environ = {"FASTDDS_BUILTIN_TRANSPORTS": transport} if transport else {}
    start_program(script="camera_program.py", **environ)
    node = start_program(*AUTOSTART, script="fake_node.py", **environ)
    node.wait_for_output("step 3")
    code, seconds = node.end(number)
    assert (code, seconds < 2.0) == (0, True), seconds
    assert "Traceback" not in node.output()


@pytest.mark.parametrize(
    ("environ", "when"),
    [({"LOAD_S": "60"}, "loading"), ({"WARM_UP_S": "60"}, "warming up"), ({"DELAY_S": "60"}, "step 1")],
)
def test_a_signal_ends_the_node_while_it_is_busy(start_program, environ, when):
    start_program(script="camera_program.py")
    node = start_program(*AUTOSTART, script="fake_node.py", **environ)
    node.wait_for_output(when)
    code, seconds = node.end(signal.SIGINT)
    assert (code, seconds < 2.0) == (0, True), seconds
    assert "Traceback" not in node.output() and "FATAL" not in node.output()


def test_a_signal_that_another_thread_gets_ends_the_node_too(start_program):
    """The system may give it to any thread of the process."""
    node = start_program("-p", CAMERAS, script="fake_node.py", SIGNAL_TO_A_THREAD="1")
    assert node.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in node.output()


def test_a_start_that_fails_says_one_line_and_exits_with_1(start_program):
    node = start_program("-p", "autostart:=true", "-p", CAMERAS, "-p", "sync.slop:=0.1", "-p", "window.sets:=0")
    assert node.process.wait(PATIENCE_S) == 1
    lines = node.output().splitlines()
    assert len(lines) == 1 and "sync.slop_s" in lines[0] and "window.sets" in lines[0]


def test_a_parameter_file_that_cannot_be_read_says_one_line_and_exits_with_1(start_program, tmp_path):
    (tmp_path / "bad.yaml").write_text("da3_node:\n  ros__parameters:\n    cameras: [front, 3]\n")
    node = start_program("--params-file", str(tmp_path / "bad.yaml"))
    assert node.process.wait(PATIENCE_S) == 1
    lines = node.output().splitlines()  # the first one is rcl's own
    assert len(lines) == 2 and lines[1].startswith("da3_node: ") and "bad.yaml" in lines[1]


def test_a_bug_ends_the_process_with_1_and_its_traceback(start_program):
    start_program(script="camera_program.py")
    node = start_program(*AUTOSTART, script="fake_node.py", BUG="CUDA error: device-side assert")
    assert node.process.wait(PATIENCE_S) == 1
    assert "Traceback" in node.output() and "CUDA error: device-side assert" in node.output()


def test_without_autostart_the_node_waits_and_says_so(graph, start_program):
    node = start_program("-p", CAMERAS, script="fake_node.py")
    node.wait_for_output("autostart:=true")
    assert graph.state() == "unconfigured"
    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.change_state(Transition.TRANSITION_ACTIVATE)
    assert graph.state() == "active"
    assert node.end()[0] == 0
    # Others see at once that it is gone.
    wait_until(lambda: "da3_node" not in graph.node.get_node_names(), 3.0)
