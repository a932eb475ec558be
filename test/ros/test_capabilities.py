"""Which topics exist for which network: nothing is offered that the network cannot give."""

import numpy as np
import pytest
from fake_pipeline import HEIGHT, WIDTH, depth_of
from ros_harness import NS
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

pytestmark = pytest.mark.ros

_OF_POSES = {"/window", "/odometry", "/path", "/points", "/left/confidence", "/right/confidence"}


def published_by(node):
    return {name for name, _ in node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())}


def active(make_node, **parameters):
    under_test = make_node(**parameters)
    under_test.configure()
    under_test.activate()
    return under_test


def test_a_network_that_sees_each_view_alone_has_depth_sky_and_clouds_only(graph, cameras, make_node):
    node = active(make_node, model__variant="da3metric-large")
    topics = published_by(node.node)
    assert not topics & (_OF_POSES | {"/tf", "/tf_static"})
    assert {"/left/depth/image_rect", "/left/depth/camera_info", "/left/sky", "/left/points"} <= topics

    depth = graph.listen(Image, "/left/depth/image_rect")
    info = graph.listen(CameraInfo, "/left/depth/camera_info")
    sky, cloud = graph.listen(Image, "/left/sky"), graph.listen(PointCloud2, "/left/points")
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: all((depth, info, sky, cloud)))
    assert node.pipeline.called("step")[-1][1].sky == {"left"}


def test_sky_is_a_mask_of_the_depths_size_with_its_stamp(graph, cameras, make_node):
    active(make_node, model__metric_checkpoint="random")
    sky = graph.listen(Image, "/right/sky")
    cameras.wait_for_subscriber()
    cameras.send_until(lambda: sky)
    image = sky[-1]
    assert (image.height, image.width, image.encoding, image.step) == (HEIGHT, WIDTH, "mono8", WIDTH)
    assert image.header.frame_id == "right_optical"
    stamp_ns = image.header.stamp.sec * NS + image.header.stamp.nanosec
    assert stamp_ns in range(1_700_000_000 * NS, cameras.stamp_ns + 1, 100_000_000)
    mask = np.frombuffer(image.data, np.uint8).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(mask, np.isinf(depth_of(1)) * 255)


def test_without_a_network_that_finds_the_sky_there_is_no_such_topic(active_node):
    topics = published_by(active_node.node)
    assert topics >= _OF_POSES and not {"/left/sky", "/right/sky"} & topics
