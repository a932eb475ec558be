"""Whole drives through tracker, keyframes and the host's side: what a mapping stack would see."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.evaluation import simulated_windows
from da3_ros.evaluation.simulated_drives import Drive, Scenario, anchored, figure_of_eight, scenarios

ALL = {one.name: one for one in scenarios(24)}
QUICK = ("pure rotation about one camera", "one camera, odometry", "a camera drops out and returns", "20 % outlier")
EXACT = [
    pytest.param(name, marks=[] if name.startswith(QUICK) else pytest.mark.slow) for name in ALL if ";" not in name
]
DEPTH = [
    pytest.param(name, marks=[] if name.startswith("4 cameras") else pytest.mark.slow)
    for name in ALL
    if "depth noise" in name
]


@pytest.mark.parametrize("name", EXACT)
def test_exact_depth_in_random_gauges(name):
    drive = Drive(ALL[name])
    result = drive.result()
    assert drive.position_error <= 0.001 * max(drive.distance, 1.0)
    assert drive.largest_jump < 0.001
    assert math.isnan(result.scale_median_percent) or result.scale_median_percent < 2.0
    own = 0.02 if "off in each window" in name else 1e-4  # of the depth
    assert math.isnan(result.cloud_m) == ("nothing metric" in name) and not result.cloud_m > own
    assert "lost" not in result.statuses


@pytest.mark.parametrize("name", DEPTH)
def test_five_percent_depth_noise(name):
    drive = Drive(ALL[name])
    assert drive.position_error < 0.01 * max(drive.distance, 1.0)
    assert np.isnan(drive.scale_errors).all() or np.median(drive.scale_errors) < 0.02
    assert drive.largest_jump < 0.005
    assert not drive.result().cloud_m > (0.12 if "outlier" in name else 0.09)  # the depth's own noise


def test_states_are_recognised():
    states = [step.status for step in Drive(Scenario("", sim.stop_and_go(30), sim.STEREO)).steps]
    assert set(states[1:20]) == {"tracking"} and set(states[21:]) == {"still"}
    turning = [step.status for step in Drive(ALL["pure rotation about one camera"]).steps]
    assert set(turning[1:]) == {"rotating"}


def test_what_tells_nothing_of_the_scale_is_recognised(monkeypatch):
    turns = Scenario("", sim.turning(12, 1.6), {"front": sim.mount(0.0, 0.0, 0.0)}, "metric_model", sets=2)
    assert {step.status for step in Drive(turns).steps[1:]} == {"no_overlap"}
    moving = Drive(Scenario("", sim.circle(12), sim.STEREO, noise=sim.Noise(depth=0.02, outliers=0.4)))
    assert {step.status for step in moving.steps[1:]} == {"moving_objects"}
    assert moving.scale_errors.max() < 0.02
    random = np.random.default_rng(0)

    def blank_wall(window):
        """With the noise of a sensor in poor light."""
        shape = (len(window.depth), 3, sim.HEIGHT, sim.WIDTH)
        return torch.from_numpy(np.round(128 + 3 * random.normal(size=shape)).astype(np.uint8))

    monkeypatch.setattr(simulated_windows, "colours", blank_wall)
    assert {step.status for step in Drive(Scenario("", sim.circle(8), sim.STEREO)).steps[1:]} == {"textureless"}
    turning = [step.report for step in Drive(Scenario("", sim.turning(8, 0.02), sim.FRONT, "none")).steps]
    assert len({report.log_scale for report in turning}) == 1 and not any(report.carried for report in turning)
    assert np.all(np.diff([report.frame_scale_variance for report in turning][1:]) > 0.05**2)


def test_a_robot_that_stands_still_keeps_its_anchors():
    way = [*sim.straight(12, 3.0), *[sim.straight(12, 3.0)[-1]] * 20]
    drive = Drive(Scenario("", way, sim.STEREO, noise=sim.Noise(depth=0.05, rotation_rad=0.002, translation=0.005)))
    stamps = [{view.stamp_ns for view in step.views} for step in drive.steps]
    assert len(stamps[-1] & stamps[15]) >= 2  # not merely the newest sets
    assert sum(step.keyframe for step in drive.steps[12:]) <= 1
    standing = drive.estimated[16:, :3, 3]
    assert np.linalg.norm(standing - standing.mean(0), axis=1).max() < 0.03


def test_a_gap_is_lost_without_odometry_and_bridged_with_it():
    way = sim.straight(6)
    for source, status in (("odometry", "bridged"), ("metric_model", "lost")):
        drive = Drive(replace(Scenario("", way, sim.FRONT, source), sets=1))
        assert drive.steps[-1].status == status
        assert (drive.steps[-1].covariance is None) == (status == "lost")


def test_nothing_metric_is_called_none_and_has_no_metres():
    drive = Drive(ALL["one camera, nothing metric"])
    assert {step.source for step in drive.steps} == {"none"} and not any(step.report.metric for step in drive.steps)


@pytest.mark.slow
def test_old_sets_in_the_window_carry_the_accuracy():
    with_anchors, without = anchored(240)[0]  # twice back and forth
    ate = [
        np.sqrt(np.mean([Drive(one, seed).result().ate_m ** 2 for seed in range(4)])) for one in (with_anchors, without)
    ]
    assert ate[0] < 0.7 * ate[1]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [sim.Noise(), sim.Noise(depth=0.05)], ids=["exact", "5 % depth noise"])
def test_a_figure_of_eight_of_two_thousand_steps(noise):
    drive = Drive(figure_of_eight(2000, noise))
    assert drive.position_error < (0.001 if noise.depth == 0 else 0.01) * drive.distance
    assert drive.scale_errors.max() < 0.02
