"""Scores of held-out scenes: perfect for the truth in any scale, worse for what is disturbed, by what is disturbed."""

import math

import pytest
import torch

from da3_ros.training.batch import SceneBatch
from da3_ros.training.data import sample_seeds
from da3_ros.training.held_out import SEQUENCES, Predicted, Scores, evaluate, held_out_sequences, score, score_window
from da3_ros.training.scenes.rig import rotation
from da3_ros.training.worlds import SceneSource


@pytest.fixture(scope="module")
def batch():
    return next(held_out_sequences(SceneSource("cpu", texture_size=64), 1, size=(28, 42)))


def truth(batch: SceneBatch, scale: float = 1.0) -> Predicted:
    T = batch.T_cam_world.clone()
    T[..., :3, 3] *= scale
    return Predicted(scale * batch.depth, T, batch.K)


def only(batch: SceneBatch, predicted: Predicted) -> Scores:
    return Scores.of(score(batch, predicted))


def test_a_held_out_window_is_four_moments_of_two_cameras(batch):
    assert batch.images.shape[:2] == (1, 8)


def test_no_run_ever_trains_on_a_held_out_scene():
    cpu = torch.device("cpu")
    trained = [sample_seeds(seed, step, rank, 64, cpu) for seed in (0, 7) for step in (0, 10**6) for rank in (0, 63)]
    assert torch.cat(trained).min() > SEQUENCES


def test_the_truth_at_another_scale_is_perfect(batch):
    found = only(batch, truth(batch, scale=0.2))
    assert found.abs_rel < 1e-6 and found.delta1 == 1.0 and found.fov_deg < 1e-4
    assert found.auc30 == pytest.approx(100.0) and found.rotation_deg < 0.01


def test_what_is_not_valid_does_not_count(batch):
    perfect = truth(batch)
    wild = torch.where(batch.valid, perfect.depth, 1e-3)
    assert only(batch, Predicted(wild, perfect.T_cam_world, perfect.K)).abs_rel < 1e-6


def test_disturbed_depth_costs_depth_alone(batch):
    perfect = truth(batch)
    # Half of the views 20 % too far: whatever the scale, that is 10 % on the whole.
    factor = torch.tensor([1.0, 1.2]).repeat(4).view(1, 8, 1, 1)
    found = only(batch, Predicted(factor * perfect.depth, perfect.T_cam_world, perfect.K))
    assert 0.05 < found.abs_rel < 0.15 and found.delta1 == 1.0 and found.auc30 == pytest.approx(100.0)
    found = only(batch, Predicted(factor**3 * perfect.depth, perfect.T_cam_world, perfect.K))
    assert found.delta1 < 0.9


def test_turned_cameras_cost_pose_alone(batch):
    perfect = truth(batch)
    angle = torch.tensor(math.radians(12.0))
    turn = torch.eye(4)
    turn[:3, :3] = rotation(torch.zeros(()), angle, torch.zeros(()))
    T = perfect.T_cam_world.clone()
    T[:, 1::2] = turn @ T[:, 1::2]
    found = only(batch, Predicted(perfect.depth, T, perfect.K))
    assert found.abs_rel < 1e-6 and 40 < found.auc30 < 90
    assert found.rotation_deg == pytest.approx(12.0, abs=0.1), "the pairs of unlike cameras are the majority"


def test_pairs_that_hardly_moved_are_told_apart():
    """Depth 2; cameras at 0, 0.05 and 1.05: one pair is nearer than a twentieth of the depth, and only it is wrong."""
    T = torch.eye(4).repeat(3, 1, 1)
    T[:, 0, 3] = -torch.tensor([0.0, 0.05, 1.05])
    wrong = T.clone()
    wrong[1, :2, 3] = torch.tensor([0.0, -0.05])        # sideways instead of ahead: seen from far away hardly wrong
    depth, fov = torch.full((3, 4, 4), 2.0), torch.full((3,), 60.0)
    found = score_window(depth, depth, wrong, T, fov, fov)
    assert found.auc30_moved > 0.9 > 0.75 > found.auc30
    still = score_window(100 * depth, 100 * depth, wrong, T, fov, fov)
    assert math.isnan(still.auc30_moved) and still.auc30 == found.auc30


def test_a_field_of_view_is_off_by_its_degrees(batch):
    perfect = truth(batch)
    half = (0.5 * 42 / perfect.K[..., 0, 0]).atan() + math.radians(1.0)
    K = perfect.K.clone()
    K[..., 0, 0] = 0.5 * 42 / half.tan()
    assert only(batch, Predicted(perfect.depth, perfect.T_cam_world, K)).fov_deg == pytest.approx(2.0, abs=1e-3)


def test_all_sequences_are_scored_and_the_median_is_of_windows(batch):
    done = []
    answers = iter([truth(batch), truth(batch), Predicted(batch.depth**2, batch.T_cam_world, batch.K)])
    found = evaluate(lambda _: next(answers), iter([batch] * 3), done.append)
    assert found.windows == 3 and done == [1, 1, 1]
    assert found.abs_rel < 1e-6 < found.abs_rel_mean
