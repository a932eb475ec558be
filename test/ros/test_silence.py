"""Cameras that stop, come late or never come: the node goes on, and says which camera and why."""

import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import NS, Cameras, DiagnosticsListener, Graph, make_image, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

pytestmark = pytest.mark.ros

QUICK = {"diagnostics__silent_after_s": 0.3, "sync__timeout_s": 0.2}


@pytest.fixture
def diagnostics(graph):
    return DiagnosticsListener(graph)


@pytest.fixture
def start(make_node):
    """Makes an active node that notices silence quickly."""

    def start(**parameters):
        node = make_node(**(QUICK | parameters))
        node.configure()
        node.activate()
        return node

    return start


def test_a_camera_that_stops_is_done_without_until_it_returns(cameras, start, diagnostics):
    node = start()
    cameras.send_tf()
    last = lambda: node.pipeline.called("step")[-1][0].cameras  # noqa: E731
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: node.pipeline.called("step"))
    assert last() == ("left", "right")

    cameras.send_until(lambda: last() == ("left",), names=("left",))
    status = cameras.send_until(lambda: diagnostics.says("camera right", "no image for"), names=("left",))
    assert status.level == DiagnosticStatus.ERROR
    assert "compatible QoS (/test_graph (reliable, volatile))" in status.message
    assert cameras.send_until(lambda: diagnostics.says("synchronization", "go on without right"), names=("left",))

    cameras.send_until(lambda: last() == ("left", "right"))
    assert cameras.send_until(lambda: diagnostics.latest["camera right"].message.endswith("Hz"))
    assert diagnostics.latest["camera right"].level == DiagnosticStatus.OK


def test_too_few_cameras_make_no_sets(cameras, start, diagnostics):
    node = start(sync__min_cameras=2)
    cameras.wait_for_subscriber()
    words = ("only 1 of 2 cameras send", "sync.min_cameras is 2", "silent: right")
    assert cameras.send_until(lambda: diagnostics.says("synchronization", *words), names=("left",))
    assert node.pipeline.called("step") == []


def test_no_publisher_names_the_topic_the_parameter_and_a_similar_topic(graph, start, diagnostics):
    start()
    graph.node.create_publisher(Image, "/left_camera/image_raw", 1)
    words = ("no image yet", "no publisher on /left/image_raw", "camera.left.image_topic")
    wait_until(lambda: diagnostics.says("camera left", *words, "there is one on /left_camera/image_raw"))


def test_another_message_type_is_named_with_the_mend(graph, start, diagnostics):
    start()
    other = Graph()  # one DDS participant cannot have a topic with two types
    other.node.create_publisher(CompressedImage, "/left/image_raw", 1)
    words = ("/left/image_raw carries sensor_msgs/msg/CompressedImage", "set camera.left.transport")
    wait_until(lambda: diagnostics.says("camera left", *words))
    other.close()


def test_incompatible_qos_is_named_with_what_is_offered_and_requested(graph, start, diagnostics):
    start(**{"qos_overrides./left/image_raw.subscription.reliability": "reliable"})
    Cameras(graph, image_qos=QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    words = (
        "incompatible QoS on /left/image_raw",
        "offered by /test_graph (best_effort, volatile)",
        "requested reliable, volatile",
    )
    wait_until(lambda: diagnostics.says("camera left", *words))


def test_skewed_stamps_are_measured(cameras, start, diagnostics):
    start(sync__timeout_s=1.0)
    cameras.wait_for_subscriber()

    def shift(image):
        if image.header.frame_id == "right_optical":
            image.header.stamp = make_image(cameras.stamp_ns + 40_000_000, "").header.stamp

    words = ("stamps are 40 ms later than those of the other cameras", "sync.slop_s (20 ms)")
    assert cameras.send_until(lambda: diagnostics.says("camera right", *words), change=shift)
    assert diagnostics.says("camera left", "40 ms earlier")


def ahead(cameras, by_ns):
    """A change to images that sets the stamps of the right camera ahead."""

    def change(image):
        if image.header.frame_id == "right_optical":
            image.header.stamp = make_image(cameras.stamp_ns + by_ns, "").header.stamp

    return change


def test_cameras_that_send_but_never_fit_are_an_error(cameras, start, diagnostics):
    start(sync__timeout_s=1.0)
    cameras.wait_for_subscriber()
    shift = ahead(cameras, 150_000_000)
    words = ("left, right send", "no images have fitted", "right:", "150 ms ahead", "sync.slop_s (20 ms)")
    status = cameras.send_until(
        lambda: diagnostics.says("synchronization", *words), change=shift, period_s=0.1, timeout_s=20
    )
    assert status.level == DiagnosticStatus.ERROR
    assert "nearest stamps 50 ms away" in status.message


def test_a_clock_an_hour_ahead_is_named_and_not_called_late(cameras, start, diagnostics):
    node = start()
    cameras.wait_for_subscriber()
    shift = ahead(cameras, 3600 * NS)
    without = "sets go on without left (its clock is"
    assert cameras.send_until(lambda: diagnostics.says("synchronization", without), change=shift)
    assert "behind" in diagnostics.value("synchronization", "cameras not waited for")
    assert cameras.send_until(lambda: diagnostics.says("camera left", "earlier", "left out"), change=shift)
    assert node.pipeline.called("step")[-1][0].cameras == ("right",)
    assert not diagnostics.says("camera left", "late camera")
    assert not diagnostics.says("camera right", "late camera")


def test_the_late_camera_is_named(cameras, start, diagnostics):
    start(sync__timeout_s=2.0)
    cameras.wait_for_subscriber()

    def send_right_later():
        cameras.send(names=("left",))
        time.sleep(0.2)
        cameras.send(names=("right",), step_ns=0)
        return diagnostics.says("camera right", "the late camera")

    wait_until(send_right_later)
    assert not diagnostics.says("camera left", "the late camera")


def test_trouble_is_logged_once_and_its_end_too(cameras, start, diagnostics, capfd):
    start(diagnostics__period_s=0.1)
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: diagnostics.says("camera right", "no image"), names=("left",))
    deadline = time.monotonic() + 0.5
    cameras.send_until(lambda: time.monotonic() > deadline, names=("left",))
    cameras.send_tf()
    cameras.send_until(lambda: diagnostics.latest["camera right"].message.endswith("Hz"))
    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if "camera right: no image" in line]) == 1
    assert len([line for line in lines if "camera right: all is well again" in line]) == 1


def test_simulated_time_that_stands_still_stops_nothing(graph, cameras, start, diagnostics):
    node = start(use_sim_time=True)
    clock = graph.node.create_publisher(Clock, "/clock", 1)
    cameras.stamp_ns = 5 * NS
    cameras.wait_for_subscriber()
    message = Clock()
    message.clock.sec = 5
    clock.publish(message)
    cameras.send_until(lambda: node.pipeline.called("step"))
    # The right camera is done without although the clock does not move.
    cameras.send_until(lambda: node.pipeline.called("step")[-1][0].cameras == ("left",), names=("left",))
    wait_until(lambda: diagnostics.says("camera right", "no image"))
