"""The training ray caster's depth is exact, whatever stands in the way and whatever camera looks."""

import math

import pytest
import torch

from da3_ros.training.worlds.casting import in_shadow, pixel_rays, resolved, seen
from da3_ros.training.worlds.samples import COUNTS
from da3_ros.training.worlds.solids import Light, Solids, Surface, Worlds
from da3_ros.training.worlds.tables import make_tables

ALONG_X = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # a camera that looks along world x
SIDE = 41
FOV = 2 * math.atan(0.9)
MIDDLE = SIDE * (SIDE // 2) + SIDE // 2
BOX, CYLINDER, BALL = 0, COUNTS[0], COUNTS[0] + COUNTS[1]  # numbers of the only one of each shape in a view


def turned(yaw: float) -> torch.Tensor:
    c, s = math.cos(yaw), math.sin(yaw)
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def world(box=None, cylinder=None, ball=None, room=None, lamp=(0.0, 0.0, 5.0)) -> Worlds:
    """At most one of each shape: centre, half sizes, yaw; and a room with those half sizes about the origin."""
    K = sum(COUNTS)
    centre, half, present = torch.zeros(1, K, 3), torch.ones(1, K, 3), torch.zeros(1, K, dtype=torch.bool)
    turn = torch.eye(3).repeat(1, K, 1, 1)
    for place, solid in zip((3, COUNTS[0] + 3, COUNTS[0] + COUNTS[1] + 3), (box, cylinder, ball), strict=True):
        if solid:
            centre[0, place], half[0, place] = torch.tensor(solid[0]), torch.tensor(solid[1])
            turn[0, place], present[0, place] = turned(solid[2]), True

    def paint(n: int) -> Surface:
        flat, none = torch.zeros(1, n), torch.zeros(1, n, dtype=torch.int32)
        return Surface(none, none, flat + 1, torch.ones(1, n, 3), flat, flat)

    colour, number = torch.ones(1, 3), torch.ones(1)
    light = Light(
        torch.tensor([lamp]), colour, number, colour, colour, colour, colour, colour, number, number.int(), number
    )
    indoors, around = torch.tensor([room is not None]), torch.tensor([room or (1e4, 1e4, 1e4)]).float()
    return Worlds(Solids(COUNTS, centre, half, turn, present, paint(K)), light, indoors, 0 * around, around, paint(6))


def tables(worlds: Worlds, at=(0.0, 0.0, 0.0), R=ALONG_X):
    """One view of SIDE x SIDE pixels."""
    T = torch.eye(4).repeat(1, 1, 1, 1)
    T[..., :3, :3], T[..., :3, 3] = R, torch.tensor(at)
    focal = SIDE / 2 / math.tan(FOV / 2)
    K = torch.tensor([[[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]]])
    return make_tables(worlds, T, K, torch.tensor([FOV]), 1.0)


def look(worlds: Worlds, at=(0.0, 0.0, 0.0)):
    """Right and down per metre of depth, (P,), and what a camera at ``at`` sees there."""
    view = tables(worlds, at)
    right, down = (axis[0] for axis in pixel_rays(view.K, SIDE, SIDE))
    return right, down, resolved(view, seen(view, SIDE, SIDE), SIDE, SIDE)


def first_root(a, b, c):
    return (-b - (b * b - a * c).sqrt()) / a  # NaN: missed


def test_a_room_is_seen_from_inside():
    right, down, hits = look(world(room=(4.0, 3.0, 1.5)), at=(-1.0, 0.0, -0.5))
    expected = torch.minimum(torch.full_like(right, 5.0), 3.0 / right.abs())
    expected = torch.minimum(expected, torch.where(down > 0, 1.0, 2.0) / down.abs())
    assert hits.hit.all()
    torch.testing.assert_close(hits.depth[0], expected)


def test_depth_of_a_box_is_the_distance_of_its_front_and_beyond_is_sky():
    right, down, hits = look(world(box=((5.0, 0.0, 0.0), (0.5, 1.2, 0.8), 0.0)))
    on_it = (right.abs() * 4.5 < 1.2) & (down.abs() * 4.5 < 0.8)
    assert torch.equal(hits.hit[0], on_it) and (hits.solid[0][on_it] == BOX).all()
    torch.testing.assert_close(hits.depth[0][on_it], torch.full_like(right[on_it], 4.5))


def test_a_turned_box_shows_its_edge():
    right, down, hits = look(world(box=((5.0, 0.0, 0.0), (1.0, 1.0, 1.0), math.pi / 4)))
    # Its near edge is at 5 - sqrt(2); on both sides the front recedes by one metre for each metre to the side.
    expected = (5 - math.sqrt(2)) / (1 - right.abs())
    on_it = (right.abs() * expected < 1.39) & (down.abs() * expected < 1.0)
    torch.testing.assert_close(hits.depth[0][on_it], expected[on_it])
    assert on_it.sum() > 50


def test_depth_of_balls_and_cylinders_is_analytic():
    right, down, hits = look(world(ball=((3.0, 0.8, 0.0), (0.5, 0.5, 0.5), 0.3)))
    expected = first_root(right**2 + down**2 + 1, 0.8 * right - 3, torch.tensor(0.64 + 9 - 0.25))
    seen = expected.isfinite()
    assert torch.equal(hits.hit[0], seen) and seen.sum() > 40 and (hits.solid[0][seen] == BALL).all()
    torch.testing.assert_close(hits.depth[0][seen], expected[seen], rtol=1e-4, atol=0)

    right, down, hits = look(world(cylinder=((3.0, -0.8, 0.0), (0.4, 0.4, 0.6), 1.0)))
    expected = first_root(right**2 + 1, -0.8 * right - 3, torch.tensor(0.64 + 9 - 0.16))
    seen = (expected * down).abs() < 0.6
    assert seen.sum() > 40 and (hits.solid[0][seen] == CYLINDER).all()
    torch.testing.assert_close(hits.depth[0][seen], expected[seen], rtol=1e-4, atol=0)


def test_the_nearest_of_several_is_seen_and_what_is_absent_is_not():
    worlds = world(box=((6.0, 0.0, 0.0), (1.0, 3.0, 3.0), 0.0), ball=((3.0, 0.0, 0.0), (0.5, 0.5, 0.5), 0.0))
    _, _, hits = look(worlds)
    assert hits.solid[0, MIDDLE] == BALL and hits.depth[0, MIDDLE] == pytest.approx(2.5)
    gone = torch.zeros(1, sum(COUNTS), dtype=torch.bool)
    gone[:, -COUNTS[2] :] = True
    without = Worlds(worlds.solids.without(gone), *list(vars(worlds).values())[1:])
    _, _, hits = look(without)
    assert hits.solid[0, MIDDLE] == BOX and hits.depth[0, MIDDLE] == pytest.approx(5.0)


def test_what_reaches_into_the_picture_is_seen_however_far_its_centre_is_beside_it():
    long = world(box=((4.0, -30.0, 0.0), (0.5, 30.2, 0.5), 0.0))
    _, _, hits = look(long)
    assert hits.solid[0, MIDDLE] == BOX and hits.depth[0, MIDDLE] == pytest.approx(3.5)
    under = world(box=((0.0, 0.0, -1.0), (50.0, 50.0, 0.5), 0.0))  # the eye is within its bounding ball
    _, down, hits = look(under)
    below = (down > 0.05) & (0.5 / down < 50)
    torch.testing.assert_close(hits.depth[0][below], 0.5 / down[below])


def test_shadows_fall_behind_what_stands_in_the_light():
    # Looking down from above at a floor 6 m below; between them a ball and, above the ball, the lamp.
    floor = ((0.0, 0.0, -1.0), (20.0, 20.0, 1.0), 0.0)
    down = torch.tensor([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1.0]])
    view = tables(world(box=floor, ball=((0.0, 0.0, 2.0), (0.5, 0.5, 0.5), 0.0)), at=(0.0, 0.0, 6.0), R=down)
    hits = resolved(view, seen(view, SIDE, SIDE), SIDE, SIDE)
    shadow = in_shadow(view, hits.point)[0]
    right, along = (axis[0] for axis in pixel_rays(view.K, SIDE, SIDE))
    off = (right.square() + along.square()).sqrt()
    on_ball = hits.solid[0] == BALL
    assert on_ball.any() and not shadow[on_ball & (off < 0.08)].any(), "its upper side is lit"
    # The lamp is 3 m above the ball's middle: the tangent cone has tan = 0.5 / sqrt(9 - 0.25), 5 m to the floor.
    edge = 5 * 0.5 / math.sqrt(9 - 0.25)
    on_floor = ~on_ball
    assert shadow[on_floor & (off * 6 < edge - 0.05)].all() and not shadow[on_floor & (off * 6 > edge + 0.05)].any()
