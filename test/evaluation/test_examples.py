"""Depth maps for the page: which pixels they show."""

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.evaluation.report_examples import DepthExamples
from da3_ros.evaluation.score import EstimatedFrame, SeenFrame
from da3_ros.evaluation.truth import depth_at_truth

RANDOM = np.random.default_rng(0)
K = np.array([[400.0, 0, 349.5], [0, 400.0, 49.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(700, 100, K)
K_DEPTH = np.array([[200.0, 0, 164.5], [0, 200.0, 24.5], [0, 0, 1]])  # sees less than the truth's camera


def seen(index, noise):
    depth = (2.0 * (1.0 + noise * RANDOM.random((50, 330)))).astype(np.float32)
    confidence = RANDOM.random((50, 330)).astype(np.float32)
    estimate = EstimatedFrame("front", index, depth, K_DEPTH, confidence)
    return SeenFrame(estimate, CALIBRATION, np.full((100, 700), 2.0, np.float32))


def test_with_truth_all_maps_are_of_every_third_pixel_of_the_truth_also_of_the_worst_frame():
    frames = [seen(index, 2.0 if index == 7 else 0.1) for index in range(9)]
    examples = DepthExamples()
    for frame in frames:
        examples.add(frame)
    chosen = examples.chosen()
    assert [example.stamp_ns for why, example in chosen if why == "worst frame"] == [7]
    for _, example in chosen:
        frame = frames[example.stamp_ns].estimate
        for shown, whole, scale in (
            (example.depth, frame.depth, example.scale),
            (example.confidence, frame.confidence, 1),
        ):
            wanted = depth_at_truth(whole, K_DEPTH, (100, 700), CALIBRATION)[::3, ::3] * np.float32(scale)
            assert np.isnan(wanted).any()
            np.testing.assert_array_equal(shown, wanted)
        assert example.true.shape == example.error.shape == example.depth.shape
