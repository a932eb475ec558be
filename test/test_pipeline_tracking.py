"""What tracking makes of a stream of sets, as a subscriber would see it; the network's weights are random."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline_helpers import CAMERAS, make_pipeline, make_set

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import OutputRequest
from da3_ros.egress.estimates import EstimateMessages
from da3_ros.egress.message_types import message_builder
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from
from da3_ros.pipeline import Pipeline
from da3_ros.streaming import StreamingDA3
from da3_ros.tracking.map_session import DynamicStep
from da3_ros.usable import pose_problem

DEPTH = OutputRequest(depth=frozenset(CAMERAS))
RIG = {"left": T_BODY_OPTICAL, "right": T_from(T_BODY_OPTICAL[:3, :3], np.array([0.0, -0.3, 0.0]))}


def with_ranges(step, metres):
    points = np.array([[x, y, metres] for x in (-0.3, 0.0, 0.3) for y in (-0.2, 0.2)]) * [metres, metres, 1.0]
    return replace(make_set(step, seed=step), ranges=points, ranges_frame="left_optical")


def messages(estimate, pipeline):
    config = from_flat({"cameras": CAMERAS}, Config)
    found = EstimateMessages(message_builder(), config).of(estimate, pipeline.description)
    return {topic: make() for topic, make in found}


def test_without_anything_metric_nothing_pretends_metres():
    pipeline = make_pipeline()
    for step in (1, 2):
        estimate = pipeline.step(make_set(step, seed=step), DEPTH)
    assert estimate.scale.source == "none" and np.isnan(estimate.scale.metres_per_unit)
    assert estimate.tracking.covariance is None and estimate.tracking.status not in ("started", "lost")
    sent = messages(estimate, pipeline)
    assert sent["window"].scale_source == "none" and np.isnan(sent["window"].scale)
    assert sent["window"].tracking == estimate.tracking.status
    assert sent["odometry"].pose.covariance[0] >= 1e6


def test_ranges_give_metres_and_odometry_a_covariance():
    pipeline = make_pipeline()
    pipeline.set_rig({"left": RIG["left"]})
    first = pipeline.step(with_ranges(1, 2.0), DEPTH)
    again = pipeline.step(with_ranges(2, 2.0), DEPTH)
    assert first.scale.source == again.scale.source == "none"  # nobody named a topic
    # da3-small's random weights see one distance everywhere.
    small = {"model__variant": "da3-small", "scale__range_topic": "scan"}
    pipeline = make_pipeline(**small, cameras=CAMERAS)
    pipeline.set_rig({"left": RIG["left"]})
    estimate = pipeline.step(with_ranges(1, 2.0), DEPTH)
    assert estimate.scale.source == "range" and estimate.tracking.scale_sources == ("range",)
    left = estimate.outputs[0].depth
    assert np.median(left) == pytest.approx(2.0, rel=0.2)
    twice = make_pipeline(**small)
    other = twice.step(with_ranges(1, 4.0), DEPTH)
    np.testing.assert_allclose(np.median(other.outputs[0].depth), 2 * np.median(left), rtol=0.1)
    sent = messages(pipeline.step(with_ranges(2, 2.0), DEPTH), pipeline)
    assert sent["window"].scale_sources and 0 <= sent["odometry"].pose.covariance[0] < 1e5


def test_a_named_source_that_says_nothing_gives_neither_depth_nor_poses():
    pipeline = make_pipeline(scale__source="range", scale__range_topic="scan")
    estimate = pipeline.step(make_set(), DEPTH)
    assert not estimate.has_poses and estimate.scale.source == "range" and np.isnan(estimate.scale.metres_per_unit)
    assert np.isnan(estimate.outputs[0].depth).all()
    assert "no metric scale yet" in estimate.warnings["left"]


def test_where_the_robot_has_its_own_odom_the_newest_set_is_there():
    pipeline = make_pipeline(frames__publish_tf=False)
    pipeline.set_rig(RIG)
    for step in (1, 2, 3):
        T = T_from(np.eye(3), np.array([0.4 * step, 1.0, 0.0]))
        plain = make_set(step, seed=step)
        frame_set = replace(plain, frames=tuple(replace(frame, T_odom_base=T) for frame in plain.frames))
        estimate = pipeline.step(frame_set, DEPTH)
        np.testing.assert_allclose(estimate.T_odom_base, T, atol=1e-9)
        assert estimate.tracking.covariance is None  # the robot's own pose, of which we know no error


def test_a_reset_starts_odom_anew():
    pipeline = make_pipeline()
    pipeline.set_rig({"left": RIG["left"]})
    first = pipeline.step(make_set(1, seed=1), DEPTH)
    pipeline.step(make_set(2, seed=2), DEPTH)
    pipeline.reset()
    again = pipeline.step(make_set(1, seed=1), DEPTH)
    assert again.tracking.status == "started"
    np.testing.assert_array_equal(again.T_odom_base, first.T_odom_base)


@pytest.mark.parametrize("rig", [pytest.param({}, id="no rig", marks=pytest.mark.slow), pytest.param(RIG, id="rig")])
def test_one_window_that_is_not_finite_leaves_no_trace(rig, monkeypatch):
    """Neither in odom nor on the map, and it is not given out."""
    pipeline, step = make_pipeline(window__sets=3), StreamingDA3.step
    pipeline.set_rig(rig)

    def spoilt(self, frame_set, *given, **named):
        prediction = step(self, frame_set, *given, **named)
        if frame_set.stamp_ns // 10**8 != 4:
            return prediction
        return replace(prediction, T_cam_world=torch.full_like(prediction.T_cam_world, torch.nan))

    monkeypatch.setattr(StreamingDA3, "step", spoilt)
    estimates = [pipeline.step(make_set(number, seed=number), DEPTH) for number in range(1, 7)]
    assert [pose_problem(estimate) is not None for estimate in estimates] == [number == 4 for number in range(1, 7)]
    assert [estimate.tracking.status for estimate in estimates].count("unusable") == 1
    assert all(np.isfinite(view.T_odom_cam).all() for view in estimates[5].views)
    stamps, poses = pipeline._mapping.keyframe_poses()
    assert len(stamps) and 4 * 10**8 + 1 not in stamps.tolist()
    assert np.isfinite(poses).all()


def test_anchors_do_not_depend_on_when_results_are_taken():
    """On a GPU the choice goes by the step before the last one, which may have been settled, or the next one, too."""

    def drive(take_at_once):
        pipeline = make_pipeline(window__sets=3)
        pipeline._tracking._lag = 1  # as on a GPU
        windows, pending = [], []
        for step in range(1, 9):
            pending.append(pipeline.submit(make_set(step, seed=step), OutputRequest()))
            if take_at_once:
                pending[-1].result()
            windows.append([slot.view.stamp_ns for slot in pipeline._stream.slots])
        return windows, [np.stack([view.T_odom_cam for view in one.result().views]) for one in pending]

    (windows, poses), (windows_late, poses_late) = drive(True), drive(False)
    assert windows == windows_late
    for now, late in zip(poses, poses_late, strict=True):
        np.testing.assert_array_equal(now, late)


def test_what_moves_is_kept_out_of_alignments_whoever_asks_for_its_masks(thin, monkeypatch):
    """The frame waits for the masks only if somebody does; what comes after is the same."""

    def left_half(self, stamp_ns, prediction, K, tracked):
        return (torch.arange(tracked.depth.shape[1]) % 28 < 14).expand_as(tracked.depth)

    monkeypatch.setattr(DynamicStep, "step", left_half)
    asked, not_asked = make_pipeline(), make_pipeline()
    masks = OutputRequest(dynamic=frozenset(CAMERAS))
    for step in range(1, 4):
        frame_set = make_set(step, seed=step)
        ours, theirs = asked.step(frame_set, masks), not_asked.step(frame_set, DEPTH)
        assert [one.dynamic is None for one in ours.outputs] == [False, False]
        assert [one.dynamic is None for one in theirs.outputs] == [True, True]
        for a, b in zip(ours.views, theirs.views, strict=True):
            np.testing.assert_array_equal(a.T_odom_cam, b.T_odom_cam)
    for pipeline in (asked, not_asked):
        assert (pipeline._tracking._tracker._memory.weight == 0).float().mean() == 0.5


def test_without_tracking_each_window_stands_for_itself(thin):
    """What the bench takes for the engine alone: depth and poses as the network has them."""
    config = make_pipeline().config
    pipeline = Pipeline(config, tracks=False)
    sets = [make_set(step, seed=step) for step in range(1, 4)]
    for frame_set in sets:
        estimate = pipeline.step(frame_set, DEPTH)
    assert estimate.tracking is None and estimate.mapping is None and estimate.scale.source == "none"
    with torch.inference_mode():
        images = torch.cat([pipeline._stream.prepare(frame_set)[0] for frame_set in sets[-2:]])
        whole = pipeline._stream._model(images[None])
    for output, depth in zip(estimate.outputs, whole.depth[0, -2:].numpy(), strict=True):
        np.testing.assert_allclose(output.depth, depth, rtol=1e-4)
    T_world_cam = np.linalg.inv([np.vstack([T, [0, 0, 0, 1]]) for T in whole.extrinsics[0].double().numpy()])
    T_odom_cam = np.stack([view.T_odom_cam for view in estimate.views])
    relative = np.linalg.inv(T_world_cam[:1]) @ T_world_cam
    np.testing.assert_allclose(np.linalg.inv(T_odom_cam[:1]) @ T_odom_cam, relative, atol=1e-4)


def test_a_rig_that_comes_after_the_first_window_starts_odom_once_more():
    pipeline = make_pipeline()
    config = from_flat({"cameras": CAMERAS}, Config)
    egress, sent = EstimateMessages(message_builder(), config), []
    for step in range(1, 6):
        if step == 3:
            pipeline.set_rig(RIG)
        estimate = pipeline.step(make_set(step, seed=step), DEPTH)
        sent.append({topic: make() for topic, make in egress.of(estimate, pipeline.description)})
    assert [one["window"].tracking == "restarted" for one in sent] == [False, False, True, False, False]
    assert [one["odometry"].child_frame_id for one in sent] == ["left_optical"] * 2 + ["base_link"] * 3
    assert [len(one["path"].poses) for one in sent] == [1, 2, 1, 2, 3]
    np.testing.assert_allclose(sent[0]["odometry"].pose.pose.position.x, 0.0, atol=1e-9)
