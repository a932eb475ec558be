"""Bad input: each kind gives one clear diagnostic that names the camera, and the node goes on with what is good."""

import math
from array import array

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import serialize_message
from ros_harness import NS, DiagnosticsListener, make_image, wait_until
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

pytestmark = pytest.mark.ros


@pytest.fixture
def diagnostics(graph):
    return DiagnosticsListener(graph)


def cut_data(image):
    image.data = image.data[:-1]


def set_encoding(image):
    image.encoding = "banana8"


def make_empty(image):
    image.height = image.width = image.step = 0
    image.data = array("B")


def shorten_step(image):
    image.step = 64


def grow(image):
    other = make_image(1, "x", size_hw=(24, 32))
    image.height, image.width, image.step, image.data = other.height, other.width, other.step, other.data


def make_depth(image):
    image.encoding, image.step = "32FC1", 256
    image.data = array("B", bytes(4 * 64 * 48))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_data, ["data has 9215 bytes", "9216"]),
        (set_encoding, ["banana8"]),
        (make_empty, ["0x0 pixels"]),
        (shorten_step, ["step is 64 bytes"]),
        (grow, ["32x24", "CameraInfo describes 64x48"]),
        (make_depth, ["32FC1 is no picture"]),
    ],
)
def test_a_bad_image_is_left_out_and_named(cameras, active_node, diagnostics, change, words):
    steps = active_node.pipeline.called
    cameras.wait_for_subscriber()

    def spoil(image):
        if image.header.frame_id == "right_optical":
            change(image)

    status = cameras.send_until(lambda: diagnostics.says("camera right", "camera 'right'", *words), change=spoil)
    assert status.level == DiagnosticStatus.ERROR
    assert "frames dropped so far" in status.message
    # The good camera goes on meanwhile, alone, and the other one comes back as soon as it is well.
    assert steps("step")[-1][0].cameras == ("left",)
    assert not diagnostics.latest["camera left"].message.startswith("camera 'left'")
    cameras.send_until(lambda: steps("step")[-1][0].cameras == ("left", "right"))


@pytest.mark.parametrize(
    ("k", "words"),
    [
        ([math.nan] * 9, "not finite"),
        ([0.0] * 9, "is zero"),
        ([-40.0, 0.0, 31.5, 0.0, 41.0, 23.5, 0.0, 0.0, 1.0], "not a pinhole camera"),
    ],
)
def test_bad_intrinsics_are_refused_and_named(cameras, active_node, diagnostics, k, words):
    cameras.wait_for_subscriber()
    how = {"names": ("left",), "k": k}
    assert cameras.send_until(lambda: diagnostics.says("camera left", "camera 'left'", words), **how)
    assert active_node.pipeline.called("step") == []
    cameras.send_until(lambda: active_node.pipeline.called("step"))


def test_bytes_that_are_no_message_are_named_and_end_nothing(graph, cameras, active_node, diagnostics):
    """As of somebody with another definition of the type."""
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    for kind, topic in ((TFMessage, "/tf"), (CameraInfo, "/left/camera_info")):
        publisher = graph.node.create_publisher(kind, topic, 10)
        wait_until(lambda publisher=publisher: publisher.get_subscription_count() > 0)
        publisher.publish(serialize_message(kind())[:5])
    words = ("camera 'left'", "what came on /left/camera_info is no CameraInfo")
    cameras.send_until(lambda: diagnostics.says("camera left", *words))
    steps = len(active_node.pipeline.called("step"))
    cameras.send_until(lambda: len(active_node.pipeline.called("step")) > steps)


def test_a_missing_camera_info_is_named_with_the_way_out(cameras, active_node, diagnostics, make_node):
    cameras.infos["left"].publish = lambda message: None
    cameras.wait_for_subscriber()
    words = ("no CameraInfo", "/left/camera_info", "camera.left.camera_info_topic to 'none'")
    assert cameras.send_until(lambda: diagnostics.says("camera left", *words))
    assert {frame_set.cameras for frame_set, _ in active_node.pipeline.called("step")} == {("right",)}


