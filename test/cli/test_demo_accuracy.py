"""The demo's accuracy on a run whose answers are known: the truth itself, in another unit."""

import json

import numpy as np
import pytest

from da3_ros.cli.demo_accuracy import Accuracy, read_accuracy
from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_sequence import FIRST_STAMP_NS, Sequence, SequenceCamera, SequenceImage, SequenceStep
from da3_ros.cli.main import main
from da3_ros.config import from_flat
from da3_ros.datatypes import CameraCalibration
from da3_ros.egress.bag import new_recording
from da3_ros.egress.message_types import message_builder

CALIBRATION = CameraCalibration(16, 12, np.array([[16.0, 0, 7.5], [0, 16.0, 5.5], [0, 0, 1]]))
STAMPS = [FIRST_STAMP_NS + i * 100_000_000 for i in range(5)]
CONFIG = from_flat({"cameras": ["front"], "model.checkpoint": "random"})


def depth(i: int) -> np.ndarray:
    return np.linspace(1.0, 4.0 + i, 16 * 12, dtype=np.float32).reshape(12, 16)


def pose(i: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = 0.3 * i, 0.02 * i * i, 0.1 * (i % 2)
    return T


@pytest.fixture
def sequence(tmp_path):
    camera = SequenceCamera("front", "front_optical_frame", CALIBRATION, np.eye(4))
    rgb = np.zeros((12, 16, 3), np.uint8)

    def read():
        for i, stamp in enumerate(STAMPS):
            yield SequenceStep(stamp, (SequenceImage("front", stamp, rgb, depth(i)),), pose(i))

    write_sequence(Sequence("test", (camera,), 5, "base_link", read), tmp_path / "sequence", "raw")
    return tmp_path / "sequence"


def answer(path, scale: float, wrong: float = 0.0, motion: float = 1.0):
    """A recording of the node that answers the truth times ``scale``, the first rows of each map ``wrong`` off."""
    build = message_builder()
    with new_recording(path) as bag:
        for i, stamp in enumerate(STAMPS):
            T, found = pose(i), scale * depth(i)
            T[:3, 3] *= scale * motion
            found[:6] *= 1 + wrong
            info = build.camera_info(CALIBRATION, stamp, "front_optical_frame")
            bag.write("/front/depth/camera_info", stamp, info)
            bag.write("/front/depth/image_rect", stamp, build.image(found, stamp, "front_optical_frame"))
            bag.write("/odometry", stamp, build.odometry(T, stamp, "odom", "base_link", covariance=np.zeros((6, 6))))
    return path


def test_the_truth_in_another_unit_is_right_but_for_its_scale(sequence, tmp_path):
    recording = answer(tmp_path / "recording", scale=0.25)
    found = read_accuracy(sequence, recording, CONFIG, metric=False)
    assert found.scaled and found.abs_rel["front"] < 1e-3 and found.delta1["front"] == 1.0
    assert found.ate_m < 1e-3 and found.path_m == pytest.approx(1.316, abs=0.001)
    metric = read_accuracy(sequence, recording, CONFIG, metric=True)
    assert metric.abs_rel["front"] == pytest.approx(0.75, abs=1e-3) and metric.delta1["front"] == 0.0
    assert metric.ate_m > 0.1


def test_half_of_the_pixels_wrong_is_half_of_the_error(sequence, tmp_path):
    found = read_accuracy(sequence, answer(tmp_path / "recording", 1.0, wrong=0.4), CONFIG, metric=True)
    assert found.abs_rel["front"] == pytest.approx(0.2, abs=0.01) and found.delta1["front"] == pytest.approx(0.5)
    lines = found.lines()
    assert lines["depth"].startswith("AbsRel / delta1: front 0.2") and "0.000 m off over" in lines["trajectory"]


def test_poses_that_never_move_are_said_to_be_so(sequence, tmp_path):
    found = read_accuracy(sequence, answer(tmp_path / "recording", 1.0, motion=0.0), CONFIG, metric=False)
    assert found.ate_m is None and found.abs_rel["front"] < 1e-3
    assert found.lines()["trajectory"].startswith("not compared: ")


def test_nothing_known_is_nothing_said():
    assert Accuracy(True, {}, {}).lines() == {}
    assert Accuracy(True, {}, {}, note="none: no evo").lines() == {"accuracy": "none: no evo"}


def test_evaluate_says_the_same_of_the_demo_s_recordings(sequence, tmp_path):
    """To the last digit: the demo's figures are numbers of metrics.json."""
    recording = answer(tmp_path / "recording", scale=0.25, wrong=0.1)
    options = ["--estimates", str(recording), "--output", str(tmp_path / "metrics.json")]
    assert main(["evaluate", str(sequence), *options]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for metric, depth_alignment, pose_alignment in ((False, "median", "sim3"), (True, "none", "se3")):
        found = read_accuracy(sequence, recording, CONFIG, metric)
        errors = metrics["depth"]["front"]["recording"][depth_alignment]
        assert (found.abs_rel["front"], found.delta1["front"]) == (errors["abs_rel"], errors["delta1"])
        assert found.ate_m == metrics["trajectory"]["ate"][pose_alignment]["rmse"]
        assert found.path_m == metrics["trajectory"]["path_length"]
