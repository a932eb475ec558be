"""What /diagnostics says of tracking: what is wrong with the scale, and which camera has moved."""

import math

import numpy as np
import pytest
import torch

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import Estimate, Frame, FrameSet, ScaleEstimate, TrackingEstimate, WindowPrediction
from da3_ros.evaluation import simulated_windows as sim
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

    def __init__(self, windows, believed, used=("rig",), confidence=None):
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


def test_a_scale_that_nothing_connects_is_kept_and_said_to_be():
    """One camera on the spot, whose depth has no meaning for a step: neither depth nor ways carry the unit over."""
    way = sim.turning(12, per_step=0.02)

    def blind(number, depth):
        return torch.full_like(depth, torch.nan) if number == 8 else depth

    steps = Windows(sim.windows(way, sim.FRONT), sim.FRONT, used=(), confidence=blind).steps
    assert [step.step for step in steps if step.status == "scale_kept"] == [8]
    assert steps[7].report.log_scale == steps[6].report.log_scale
    assert steps[7].report.scale_stddev > steps[6].report.scale_stddev