def test_images_without_a_stamp_are_named_and_reset_nothing(cameras, active_node, diagnostics):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    resets = len(active_node.pipeline.called("reset"))

    def unstamp(image):
        if image.header.frame_id == "right_optical":
            image.header.stamp.sec = image.header.stamp.nanosec = 0

    assert cameras.send_until(lambda: diagnostics.says("camera right", "stamp 0 ns"), change=unstamp)
    assert len(active_node.pipeline.called("reset")) == resets


def test_a_clock_that_jumps_back_resets_everything_once(cameras, active_node, diagnostics):
    pipeline = active_node.pipeline
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: pipeline.called("step"))
    resets = len(pipeline.called("reset"))
    cameras.stamp_ns -= 100 * NS
    jumped_ns = cameras.stamp_ns
    assert cameras.send_until(lambda: diagnostics.says("synchronization", "time went back by", "camera '"))
    cameras.send_until(lambda: pipeline.called("step")[-1][0].cameras == ("left", "right"))
    assert len(pipeline.called("reset")) == resets + 1
    stamps = [
        call[1].stamp_ns
        for call in pipeline.calls[max(i for i, c in enumerate(pipeline.calls) if c[0] == "reset") :]
        if call[0] == "step"
    ]
    assert stamps and max(stamps) < jumped_ns + 50 * NS


def test_images_that_arrive_out_of_order_are_dropped_and_named(cameras, active_node, diagnostics):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    late = lambda: cameras.images["left"].publish(make_image(cameras.stamp_ns - NS // 20, "left_optical"))  # noqa: E731

    def says():
        late()
        return diagnostics.says("camera left", "stamps older than the image before")

    assert cameras.send_until(says)
    assert int(diagnostics.value("camera left", "dropped: backward")) > 0
    assert not diagnostics.says("camera right", "stamps older")


def test_two_cameras_with_one_frame_are_both_named_and_have_no_place(cameras, active_node, diagnostics):
    cameras.wait_for_subscriber()
    cameras.send_tf()
    same = {"frame_ids": {"right": "left_optical"}}
    words = ("cameras left and right", "same frame_id 'left_optical'")
    for name in ("camera left", "camera right"):
        assert cameras.send_until(lambda name=name: diagnostics.says(name, *words), **same)
    assert active_node.pipeline.called("set_rig") == []
    cameras.send_until(lambda: active_node.pipeline.called("set_rig"))
    wait_until(lambda: not diagnostics.says("camera left", "same frame_id"))


def test_a_frame_that_only_the_pipeline_can_refuse_is_left_out(cameras, active_node, diagnostics):
    from da3_ros.errors import FrameError

    cameras.wait_for_subscriber()
    cameras.send_until(lambda: len(active_node.pipeline.called("step")) > 1)
    active_node.pipeline.error = FrameError("left", "calibration", "no usable view")
    assert cameras.send_until(lambda: diagnostics.says("camera left", "no usable view"))
    tried = lambda: [call[0].cameras for call in active_node.pipeline.called("step")]  # noqa: E731
    assert ("right",) in tried()
    cameras.send_until(lambda: tried()[-1] == ("left", "right"))


def test_what_the_pipeline_finds_wrong_with_a_camera_is_reported(cameras, active_node, diagnostics):
    active_node.pipeline.warnings = {"right": "CameraInfo gives 60 degrees, the network sees 90"}
    cameras.wait_for_subscriber()
    status = cameras.send_until(lambda: diagnostics.says("camera right", "the network sees 90"))
    assert status.level == DiagnosticStatus.WARN and not diagnostics.says("camera left", "degrees")
    active_node.pipeline.warnings = {}
    cameras.send_until(lambda: not diagnostics.says("camera right", "degrees"))


def test_bytes_that_are_no_image_are_left_out_and_named(cameras, active_node, diagnostics):
    """As of a broken bridge: the subscription takes them, the node says so and goes on."""
    cameras.wait_for_subscriber()

    def named():
        cameras.images["right"].publish(b"\0\1\0\0" + b"\1\0\0\0" * 3)
        return diagnostics.says("camera right", "camera 'right'", "is no image")

    wait_until(named, what="a diagnostic")
    both = ("left", "right")
    cameras.send_until(lambda: any(step[0].cameras == both for step in active_node.pipeline.called("step")))
