"""Lifecycle transitions, the reset service, and what a failing transition says and leaves behind."""

import pytest
from fake_pipeline import FakePipeline
from lifecycle_msgs.msg import Transition
from rclpy.parameter import Parameter
from ros_harness import wait_until
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from da3_ros.errors import WeightsError

pytestmark = pytest.mark.ros


@pytest.fixture
def log(capfd):
    """Gives the texts of the lines that were logged at warning and above since the last call."""

    def texts():
        lines = capfd.readouterr().err.splitlines()
        return [line.split("]: ", 1)[1] for line in lines if line.startswith(("[WARN]", "[ERROR]", "[FATAL]"))]

    return texts


def test_the_whole_life(graph, cameras, make_node):
    node = make_node()
    steps = lambda: node.pipeline.called("step")  # noqa: E731
    depth = graph.listen(Image, "/left/depth/image_rect")
    assert graph.state() == "unconfigured"
    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "inactive"
    cameras.send()
    assert not cameras.images["left"].get_subscription_count()

    assert graph.change_state(Transition.TRANSITION_ACTIVATE)
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: depth)

    assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: not cameras.images["left"].get_subscription_count())
    assert graph.change_state(Transition.TRANSITION_ACTIVATE)
    count = len(steps())
    wait_until(lambda: len(node.pipeline.called("reset")) == 2)  # a window must not span the pause
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: len(steps()) > count)

    assert graph.change_state(Transition.TRANSITION_DEACTIVATE)
    assert graph.change_state(Transition.TRANSITION_CLEANUP)
    assert graph.state() == "unconfigured"
    assert node.pipeline.calls[-1] == ("close",)

    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert len(node.pipelines) == 2
    assert graph.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert graph.state() == "finalized"
    assert node.pipeline.calls[-1] == ("close",)


def test_a_bad_parameter_fails_configure_with_one_line_and_can_be_mended(graph, make_node, log):
    node = make_node(sync__slop=0.1, window__sets=0)
    assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "unconfigured"
    assert log() == [
        "there is no parameter 'sync.slop' (did you mean 'sync.slop_s'?); window.sets must be within [1, 64], not 0; "
        "window.stride (1) must not exceed window.sets (0)"
    ]
    graph.call(lambda: node.node.set_parameters([Parameter("window.sets", value=2), Parameter("sync.slop")]))
    assert graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.pipeline.config.window.sets == 2


def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured(graph, make_node, log, monkeypatch):
    def refuse(self, config):
        raise WeightsError("there is no file 'x': set model.checkpoint")

    node = make_node()
    with monkeypatch.context() as patch:
        patch.setattr(FakePipeline, "__init__", refuse)
        assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "unconfigured"
    assert log() == ["there is no file 'x': set model.checkpoint"]
    assert not [publisher for publisher in node.node.publishers if "depth" in publisher.topic_name]
    assert graph.change_state(Transition.TRANSITION_CONFIGURE)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"qos_overrides./left/image_raw.subscription.reliability": "relaible"}, ["/left/image_raw", "relaible"]),
        ({"qos_overrides./left/image_raw.subscription.depth": "five"}, ["qos_overrides./left/image_raw"]),
    ],
)
def test_a_qos_override_that_cannot_be_fails_configure(graph, make_node, log, parameters, words):
    node = make_node(**parameters)
    assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
    assert graph.state() == "unconfigured"
    lines = log()
    assert all(word in lines[-1] for word in words), lines
    assert not [s for s in node.node.subscriptions if "image" in s.topic_name]


def test_qos_overrides_are_used_and_those_without_effect_are_named(graph, make_node, log):
    prefix = "qos_overrides./left/image_raw.subscription"
    node = make_node(**{f"{prefix}.reliability": "reliable", "qos_overrides./lft/image_raw.subscription.depth": 3})
    node.configure()
    node.activate()
    profiles = {s.topic_name: s.qos_profile for s in node.node.subscriptions}
    assert profiles["/left/image_raw"].reliability.name == "RELIABLE"
    assert profiles["/right/image_raw"].reliability.name == "BEST_EFFORT"
    offered = wait_until(lambda: graph.node.get_publishers_info_by_topic("/left/depth/image_rect"))
    assert offered[0].qos_profile.reliability.name == "RELIABLE"
    assert "qos_overrides./lft/image_raw.subscription.depth has no effect" in " ".join(log())


def test_reset_forgets_the_window(graph, cameras, active_node):
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: active_node.pipeline.called("step"))
    before = len(active_node.pipeline.called("reset"))
    assert graph.request(Trigger, "/da3_node/reset").success
    wait_until(lambda: len(active_node.pipeline.called("reset")) == before + 1)


def test_reset_of_an_inactive_node_says_so(graph, make_node):
    make_node()
    response = graph.request(Trigger, "/da3_node/reset")
    assert not response.success and "not active" in response.message


def test_dynamic_parameters_reach_the_pipeline(graph, active_node):
    graph.call(lambda: active_node.node.set_parameters([Parameter("points.stride", value=3)]))
    points = wait_until(lambda: active_node.pipeline.called("update_points"))[-1][0]
    assert points.stride == 3


def test_a_bug_in_a_step_ends_the_executor(graph, cameras, active_node):
    active_node.pipeline.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: graph.failure)
    assert "illegal memory access" in str(graph.failure)


def test_a_bug_while_loading_ends_the_executor(graph, make_node, monkeypatch):
    def fail(self, config):
        raise ZeroDivisionError("a bug")

    make_node()
    monkeypatch.setattr(FakePipeline, "__init__", fail)
    assert not graph.change_state(Transition.TRANSITION_CONFIGURE)
    wait_until(lambda: isinstance(graph.failure, ZeroDivisionError))
