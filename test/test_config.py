"""The configuration tree: one source, every problem at once, nothing ignored."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import da3_ros.config
from da3_ros.config import Config, ModelConfig, from_flat, parameters, to_flat
from da3_ros.config.choices import BUNDLED_VARIANT
from da3_ros.errors import ConfigError
from da3_ros.model import VARIANTS

PACKAGE = Path(da3_ros.config.__file__).parents[1]


def test_flat_names_round_trip():
    config = from_flat({"cameras": ["left", "right"], "camera.left.transport": "compressed", "sync.slop_s": 0.5})
    assert from_flat(to_flat(config)) == replace(
        config, camera={name: config.camera_config(name) for name in ("left", "right")}
    )
    assert to_flat(config)["camera.left.transport"] == "compressed"


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        from_flat({"cameras": ["a", "a"], "sync.slop_s": -1.0, "model.variant": "da3-huge", "window.sets": 0})
    for part in ("name twice", "sync.slop_s", "da3-huge", "da3-small", "window.sets must be within [1, 64], not 0"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sync.slop": 0.1}, "did you mean 'sync.slop_s'?"),
        ({"camera.rear.transport": "raw"}, "its camera is not in the parameter 'cameras'"),
        ({"sync.queue": 1.5}, "sync.queue must be an integer, not 1.5"),
        ({"publish.depth": 1}, "publish.depth must be true or false, not 1"),
        ({"cameras": []}, "cameras is empty"),
        ({"camera.front.image_topic": "bad topic!"}, "camera.front.image_topic 'bad topic!' is not a topic name"),
        ({"cameras": ["1st"]}, "starting with a letter"),
        ({"cameras": ["depth"]}, "also the name of an output topic"),
        ({"window.sets": 2, "window.stride": 3}, "window.stride (3) must not exceed window.sets (2)"),
        ({"sync.min_cameras": 2}, "exceeds the number of cameras (1)"),
        ({"model.device": "gpu"}, "model.device must be auto, cpu, cuda or cuda:<n>"),
        ({"frames.odom": "map"}, "three different frames"),
        ({"scale.source": "lidar"}, "scale.source must be one of auto, none, metric_model, rig"),
        ({"scale.source": "metric_model"}, "da3-small alone is not metric: set model.metric_checkpoint"),
        (
            {"scale.source": "metric_model", "model.variant": "da3mono-large"},
            "da3mono-large predicts relative depth: choose da3metric-large",
        ),
        ({"scale.source": "none", "model.variant": "da3metric-large"}, "gives metres and nothing else: set it to auto"),
        (
            {"model.variant": "da3nested-giant-large", "model.metric_checkpoint": "random"},
            "but model.variant is da3nested-giant-large: leave it empty",
        ),
        ({"model.variant": "da3mono-large", "model.use_ray_pose": True}, "sees each view alone and predicts no poses"),
        ({"model.guided_upsampling": True}, "what model.half_resolution_head makes small: set that to true as well"),
        (
            {"model.variant": "da3metric-large", "camera.front.camera_info_topic": "none"},
            "needs a CameraInfo for every camera, but camera_info_topic is 'none' for front",
        ),
    ],
)
def test_bad_values_are_refused_in_the_users_words(values, expected):
    with pytest.raises(ConfigError) as error:
        from_flat({"cameras": ["front"], **values})
    assert expected in str(error.value)


def test_one_image_topic_for_two_cameras_is_refused():
    with pytest.raises(ConfigError, match="'/cam/image' is given to two cameras"):
        from_flat({"cameras": ["a", "b"], "camera.a.image_topic": "/cam/image", "camera.b.image_topic": "/cam/image"})


@pytest.mark.parametrize(
    ("settings", "image", "info"),
    [
        ({}, "front/image_raw", "front/camera_info"),
        ({"transport": "compressed"}, "front/image_raw/compressed", "front/camera_info"),
        ({"image_topic": "/cam0/image"}, "/cam0/image", "/cam0/camera_info"),
        ({"image_topic": "image"}, "image", "camera_info"),
        (
            {"image_topic": "/c/image/compressed", "transport": "compressed"},
            "/c/image/compressed",
            "/c/camera_info",
        ),
        ({"camera_info_topic": "/info"}, "front/image_raw", "/info"),
        ({"camera_info_topic": "none"}, "front/image_raw", None),
    ],
)
def test_topics_of_a_camera(settings, image, info):
    config = from_flat({"cameras": ["front"], **{f"camera.front.{key}": value for key, value in settings.items()}})
    assert (config.image_topic("front"), config.camera_info_topic("front")) == (image, info)


def test_every_parameter_is_described_and_within_its_own_range():
    Config(cameras=("front",)).validate()
    for parameter in parameters(("front",)):
        assert parameter.description, parameter.name


@pytest.mark.parametrize(
    ("values", "poses", "sky", "scale"),
    [
        ({}, True, False, "none"),
        ({"model.metric_checkpoint": "random"}, True, True, "metric_model"),
        ({"model.metric_checkpoint": "random", "scale.source": "none"}, True, True, "none"),
        ({"model.variant": "da3nested-giant-large"}, True, True, "metric_model"),
        ({"model.variant": "da3metric-large"}, False, True, "metric_model"),
        ({"model.variant": "da3mono-large"}, False, True, "none"),
    ],
)
def test_what_a_configuration_can_give(values, poses, sky, scale):
    config = from_flat({"cameras": ["front"], **values})
    assert (config.model.has_poses, config.model.has_sky, config.scale_source) == (poses, sky, scale)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ({}, "rig"),
        ({"model.variant": "da3-nano"}, "none"),
        ({"model.variant": "da3-nano", "scale.odometry_topic": "wheels", "scale.range_topic": "scan"}, "range"),
        ({"model.variant": "da3-nano", "scale.source": "rig"}, "rig"),
        ({"model.variant": "da3-nano", "model.checkpoint": "mine.safetensors"}, "rig"),
    ],
)
def test_no_metres_come_by_themselves_from_ways_that_are_known_to_be_too_short(values, scale):
    assert from_flat({"cameras": ["left", "right"], **values}).scale_source == scale


def test_variants_are_those_of_the_network_table():
    assert BUNDLED_VARIANT in VARIANTS and VARIANTS[BUNDLED_VARIANT].bundled
    assert set(da3_ros.config.VARIANTS) == set(VARIANTS)
    for name, variant in VARIANTS.items():
        config = ModelConfig(variant=name)
        assert config.has_poses == variant.any_view
        assert config.has_metres == (variant.canonical_focal is not None or variant.metric is not None)


def test_every_parameter_is_read_somewhere():
    """A parameter that no code reads does nothing when a user sets it."""
    read = set()
    for path in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "config").glob("*.py")):
        tree = ast.parse(path.read_text())
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        # publish.* are looked up by name in a loop over topics
        constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        read |= {value for value in constants if isinstance(value, str)}
    leaves = {parameter.name: parameter.name.rsplit(".", 1)[-1] for parameter in parameters(("front",))}
    assert not [name for name, leaf in leaves.items() if leaf not in read]


@pytest.mark.parametrize("source", ["none", "rig"])
def test_a_node_that_stands_back_reads_the_robots_odometry_whatever_gives_the_scale(source):
    values = {"cameras": ["left", "right"], "scale.source": source}
    assert from_flat({**values, "frames.publish_tf": False}).uses_odometry
    assert not from_flat({**values, "frames.publish_tf": True}).uses_odometry
