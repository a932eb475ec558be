"""Errors of trajectories in pieces by hand, and a sample of pixels that does not grow."""

import numpy as np
import pytest
from evaluation_helpers import SECOND, START_NS, trajectory

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation import score
from da3_ros.evaluation.even import EvenlyKept
from da3_ros.evaluation.findings import Findings, merged
from da3_ros.evaluation.score import DepthScore, EstimatedFrame, TrajectoryPiece, score_trajectory
from da3_ros.evaluation.trajectory import absolute_error, pool

BEND = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0.5]])
LATER = START_NS + 100 * SECOND
K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(64, 48, K)


def test_pieces_are_aligned_each_by_itself_and_their_errors_pooled():
    """The second piece is in a world that is shifted and half as large."""
    first = TrajectoryPiece(trajectory(BEND), trajectory(BEND))
    second = TrajectoryPiece(
        trajectory(0.5 * BEND + [9.0, 0, 0], start_ns=LATER), trajectory(BEND, start_ns=LATER)
    )
    found = score_trajectory([first, second], tolerance_ns=1000)
    assert (found["pieces"], found["associated_poses"], found["estimated_poses"]) == (2, 10, 10)
    assert found["positions"]["starts"] == [0, 5]
    length = float(np.linalg.norm(np.diff(BEND, axis=0), axis=1).sum())
    assert found["path_length"] == pytest.approx(2 * length)
    assert found["ate"]["sim3"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    # Unaligned, only the second piece errs; over all ten poses.
    errors = np.linalg.norm(0.5 * BEND + [9.0, 0, 0] - BEND, axis=1)
    assert found["ate"]["none"]["rmse"] == pytest.approx(np.sqrt((errors**2).sum() / 10))
    assert found["ate"]["none"]["median"] == pytest.approx(np.median([*errors, 0, 0, 0, 0, 0]))
    assert found["scale_error"] == pytest.approx(-0.25)  # 1 and 0.5, over equal lengths
    assert found["rpe_scaled"]["translation"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    # One step of each piece has half its length: steps of 1, 1, 1 and 1.118 m.
    assert found["rpe"]["translation"]["rmse"] == pytest.approx(np.sqrt((3 * 0.25 + 0.25 * 1.25) / 8))
    # The longest step is the last one of the first piece; half of it is missing in the second.
    assert found["continuity"] == pytest.approx(
        {"largest_step": 1.25**0.5, "true_step": 1.25**0.5, "largest_difference": 1.25**0.5 / 2}
    )
    assert found["continuity_scaled"]["largest_difference"] == pytest.approx(0.0, abs=1e-9)
    assert found["auc"] == {3: 1.0, 5: 1.0, 15: 1.0, 30: 1.0}


def test_a_piece_without_truth_is_said_and_the_others_count():
    good = TrajectoryPiece(trajectory(BEND), trajectory(BEND))
    lost = TrajectoryPiece(trajectory(BEND, start_ns=LATER), trajectory(BEND))
    found = score_trajectory([good, lost], tolerance_ns=1000)
    assert found["associated_poses"] == 5 and found["estimated_poses"] == 10 and len(found["notes"]) == 1
    with pytest.raises(InputError, match="no estimated pose is within"):
        score_trajectory([lost], tolerance_ns=1000)


def test_pooled_statistics_are_those_of_all_errors():
    """Against evo's own statistics of one trajectory, cut in two."""
    wrong = BEND + np.array([[0.1, 0, 0], [0, 0.4, 0], [0, 0, 0.2], [0.7, 0, 0], [0, 0, 0]])
    whole = absolute_error(trajectory(wrong), trajectory(BEND), "none")
    cuts = slice(2), slice(2, 5)
    parts = [absolute_error(trajectory(wrong)[cut], trajectory(BEND)[cut], "none") for cut in cuts]
    for name in ("rmse", "mean", "median", "std", "smallest", "largest"):
        assert getattr(pool(parts), name) == pytest.approx(getattr(whole, name)), name


def scored(numbers) -> DepthScore:
    found = DepthScore(float("inf"))
    for number in numbers:
        true = np.random.default_rng(number).uniform(1, 4, (48, 64)).astype(np.float32)
        frame = EstimatedFrame("front", START_NS + number, 0.9 * true, K, 1.0 + true)
        found.add(frame, true, CALIBRATION)
    return found


def test_the_sample_of_pixels_stays_small_and_says_the_same(monkeypatch):
    full = scored(range(40)).summary()
    monkeypatch.setattr(score, "_MOST_PIXELS", 10_000)
    small = scored(range(40)).summary()
    assert full["recording"]["none"]["pixels"] == 40 * 2000 and 5000 <= small["recording"]["none"]["pixels"] <= 10_000
    assert small["per_frame"] == full["per_frame"]
    assert small["recording"]["none"]["abs_rel"] == pytest.approx(0.1, abs=1e-6)
    assert small["recording"]["median"]["covered"] == pytest.approx(1.0)


@pytest.mark.parametrize("frames", [20, 40])
def test_parts_of_a_recording_have_the_numbers_of_the_whole(monkeypatch, frames):
    """Either part keeps more pixels of each frame than the other, or than the whole."""
    monkeypatch.setattr(score, "_MOST_PIXELS", 10_000)
    whole, first = scored(range(frames)).summary(), scored(range(15))
    first.merge(scored(range(15, frames)))
    for part in ("per_frame", "recording"):
        for alignment, errors in whole[part].items():
            assert first.summary()[part][alignment] == pytest.approx(errors, nan_ok=True), (part, alignment)
    assert first.summary()["confidence"]["pixels"] == whole["confidence"]["pixels"]


@pytest.mark.parametrize("count", [1, 5, 6, 23, 200])
def test_few_things_are_kept_at_even_distances(count):
    even: EvenlyKept[int] = EvenlyKept(5)
    for number in range(count):
        if even.next_is_wanted():
            even.keep(number)
    steps = np.diff(even.kept)
    assert even.kept[0] == 0 and len(even.kept) >= min(count, 3) and len(even.kept) <= 5
    assert (steps == steps[:1]).all() and count - even.kept[-1] <= (steps[0] if len(steps) else 1)


def test_what_is_up_in_the_pictures_is_up_and_parts_count_together():
    parts = []
    for upward, looked in ((np.array([0.1, 4.9, 0.3]), 5), (np.array([0.2, 14.5, -1.0]), 15)):
        part = Findings({}, truth_frame="rig", upward=upward, looked=looked)
        way = trajectory(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 1], [3, 0.5, 1]]))
        part.truth, part.poses = [way], [dict(zip(way.stamps_ns.tolist(), way.T_world_body, strict=True))]
        parts.append(part)
    assert merged(parts).summary(1)["trajectory"]["up"] == "y"
    # Nothing is known of pictures, and these poses move forward along x.
    assert Findings({}, truth_frame="", truth=[way], poses=part.poses).summary(1)["trajectory"]["up"] == "z"
