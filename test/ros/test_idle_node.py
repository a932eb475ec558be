"""The pipeline without a network: outputs of the network's size, and only those that are asked for."""

from dataclasses import replace

import numpy as np
import pytest

from da3_ros.config import from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.egress.estimates import EstimateMessages, output_request, output_topics
from da3_ros.egress.message_types import message_builder
from da3_ros.ros.answer_meter import answers_every_set
from da3_ros.ros.idle_node import IdlePipeline

CAMERAS = ("left", "right")
CONFIG = from_flat({"cameras": list(CAMERAS), "model.variant": "da3-base", "model.process_res": 504})


@pytest.fixture
def pipeline():
    return IdlePipeline(CONFIG)


def frame_set(stamp_ns):
    image = np.zeros((720, 1280, 3), np.uint8)
    return FrameSet(stamp_ns, tuple(Frame(camera, stamp_ns, image, frame_id=camera) for camera in CAMERAS))


def test_every_set_is_answered_at_once_with_the_sizes_of_the_network(pipeline):
    for stamp_ns in (5, 6):
        estimate = pipeline.submit(frame_set(stamp_ns), OutputRequest.everything(CAMERAS)).result()
        assert estimate.stamp_ns == stamp_ns and [view.camera for view in estimate.views] == list(CAMERAS)
        for output in estimate.outputs:
            assert output.depth.shape == output.confidence.shape == output.points.data.shape[:2] == (280, 504)
        assert estimate.merged_points.data.shape == (1, 2 * 280 * 504, 16)


def test_what_nobody_asks_for_is_left_out(pipeline):
    request = replace(OutputRequest(), depth=frozenset({"right"}))
    left, right = pipeline.submit(frame_set(1), request).result().outputs
    assert left.depth is None and right.depth is not None
    assert right.confidence is None and right.points is None


def test_every_topic_that_the_meter_counts_is_answered(pipeline):
    """A topic without messages of the idle node, or with one now and then, would leave every set unanswered."""
    topics = output_topics(CONFIG)
    estimate = pipeline.submit(frame_set(1), output_request(CAMERAS, topics.__contains__)).result()
    answered = {topic for topic, _ in EstimateMessages(message_builder(), CONFIG).of(estimate, pipeline.description)}
    assert answered == {topic for topic in topics if answers_every_set(topic)}
    assert answers_every_set("/left/points") and not answers_every_set("/da3_node/map_points")
