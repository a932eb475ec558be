"""``window.decode``: the maps of older views, made anew by each step, beside those of the newest set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline_helpers import CAMERAS, make_pipeline, make_set

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import OutputRequest
from da3_ros.egress.estimates import EstimateMessages, output_request, output_topics
from da3_ros.egress.message_types import message_builder
from da3_ros.pipeline import Pipeline

NAMES = frozenset(CAMERAS)
WINDOW = OutputRequest(window_depth=NAMES, window_confidence=NAMES)
SETS = [make_set(step, seed=step) for step in range(1, 5)]
TOPICS = ("depth/image_rect", "depth/camera_info", "confidence")


def node_config(**settings):
    return from_flat({"cameras": CAMERAS, **settings}, Config)


@pytest.mark.parametrize("tracks", [False, True])
def test_older_views_have_the_depth_that_the_network_gives_for_them_in_this_window(thin, tracks):
    config = make_pipeline(window__decode="all", window__keyframe_recent=2).config
    pipeline = Pipeline(config, tracks=tracks)
    for number, frame_set in enumerate(SETS, 1):
        estimate = pipeline.step(frame_set, replace(WINDOW, depth=frozenset({"left"})))
        assert len(estimate.window_outputs) == 2 * min(number, 2)
    kept = [frame for frame_set in SETS[-2:] for frame in frame_set.frames]
    assert [(one.camera, one.stamp_ns) for one in estimate.window_outputs] == [
        (frame.camera, frame.stamp_ns) for frame in kept
    ]
    with torch.inference_mode():
        images = torch.cat([pipeline._stream.prepare(frame_set)[0] for frame_set in SETS[-2:]])
        whole = pipeline._stream._model(images[None])
    (newest,) = estimate.outputs
    assert (newest.camera, newest.stamp_ns) == ("left", kept[2].stamp_ns)
    unit = np.median(newest.depth / whole.depth[0, 2].numpy())
    assert tracks or unit == pytest.approx(1.0, rel=1e-4)
    for one, view, depth, sure in zip(
        estimate.window_outputs, estimate.views, whole.depth[0].numpy(), whole.depth_conf[0].numpy(), strict=True
    ):
        np.testing.assert_allclose(one.depth, unit * depth, rtol=1e-4)
        np.testing.assert_allclose(one.confidence, sure, rtol=1e-4)
        np.testing.assert_allclose(one.K, view.K, rtol=1e-5)
        assert view.median_confidence == pytest.approx(np.sort(sure.ravel())[(sure.size - 1) // 2], rel=1e-4)
    np.testing.assert_array_equal(newest.depth, estimate.window_outputs[2].depth)


def test_tracking_map_masks_and_what_the_newest_set_has_are_the_same_with_older_views_decoded(thin):
    everything = OutputRequest.everything(CAMERAS)
    plain, more = (make_pipeline(window__decode=decode) for decode in ("newest", "all"))
    for frame_set in SETS:
        ours = more.step(frame_set, replace(everything, window_depth=NAMES, window_confidence=NAMES))
        theirs = plain.step(frame_set, everything)
        assert len(ours.window_outputs) == len(ours.views) and theirs.window_outputs == ()
        assert [one.stamp_ns for one in ours.outputs] == [frame.stamp_ns for frame in frame_set.frames]
        for a, b in zip(ours.outputs, theirs.outputs, strict=True):
            for name in ("depth", "confidence", "dynamic"):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4)
            np.testing.assert_array_equal(a.points.data.shape, b.points.data.shape)
        for a, b in zip(ours.views, theirs.views, strict=True):
            np.testing.assert_allclose(a.T_odom_cam, b.T_odom_cam, atol=1e-4)
        assert ours.tracking.status == theirs.tracking.status
        assert ours.tracking.overlap == pytest.approx(theirs.tracking.overlap, rel=1e-3)
        assert ours.mapping.report.keyframes == theirs.mapping.report.keyframes
        assert ours.mapping.report.voxels == pytest.approx(theirs.mapping.report.voxels, rel=0.02)


def test_older_views_are_decoded_only_where_somebody_listens(thin):
    pipeline = make_pipeline(window__decode="all")
    decoded = []
    for request in (OutputRequest(depth=NAMES), OutputRequest(), replace(WINDOW, window_confidence=frozenset())):
        pipeline.step(SETS[len(decoded)], request)
        estimate = pipeline.step(SETS[len(decoded) + 1], request)
        decoded.append((len(estimate.outputs), [one.confidence is None for one in estimate.window_outputs]))
    assert decoded == [(2, []), (0, []), (0, [True] * 4)]


def test_each_view_of_the_window_is_a_message_with_its_own_stamp_and_other_topics_keep_theirs(thin):
    config = node_config(**{"window.decode": "all"})
    topics = output_topics(config)
    request = output_request(CAMERAS, topics.__contains__)
    pipeline, egress = make_pipeline(window__decode="all"), EstimateMessages(message_builder(), config)
    stamps = {}
    for frame_set in SETS[:3]:
        step = {}
        for topic, make in egress.of(pipeline.step(frame_set, request), pipeline.description):
            if topic.split("/")[0] in CAMERAS:
                stamp = make().header.stamp
                step.setdefault(topic, []).append(stamp.sec * 10**9 + stamp.nanosec)
        assert step.keys() <= topics.keys()
        for topic, found in step.items():
            stamps.setdefault(topic, []).append(found)
    times = [[one.frames[0].stamp_ns, one.frames[1].stamp_ns] for one in SETS[:3]]
    for index, camera in enumerate(CAMERAS):
        first, second, third = (both[index] for both in times)
        for name in TOPICS:
            assert stamps[f"{camera}/{name}"] == [[first], [second], [third]]
            assert stamps[f"{camera}/window/{name}"] == [[first], [first, second], [second, third]]


def test_only_all_has_topics_of_the_window():
    def of_window(**settings):
        return sorted(topic for topic in output_topics(node_config(**settings)) if "/window/" in topic)

    assert of_window() == []
    both = [f"{camera}/window/{name}" for camera in CAMERAS for name in sorted(TOPICS)]
    assert of_window(**{"window.decode": "all"}) == sorted(both)
    assert of_window(**{"window.decode": "all", "publish.depth": False, "publish.camera_info": False}) == [
        "left/window/confidence", "right/window/confidence",
    ]  # fmt: skip
    assert of_window(**{"window.decode": "all", "model.variant": "da3mono-large"}) == []
