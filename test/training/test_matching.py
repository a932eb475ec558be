"""Attention taught by true matches, against cases worked out by hand."""

import math

import pytest
import torch

from da3_ros.training.matching import match_loss, matches, relative_poses


def two_views(*, moved: float, depth=(2.0, 2.0)):
    """A wall of two by two patches seen twice, focal length 14, the second camera ``moved`` metres to the right."""
    K = torch.tensor([[14.0, 0, 14], [0, 14, 14], [0, 0, 1]]).expand(1, 2, 3, 3)
    T = torch.eye(4).repeat(1, 2, 1, 1)
    T[0, 1, 0, 3] = -moved
    maps = torch.tensor(depth)[None, :, None, None].expand(1, 2, 28, 28)
    return maps, torch.ones(1, 2, 28, 28, dtype=torch.bool), K, relative_poses(T)


def test_a_camera_one_patch_to_the_right_sees_things_one_patch_to_the_left():
    place, known = matches(*two_views(moved=2.0))       # 14 pixels of parallax
    assert known[0, 0, 1].tolist() == [False, True, False, True]
    assert known[0, 1, 0].tolist() == [True, False, True, False]
    assert not known[0, 0, 0].any() and not known[0, 1, 1].any()
    assert place[0, 0, 1, 1].tolist() == [0.0, 0.0] and place[0, 0, 1, 3].tolist() == [0.0, 1.0]
    assert place[0, 1, 0, 0].tolist() == [1.0, 0.0]


def test_what_is_hidden_or_unknown_is_no_match():
    assert not matches(*two_views(moved=2.0, depth=(2.0, 1.0)))[1].any()
    depth, valid, K, T = two_views(moved=2.0)
    assert not matches(depth, torch.zeros_like(valid), K, T)[1].any()


def tokens(angle_of: dict[tuple[int, int], float]):
    """Keys (1, 2, 5, 2, 64), zero but for those of some tokens (view, token): that much along the first channel."""
    k = torch.zeros(1, 2, 5, 2, 64)
    for (view, token), value in angle_of.items():
        k[0, view, token, :, 0] = value
    return k


def test_attention_that_knows_nothing():
    """Evenly: ln 4 within the patches of a view, ln 10 among all tokens."""
    q = tokens({})
    loss = match_loss(q, q, *two_views(moved=2.0), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(4) + math.log(10))


def test_half_a_patch_is_shared_by_two():
    """Moved by half a patch, a match lies between two patches; at the border it is the nearer one's.

    Nothing known, evenly: ln 4, less ln 2 where the match is half and half, which two of three are: the rightmost
    patches of view 1 are beyond the border of view 0. Among all tokens, of view 1 in view 0: ln 10 less ln 2.
    """
    q = tokens({})
    geometry = two_views(moved=1.0)
    assert matches(*geometry)[0][0, 0, 1, :, 0].tolist() == [-0.5, 0.5, -0.5, 0.5]
    loss = match_loss(q, q, *geometry, torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(4) + math.log(10) - (2 / 3 + 1) * math.log(2))


def test_attention_to_the_reference_view_only():
    """The patches of view 1 have their match in view 0 at token 2 and 4; logit ln 3 there, for every query.

    The first head: ln(8 + 2 x 3) - ln 3. The last one: of view 1, among the patches of view 0, ln(2 + 2 x 3) - ln 3;
    of view 0, whose matches are in view 1 at tokens 1 and 3, ln 4.
    """
    q = torch.zeros(1, 2, 5, 2, 64)
    q[..., 0] = 8.0         # the root of the channels
    k = tokens({(0, 2): math.log(3), (0, 4): math.log(3)})
    loss = match_loss(q, k, *two_views(moved=2.0), torch.tensor([0]))
    first = math.log(14) - math.log(3)
    last = (math.log(8) - math.log(3) + math.log(4)) / 2
    assert loss.item() == pytest.approx(first + last, rel=1e-5)


def test_unknown_depth_leaves_gradients_finite():
    depth, valid, K, T = two_views(moved=2.0)
    depth, valid = depth.clone(), valid.clone()
    depth[..., :14], valid[..., :14] = torch.nan, False
    q = tokens({}).requires_grad_()
    match_loss(q, q, depth, valid, K, T, torch.tensor([1])).backward()
    assert q.grad is not None and q.grad.isfinite().all()


def test_relative_poses_take_points_from_camera_to_camera():
    """Camera 1 is a metre to the right of camera 0 and looks to the right: what was right is ahead, ahead is left."""
    T = torch.eye(4).repeat(1, 2, 1, 1)
    T[0, 1] = torch.tensor([[0.0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, -1], [0, 0, 0, 1]])
    found = relative_poses(T)
    point = torch.tensor([4.0, 0.5, 2.0, 1.0])              # right, down, ahead of camera 0
    assert (found[0, 0, 1] @ point).tolist() == [-2.0, 0.5, 3.0]
    assert (found[0, 1, 0] @ torch.tensor([-2.0, 0.5, 3.0, 1.0])).tolist() == point[:3].tolist()
    assert found[0, 1, 1].equal(torch.eye(4)[:3])
