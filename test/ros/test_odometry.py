"""The robot's own odometry reaches the network over /tf: at each image's stamp, or not at all."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from ros_harness import NS, DiagnosticsListener, overrides, wait_until
from tf2_msgs.msg import TFMessage

from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.msg import WindowEstimate

pytestmark = pytest.mark.ros

START_NS = 1_700_000_000 * NS
PERIOD_NS = 100_000_000
PARAMETERS = {"model__pose_conditioning": "odometry", "frames__publish_tf": False}


def position(stamp_ns):
    """(3,) of the robot that drives straight on."""
    return np.array([0.5, 0.25, 0.0]) * (stamp_ns - START_NS) / NS


class Robot:
    """Publishes odom -> base_link; its transforms lie between the images' stamps."""

    def __init__(self, graph, cameras, parent="odom"):
        self._cameras, self._parent = cameras, parent
        self._publisher = graph.node.create_publisher(TFMessage, "/tf", 100)
        wait_until(self._publisher.get_subscription_count, what="a listener on /tf")

    def send_odometry(self, stamp_ns):
        transform = TransformStamped()
        transform.header.frame_id, transform.child_frame_id = self._parent, "base_link"
        transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(stamp_ns, NS)
        moved = transform.transform.translation
        moved.x, moved.y, moved.z = position(stamp_ns)
        transform.transform.rotation.w = 1.0
        self._publisher.publish(TFMessage(transforms=[transform]))

    def drive(self):
        """One set of images with odometry from before it; that from after it comes later, with the next set."""
        self.send_odometry(self._cameras.stamp_ns + PERIOD_NS // 4)
        self.send_odometry(self._cameras.stamp_ns + PERIOD_NS * 6 // 10)
        self._cameras.send(step_ns=PERIOD_NS)

    def drive_until(self, condition):
        return wait_until(lambda: condition() or self.drive())


def test_frames_carry_the_robots_pose_at_their_stamps(graph, cameras, make_node):
    node = make_node(**PARAMETERS, sync__timeout_s=5.0, sync__pending_sets=100)
    node.configure()
    node.activate()
    robot = Robot(graph, cameras)
    cameras.wait_for_subscriber()
    robot.drive_until(lambda: len(node.pipeline.called("step")) >= 5)
    sets = [frame_set for frame_set, _ in node.pipeline.called("step")]
    # None was dropped because its odometry was still on the way.
    assert [one.stamp_ns for one in sets] == [START_NS + (number + 1) * PERIOD_NS for number in range(len(sets))]
    for frame_set in sets:
        for frame in frame_set.frames:
            np.testing.assert_allclose(frame.T_odom_base, T_from(np.eye(3), position(frame.stamp_ns)), atol=1e-6)


def test_missing_and_late_odometry_is_said_and_never_made_up(graph, cameras, make_node):
    node = make_node(**PARAMETERS, sync__timeout_s=0.05)
    diagnostics = DiagnosticsListener(graph)
    node.configure()
    node.activate()
    cameras.wait_for_subscriber()
    wanted = ("no transform odom -> base_link at the image's stamp", "publish the robot's odometry on /tf")
    status = cameras.send_until(lambda: diagnostics.says("camera left", *wanted))
    assert status.level == DiagnosticStatus.ERROR
    assert node.pipeline.called("step") == []
    # Odometry that ends before the image does not say where the robot was.
    robot = Robot(graph, cameras)
    robot.send_odometry(cameras.stamp_ns + PERIOD_NS // 2)
    cameras.send_until(lambda: diagnostics.says("camera right", "xtrapolation"))
    assert node.pipeline.called("step") == []
    assert int(diagnostics.value("camera left", "dropped: no odometry")) > 1
    # Once it comes the node goes on.
    robot.drive_until(lambda: node.pipeline.called("step"))


def test_poses_come_out_in_the_robots_odom_frame(graph, cameras):
    from da3_ros.ros.node import Da3Node

    values = {"cameras": ["left", "right"], "model__checkpoint": "random", "model__device": "cpu", "window__sets": 2}
    node = Da3Node(
        context=graph.context,
        parameter_overrides=overrides(**values, **PARAMETERS, model__process_res=56, sync__pending_sets=1),
    )
    graph.executor.add_node(node)
    windows = graph.listen(WindowEstimate, "/window")
    try:
        graph.call(node.trigger_configure)
        graph.call(node.trigger_activate)
        cameras.wait_for_subscriber()
        cameras.send_tf()
        Robot(graph, cameras).drive_until(lambda: windows and len(windows[-1].views) == 4)
    finally:
        graph.executor.remove_node(node)
        assert node.close(10.0)
        node.destroy_node()
    optical = matrix_from_quat_xyzw(np.array([-0.5, 0.5, -0.5, 0.5]))
    mounts = {"left": np.array([0.0, 0.0, 1.0]), "right": np.array([1.0, 0.0, 1.0])}
    assert windows[-1].header.frame_id == "odom" and windows[-1].scale_source == "odometry"
    for view in windows[-1].views:
        stamp_ns = view.header.stamp.sec * NS + view.header.stamp.nanosec
        place, turn = view.pose.position, view.pose.orientation
        np.testing.assert_allclose([place.x, place.y, place.z], position(stamp_ns) + mounts[view.camera], atol=1e-5)
        R = matrix_from_quat_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
        np.testing.assert_allclose(R, optical, atol=1e-5)
