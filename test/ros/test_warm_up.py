"""The warm-up at configure: what the cameras say of their images is learned while the executor waits."""

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from rclpy.lifecycle import TransitionCallbackReturn
from ros_harness import K, make_info, wait_until

from da3_ros.errors import ConfigError
from da3_ros.ros import session

pytestmark = pytest.mark.ros

SIZES_HW = {"left": (48, 64), "right": (60, 90)}
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(autouse=True)
def warms_up(monkeypatch):
    """As with a network that is compiled, and with time for the slowest machine."""
    monkeypatch.setattr(FakePipeline, "warms_up", True)
    monkeypatch.setattr(session, "_INFO_TIMEOUT_S", 30.0)


def configure(graph, node, cameras, names=("left", "right"), **how):
    """What configuring returns while the cameras of ``names`` send their CameraInfo."""
    configured = graph.executor.create_task(node.node.trigger_configure)

    def send():
        for name in names:
            cameras.infos[name].publish(make_info(1, f"{name}_optical", size_hw=SIZES_HW[name], **how))
        return configured.done()

    wait_until(send, 25.0)
    return configured.result()


def test_configure_warms_up_once_for_what_the_cameras_announce(graph, cameras, make_node):
    node = make_node()
    assert configure(graph, node, cameras) == SUCCESS
    ((calibrations,),) = node.pipeline.called("warm_up")
    assert list(calibrations) == ["left", "right"]
    assert {name: (one.height, one.width) for name, one in calibrations.items()} == SIZES_HW
    np.testing.assert_array_equal(calibrations["right"].K.ravel(), K)
    wait_until(lambda: not any(infos.get_subscription_count() for infos in cameras.infos.values()))

    node.activate()
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: node.pipeline.called("step"))
    assert len(node.pipeline.called("warm_up")) == 1
    assert len(node.pipeline.threads) == 1


@pytest.mark.parametrize(
    ("parameters", "sending", "says"),
    [
        ({}, (), "no CameraInfo of left, right within 0.3 s"),
        ({}, ("left",), "no CameraInfo of right within 0.3 s"),
        ({"camera.right.camera_info_topic": "none"}, ("left",), "no CameraInfo topic is set for right"),
    ],
)
def test_silent_cameras_leave_the_warm_up_to_the_first_set(
    graph, cameras, make_node, monkeypatch, capfd, parameters, sending, says
):
    monkeypatch.setattr(session, "_INFO_TIMEOUT_S", 0.3)
    node = make_node(**parameters)
    assert configure(graph, node, cameras, sending) == SUCCESS
    assert not node.pipeline.called("warm_up")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "warm-up" in line]
    assert "waits for the first set" in line and line.endswith(says)


def test_a_camera_that_is_not_calibrated_leaves_the_warm_up_to_the_first_set(graph, cameras, make_node, capfd):
    node = make_node()
    assert configure(graph, node, cameras, k=(0.0,) * 9) == SUCCESS
    assert not node.pipeline.called("warm_up")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "warm-up" in line]
    assert "waits for the first set" in line and "camera 'left'" in line


def test_a_pipeline_without_a_warm_up_is_not_kept_waiting(graph, make_node, monkeypatch):
    waits = []
    monkeypatch.setattr(FakePipeline, "warms_up", False)
    monkeypatch.setattr(session, "await_calibrations", lambda *how: waits.append(how) or {})
    node = make_node()
    assert node.configure() == SUCCESS
    assert not waits and not node.pipeline.called("warm_up")


def test_a_warm_up_that_fails_leaves_the_node_unconfigured_with_one_line(graph, cameras, make_node, monkeypatch, capfd):
    def refuse(self, calibrations):
        raise ConfigError("8 views need 90.0 GiB: lower window.sets")

    node = make_node()
    with monkeypatch.context() as patch:
        patch.setattr(FakePipeline, "warm_up", refuse)
        assert configure(graph, node, cameras) == FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("[WARN]", "[ERROR]", "[FATAL]"))]
    assert [line.split("]: ", 1)[1] for line in lines] == ["8 views need 90.0 GiB: lower window.sets"]
    assert graph.state() == "unconfigured"
    assert node.pipeline.calls[-1] == ("close",)
    assert configure(graph, node, cameras) == SUCCESS
    assert len(node.pipelines) == 2
