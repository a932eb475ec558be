"""Cameras that have moved on the robot."""

import math

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.tracking import ScaleFilter, Tracker, TrackReport
from da3_ros.tracking.extrinsics_monitor import ExtrinsicsMonitor

NOISE = sim.Noise(depth=0.05, rotation_rad=0.003, translation=0.005)


def watch(true_rig, believed_rig, steps=60):
    monitor = ExtrinsicsMonitor(min_angle_deg=1.0, min_distance_m=0.05)
    tracker = Tracker(ScaleFilter(5.0, 5), torch.device("cpu"), 16)
    for window in sim.windows(sim.circle(steps), true_rig, noise=NOISE):
        report = TrackReport.of(sim.step(tracker, window, believed_rig).report.numpy(), len(window.views))
        newest = [view.camera for view in window.views if view.newest]
        for camera, misfit in zip(newest, report.misfit, strict=True):
            monitor.update(camera, misfit)
    return monitor


def test_a_turned_camera_is_named_with_its_angle():
    turned = dict(sim.RING)
    turned["camera1"] = turned["camera1"].copy()
    turned["camera1"][:3, :3] = sim.yaw(math.radians(1.8)) @ turned["camera1"][:3, :3]
    moved = watch(turned, sim.RING).moved()
    assert set(moved) == {"camera1"}
    assert moved["camera1"].angle_deg == pytest.approx(1.8, abs=0.3)


def test_a_rig_that_is_as_calibrated_is_not_accused():
    assert watch(sim.RING, sim.RING).moved() == {}


def test_nothing_is_said_of_noise_or_too_early():
    monitor = ExtrinsicsMonitor(min_angle_deg=1.0, min_distance_m=0.05)
    rng = np.random.default_rng(0)
    for _ in range(10):
        monitor.update("left", np.array([0.1, 0, 0, 0, 0, 0]))
    assert monitor.moved() == {}
    for _ in range(100):
        monitor.update("right", rng.normal(size=6) * 0.05)
    monitor.update("right", np.full(6, np.nan))
    assert "right" not in monitor.moved()
    for _ in range(30):
        monitor.update("left", np.array([0.1, 0, 0, 0, 0, 0]))
    assert monitor.moved()["left"].angle_deg == pytest.approx(math.degrees(0.1))
    monitor.reset()
    assert monitor.moved() == {}
