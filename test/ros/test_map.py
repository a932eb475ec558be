"""Map, masks and map -> odom over DDS: topics, the save service, diagnostics."""

import threading

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import DiagnosticsListener, wait_until
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

pytestmark = pytest.mark.ros
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def diagnostics(graph):
    return DiagnosticsListener(graph)


def test_map_points_are_latched_and_masks_are_published(graph, cameras, active_node):
    points = graph.listen(PointCloud2, "/da3_node/map_points", LATCHED)
    masks = graph.listen(Image, "/left/dynamic")
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: points and masks)
    assert points[0].header.frame_id == "map" and points[0].width == 7
    assert masks[0].encoding == "mono8" and masks[0].header.frame_id == "left_optical"
    late = graph.listen(PointCloud2, "/da3_node/map_points", LATCHED)
    wait_until(lambda: late)  # without another image


def test_map_to_odom_follows_the_loops(graph, cameras, active_node):
    static = graph.listen(TFMessage, "/tf_static", LATCHED)
    cameras.wait_for_subscriber()

    def corrections():
        found = [t for message in static for t in message.transforms if t.child_frame_id == "odom"]
        return [t.transform.translation.x for t in found]

    cameras.send_until(lambda: corrections() == [0.0])
    T = np.eye(4)
    T[0, 3] = 0.5
    active_node.pipeline.T_map_odom = T
    cameras.send_until(lambda: corrections() == [0.0, 0.5])


def test_save_map_writes_a_file_and_says_so(graph, make_node, tmp_path):
    path = tmp_path / "place.pcd"
    node = make_node(**{"map.save_path": str(path)})
    response = graph.request(Trigger, "/da3_node/save_map")
    assert not response.success and "not configured" in response.message
    node.configure()
    response = graph.request(Trigger, "/da3_node/save_map")
    assert not response.success and "map.enabled" in response.message
    node.pipeline.map_points = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    response = graph.request(Trigger, "/da3_node/save_map")
    assert response.success and response.message == f"2 points written to {path}"
    assert b"POINTS 2" in path.read_bytes()


def test_images_come_in_while_a_large_map_is_saved(graph, cameras, active_node, tmp_path, monkeypatch):
    """The file system is slow: every image of that time is taken, and the answer is that of the save."""
    writing, go_on, written = threading.Event(), threading.Event(), []

    def write(path, cloud):
        writing.set()
        assert go_on.wait(30.0)
        written.append((path.name, len(cloud)))

    monkeypatch.setattr("da3_ros.ros.session.write_cloud", write)
    active_node.pipeline.map_points = np.zeros((1, 3))
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    client = graph.node.create_client(Trigger, "/da3_node/save_map")
    assert client.wait_for_service(10.0)
    first, second = client.call_async(Trigger.Request()), client.call_async(Trigger.Request())
    try:
        wait_until(writing.is_set)
        steps, stamps = active_node.pipeline.called("step"), []
        for _ in range(5):
            stamps.append(cameras.send())
            wait_until(lambda: active_node.pipeline.called("step")[-1][0].stamp_ns == stamps[-1])
        taken = [frame_set.stamp_ns for frame_set, _ in active_node.pipeline.called("step")[len(steps) :]]
        assert taken[-5:] == stamps
        assert not first.done() and not second.done()
    finally:
        go_on.set()
    wait_until(lambda: first.done() and second.done())  # one after the other, and without another image
    assert [answer.result().success for answer in (first, second)] == [True, True]
    assert first.result().message.startswith("1 points written to ") and len(written) == 2
    graph.node.destroy_client(client)


def test_diagnostics_tell_of_keyframes_and_loops(cameras, active_node, diagnostics):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: diagnostics.value("map", "loops") == "1")
    assert diagnostics.value("map", "keyframes") == "3"
