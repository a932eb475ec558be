"""The configuration tree as parameters: what ROS tools see, what is refused, and how it is mended."""

import pytest
import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from ros_harness import DOMAIN, end_context, overrides

from da3_ros import config as tree
from da3_ros.errors import ConfigError
from da3_ros.ros.params import NodeParameters


@pytest.fixture
def make():
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    nodes = []

    def make(**values):
        given = overrides(**values)
        node = LifecycleNode("parameters", context=context, parameter_overrides=given)
        nodes.append(node)
        return node, NodeParameters(node, {parameter.name: parameter for parameter in given})

    yield make
    for node in nodes:
        node.destroy_node()
    nodes.clear()
    end_context(context)


def refusal(node, name, value):
    """The reason why a parameter cannot be set; empty when it was set."""
    result = node.set_parameters([Parameter(name, value=value)])[0]
    return "" if result.successful else result.reason


def test_every_parameter_is_declared_with_type_description_and_range(make):
    node, parameters = make(cameras=["left", "right"])
    expected = tree.parameters(("left", "right"))
    assert len(expected) > 40
    for parameter in expected:
        descriptor = node.describe_parameter(parameter.name)
        assert descriptor.description == parameter.description
        if parameter.type is float and parameter.ge is not None:
            assert descriptor.floating_point_range[0].from_value == parameter.ge
        if parameter.type is int and parameter.le is not None:
            assert descriptor.integer_range[0].to_value == parameter.le
        for choice in parameter.choices or ():
            assert choice in descriptor.additional_constraints
    assert node.describe_parameter("cameras").type == ParameterType.PARAMETER_STRING_ARRAY
    defaults = tree.to_flat(tree.Config(cameras=("left", "right")))
    assert tree.to_flat(parameters.config()) == defaults


def test_overrides_become_the_configuration(make):
    _, parameters = make(cameras=["left"], sync__queue=3, sync__slop_s=1, camera__left__transport="compressed")
    config = parameters.config()
    assert (config.sync.queue, config.sync.slop_s) == (3, 1.0)  # an integer is a number too
    assert config.camera_config("left").transport == "compressed"


def test_everything_wrong_at_start_is_said_in_one_error(make):
    _, parameters = make(
        cameras=["left"], sync__slop=0.1, sync__queue=0, model__process_res="big", camera__right__frame_id="x"
    )
    with pytest.raises(ConfigError) as error:
        parameters.config()
    text = str(error.value)
    assert "\n" not in text
    assert "there is no parameter 'sync.slop' (did you mean 'sync.slop_s'?)" in text
    assert "sync.queue must be within [1, 1000], not 0" in text
    assert "model.process_res must be an integer, not 'big'" in text
    assert "'camera.right.frame_id' (its camera is not in the parameter 'cameras')" in text


@pytest.mark.parametrize("cameras", [[], "left", [1, 2]])
def test_cameras_that_are_no_list_of_names(make, cameras):
    _, parameters = make(cameras=cameras)
    with pytest.raises(ConfigError, match="cameras"):
        parameters.config()


def test_a_bad_start_can_be_mended(make):
    node, parameters = make(cameras=["left"], sync__slop=0.1, sync__queue=0)
    with pytest.raises(ConfigError):
        parameters.config()
    assert refusal(node, "sync.queue", 4) == ""
    assert refusal(node, "sync.slop", None) == ""  # `ros2 param delete`
    assert parameters.config().sync.queue == 4


def test_cameras_bring_and_take_their_parameters(make):
    node, parameters = make(cameras=["left"], camera__right__transport="compressed")
    assert refusal(node, "cameras", ["right"]) == ""
    assert not node.has_parameter("camera.left.transport")
    assert refusal(node, "camera.right.image_topic", "/r") == ""
    camera = parameters.config().camera_config("right")
    assert (camera.transport, camera.image_topic) == ("compressed", "/r")


def test_values_are_refused_with_the_reason(make):
    node, _ = make(cameras=["left"])
    assert "one of raw, compressed" in refusal(node, "camera.left.transport", "zip")
    assert "sync.queue" in refusal(node, "sync.queue", 0)
    assert "type" in refusal(node, "sync.queue", "many")
    assert refusal(node, "sync.slop_s", 1) == ""


def test_only_dynamic_parameters_change_while_configured(make):
    node, parameters = make(cameras=["left"])
    changes = []
    parameters.freeze(changes.append)
    assert "fixed while the node is configured" in refusal(node, "window.sets", 2)
    assert refusal(node, "points.stride", 2) == ""
    assert refusal(node, "points.max_range_m", 5) == ""
    assert "points.stride" in refusal(node, "points.stride", 65)
    assert [(c.points.stride, c.points.max_range_m) for c in changes] == [(2, 0.0), (2, 5.0)]
    parameters.thaw()
    assert refusal(node, "window.sets", 2) == ""
