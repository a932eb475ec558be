"""What /diagnostics says of tracking: what is wrong with the scale, and which camera has moved."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline_helpers import make_pipeline, make_set

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import (
    Estimate,
    Frame,
    FrameSet,
    OutputRequest,
    ScaleEstimate,
    TrackingEstimate,
    WindowPrediction,
)
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import invert
from da3_ros.ros.findings import Sources, camera_report
from da3_ros.ros.stats import Stats
from da3_ros.ros.tracking_findings import tracking_report
from da3_ros.streaming.transfer import Downloader
from da3_ros.tracking import TrackingSettings, WindowTracking

METRIC = ScaleEstimate("rig", 2.0, 0.02)


class Node:
    """An active node whose synchronizer and graph have nothing to say."""

    since_s = 0.0

    def sync_statistics(self):
        return {}

    def recent_drops(self, camera):
        return {}

    def rig_problems(self):
        return {}

    def explain_images(self, camera):
        return ""

    def explain_info(self, camera):
        return ""

    def publishers(self, camera):
        return ""


def sources(cameras=("left",), **flat):
    stats = Stats(cameras)
    settings = {"cameras": tuple(cameras), "model.variant": "da3-nano", **flat}
    return Sources(from_flat(settings, Config), stats, {}, Node, list)


def report_of(scale=METRIC, status="tracking", where=None, **tracking):
    where = where or sources()
    covariance = None if scale.source == "none" else np.eye(6)
    state = TrackingEstimate(status, False, covariance, **tracking)
    where.stats.tracked(Estimate(1, 1, (), (), np.eye(4), scale, tracking=state), 0.0)
    return tracking_report(where, 0.0)


def texts(report):
    return {finding.key: finding.text for finding in report.findings}


def test_nothing_is_said_while_all_is_well():
    assert texts(report_of()) == {}


def test_without_metres_the_unit_is_named_as_none_and_how_to_get_one():
    found = texts(report_of(ScaleEstimate()))
    assert "NOT metres" in found["no metres"] and "scale.range_topic" in found["no metres"]
    assert texts(report_of(ScaleEstimate(), where=sources(**{"scale.source": "none"}))) == {}


def test_a_source_that_is_left_out_is_named():
    found = texts(report_of(scale_rejected=("odometry",)))
    assert found["rejected odometry"].startswith("odometry contradicts the scale")
    assert found["rejected odometry"].endswith("is left out of it")


def test_a_jump_of_the_scale_names_its_source_and_is_counted():
    where = sources()
    assert texts(report_of(where=where, scale_jumped=("range",)))["jump range"] == "the scale jumped to what range says"
    assert where.stats.counts()["scale jumps to range"] == 1
    assert "jump range" not in texts(report_of(where=where))
    assert where.stats.counts()["scale jumps to range"] == 1


def test_a_scale_that_was_kept_is_a_warning_that_says_so():
    assert "it is kept" in texts(report_of(status="scale_kept"))["scale_kept"]


class Windows:
    """Simulated windows through WindowTracking; ``steps`` is what it says of each."""

    def __init__(self, windows, believed, used=("rig",), confidence=None, metres=None):
        device = torch.device("cpu")
        tracking = WindowTracking(TrackingSettings(used, 4, len(believed)), device)
        tracking.set_rig(believed)
        downloader = Downloader(device)
        self.steps = []
        for number, window in enumerate(windows, 1):
            newest = [view for view in window.views if view.newest]
            first = len(window.views) - len(newest)
            stamp_ns = newest[-1].stamp_ns
            depth = window.depth if confidence is None else confidence(number, window.depth)
            prediction = WindowPrediction(
                window.views, tuple(range(first, len(window.views))), depth, torch.full_like(depth, 2.0),
                window.T_cam_world, window.K, None, sim.colours(window),
            )  # fmt: skip
            if metres is not None:
                given = torch.tensor(metres(number) * window.metres_per_unit, dtype=torch.float64)
                prediction = replace(prediction, metres_per_unit=given, metres_stddev=0.01 * given)
            tracking.note(FrameSet(stamp_ns, tuple(Frame(v.camera, v.stamp_ns, np.empty((0, 0, 3))) for v in newest)))
            tracked = tracking.place(prediction, window.K)
            arrays = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": tracked.T_odom_cam, "K": window.K, "T_odom_base": tracked.T_odom_base,
            }  # fmt: skip
            arrays = {name: array for name, array in arrays.items() if array is not None}
            self.steps.append(tracking.submit(number, stamp_ns, prediction, tracked, downloader.start(arrays)).settle())


def test_a_camera_that_was_turned_is_named_with_its_angle_on_diagnostics():
    turned = dict(sim.RING)
    turned["camera1"] = turned["camera1"].copy()
    turned["camera1"][:3, :3] = sim.yaw(math.radians(1.8)) @ turned["camera1"][:3, :3]
    noise = sim.Noise(depth=0.05, rotation_rad=0.003, translation=0.005)
    moved = Windows(sim.windows(sim.circle(50), turned, noise=noise), sim.RING).steps[-1].moved
    assert set(moved) == {"camera1"}
    where = sources(tuple(sim.RING))
    where.stats.warned(moved)
    said = [finding.text for finding in camera_report(where, "camera1", 0.0).findings]
    (text,) = [one for one in said if "against /tf_static" in one]
    angle = float(text.split("turned by ")[1].split(" degrees")[0])
    assert angle == pytest.approx(1.8, abs=0.4)
    assert not any("against /tf_static" in one.text for one in camera_report(where, "camera0", 0.0).findings)


def test_a_turned_camera_goes_from_the_networks_poses_to_diagnostics(thin):
    """Through the pipeline: a network that sees every pose as it is, and one camera's /tf turned by 1.8 degrees."""
    cameras = tuple(sim.RING)[:3]
    rig = {name: sim.RING[name] for name in cameras}
    believed = {**rig, "camera1": rig["camera1"].copy()}
    believed["camera1"][:3, :3] = sim.yaw(math.radians(1.8)) @ rig["camera1"][:3, :3]
    small = {"model__variant": "da3-small", "model__process_res": 56}
    pipeline = make_pipeline(cameras=cameras, loops__enabled=False, map__enabled=False, **small)
    pipeline._trained = True  # or all that is said of a camera would be that the weights are random
    pipeline.set_rig(believed)
    way, see = sim.circle(33, per_step=0.1), pipeline._stream.step

    def truth(frame_set, *arguments, **named):
        prediction = see(frame_set, *arguments, **named)
        poses = [invert(way[view.stamp_ns // 10**8] @ rig[view.camera]) for view in prediction.views]
        return replace(
            prediction,
            T_cam_world=torch.from_numpy(np.stack(poses)).float(),
            depth=torch.full_like(prediction.depth, torch.nan),  # so that the rig alone gives the unit
        )

    pipeline._stream.step = truth
    where = sources(cameras)
    for step in range(1, len(way)):
        frame_set = make_set(step, [make_set().frames[0].calibration] * 3, cameras, seed=step)
        estimate = pipeline.step(frame_set, OutputRequest())
        where.stats.warned(estimate.warnings)
        said = {name: [one.text for one in camera_report(where, name, 0.0).findings] for name in cameras}
        found = {name: [text for text in said[name] if "against /tf_static" in text] for name in cameras}
        if step < 20:
            assert not any(found.values())
    (text,) = found.pop("camera1")
    assert text.startswith("camera camera1 has turned by 1.8 degrees against /tf_static")
    assert not any(found.values())


def test_a_scale_that_jumps_is_told_from_the_windows_to_diagnostics():
    """A metric network that from the ninth window on says half of what it said: taken over when it has said so often
    enough, and said in that step alone."""
    steps = Windows(
        sim.windows(sim.straight(20), sim.FRONT), sim.FRONT, ("metric_model",),
        metres=lambda number: 1.0 if number < 9 else 0.5,
    ).steps  # fmt: skip
    jumped = [step.step for step in steps if step.report.jumped]
    assert len(jumped) == 1 and 9 + 4 <= jumped[0] <= 9 + 6
    (step,) = (step for step in steps if step.report.jumped)
    assert [one.report.rejected for one in steps[8 : step.step - 1]] == [("metric_model",)] * (step.step - 9)
    assert step.report.growth == pytest.approx(0.5, rel=0.05)
    where = sources()
    found = texts(report_of(where=where, status=step.status, scale_jumped=step.report.jumped))
    assert found["jump metric_model"].startswith("the scale jumped to what ")
    assert where.stats.counts()["scale jumps to metric_model"] == 1
    before, after = (steps[step.step - k].T_odom_base[:3, 3] for k in (2, 1))
    assert np.linalg.norm(after - before) < 0.06  # of a true 0.05 m: the base itself does not jump


def test_a_scale_that_nothing_connects_is_kept_and_said_to_be():
    """One camera on the spot, whose depth has no meaning for a step: neither depth nor ways carry the unit over."""
    way = sim.turning(12, per_step=0.02)

    def blind(number, depth):
        return torch.full_like(depth, torch.nan) if number == 8 else depth

    steps = Windows(sim.windows(way, sim.FRONT), sim.FRONT, used=(), confidence=blind).steps
    assert [step.step for step in steps if step.status == "scale_kept"] == [8]
    assert steps[7].report.log_scale == steps[6].report.log_scale
    assert steps[7].report.scale_stddev > steps[6].report.scale_stddev
