"""Whether two places are one: views of a painted wall, as an exact and as a poor network would relate them."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import T_from, invert, rotation_angle
from da3_ros.tracking import landmarks, loop_closure
from da3_ros.tracking.keyframe_store import Keyframe, KeyframeView, encode_picture, map_grid
from da3_ros.tracking.landmarks import Points, _mutual, compare_sightings, find_points
from da3_ros.tracking.loop_closure import LoopPolicy, Place, SharedWindow, verify
from da3_ros.tracking.similarity import invert_similarity, scale_of

WALL_M = 4.0  # from the world's origin, along z
PIXELS_PER_M = 60.0


def wall(seed, detail=3):
    """What is painted on 20 x 20 m of wall; ``detail`` in pixels."""
    size = round(1200 / detail)
    smooth = cv2.resize(
        np.random.default_rng(seed).normal(size=(size, size)), (1200, 1200), interpolation=cv2.INTER_CUBIC
    )
    grey = (127 + 45 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def pose(x, z=0.0, turn=0.0):
    """T_world_cam (4, 4) of a camera that looks at the wall, ``turn`` about its vertical axis."""
    c, s = math.cos(turn), math.sin(turn)
    return T_from(np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]]), np.array([x, 0.0, z]))


def view(T_world_cam, painted, hw=(168, 224), T_odom_cam=None, content=None):
    """A keyframe's view with exact depth."""
    height, width = hw
    K = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1.0]])
    T = invert(T_world_cam)
    # From pixels of the painting to the plane z = WALL_M of the world, and from there into the picture.
    to_plane = np.array([[1 / PIXELS_PER_M, 0, -10], [0, 1 / PIXELS_PER_M, -10], [0, 0, WALL_M], [0, 0, 1]])
    picture = cv2.warpPerspective(painted, K @ T[:3] @ to_plane, (width, height), flags=cv2.INTER_AREA)
    v, u = np.mgrid[:height, :width]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ (T_world_cam[:3, :3] @ np.linalg.inv(K)).T
    depth = (WALL_M - T_world_cam[2, 3]) / rays[..., 2]
    rows, columns = map_grid(height, width)
    K_coarse = K.copy()
    K_coarse[:2, 2] -= columns.start, rows.start
    K_coarse[:2] /= rows.step
    z, colours = depth[rows, columns], picture[rows, columns]
    nothing = np.zeros(z.shape, np.uint8)
    return KeyframeView(
        "front", T_world_cam if T_odom_cam is None else T_odom_cam, K_coarse, hw, content or (0, 0, *hw),
        encode_picture(picture.transpose(2, 0, 1)), z.astype(np.float16), np.ones(z.shape, np.float16),
        colours, nothing, nothing.copy(),
    )  # fmt: skip


def place(number, views, view_variance=(0.0, 0.0)):
    """The keyframe is the first view's, its body the camera."""
    keyframe = Keyframe(number, number, views[0].T_odom_cam, WALL_M, float(number), (views[0],), view_variance)
    return Place(keyframe, tuple((keyframe, one) for one in views))


OLD = [pose(0.0), pose(-0.5), pose(0.5), pose(1.0)]
NEW = [pose(0.4, 0.3, 0.1), pose(0.0, 0.3, 0.1), pose(0.9, 0.2, 0.05), pose(0.7, 0.0, 0.0)]


def places(painted_old, painted_new, hw=(168, 224), old=OLD, new=NEW):
    return (
        place(3, [view(T, painted_old, hw) for T in old]),
        place(40, [view(T, painted_new, hw) for T in new]),
    )


def window(old, new, turn=0.0, shift=0.0, depth=0.0, seed=0, truth=(*OLD, *NEW)):
    """What a network says of views that are where ``truth`` has them, ``turn`` (rad), ``shift`` (of the depth) and
    ``depth`` (relative, smoothly over the picture) being by what it is off."""
    rng = np.random.default_rng(seed)
    gauge, scale = T_from(sim.yaw(0.7), rng.normal(size=3)), 0.3
    poses, maps = [], []
    for T, one in zip(truth, [v for p in (old, new) for _, v in p.views], strict=True):
        noise = T_from(sim._small_rotation(rng, turn), rng.normal(size=3) * shift * WALL_M)
        T = gauge @ T @ noise
        T[:3, 3] *= scale
        poses.append(T)
        bent = cv2.GaussianBlur(rng.normal(size=one.depth.shape), (0, 0), 12)
        maps.append(one.depth.astype(np.float64) * scale * np.exp(depth * bent / bent.std()))
    return SharedWindow(np.stack(poses), maps)


def off(verdict):
    """By how much a loop is off: radians, metres, logarithm of the scale."""
    S = invert_similarity(invert(OLD[0]) @ NEW[0]) @ verdict.constraint.S_a_b
    return rotation_angle(S[:3, :3] / scale_of(S)), np.linalg.norm(S[:3, 3]), math.log(scale_of(S))


@pytest.fixture(scope="module")
def same():
    return places(wall(0), wall(0))


@pytest.fixture(scope="module")
def other():
    """Two places that have the same shape, and nothing in common but that."""
    return places(wall(0), wall(1))


def test_an_exact_window_across_one_place_gives_how_its_ends_lie(same):
    verdict = verify(*same, window(*same), LoopPolicy())
    assert verdict.constraint is not None, verdict.reason
    assert (verdict.constraint.a, verdict.constraint.b) == (3, 40)
    angle, distance, scale = off(verdict)
    assert angle < 1e-3 and distance < 0.01 and abs(scale) < 0.01


@pytest.mark.parametrize("seed", range(2))
def test_the_window_of_a_poor_network_is_a_weak_statement_and_no_refusal(same, seed):
    exact = verify(*same, window(*same), LoopPolicy()).constraint
    verdict = verify(*same, window(*same, turn=0.03, shift=0.03, depth=0.2, seed=seed), LoopPolicy())
    assert verdict.constraint is not None, verdict.reason
    assert (verdict.constraint.variance > 4 * exact.variance).all()
    angle, distance, scale = off(verdict)
    rotation, translation, log_scale = np.sqrt(verdict.constraint.variance[[0, 3, 6]])
    assert angle < 4 * rotation
    assert distance < 4 * translation + WALL_M * 4 * log_scale
    assert abs(scale) < 4 * log_scale


@pytest.mark.parametrize("count", [1, 2, 4])
def test_loops_are_as_sure_as_they_are_exact_however_few_views_a_place_has(count, monkeypatch):
    """Squared deviations are about what the variance says: over windows, the mean of their ratio is 1."""
    turn, shift = 0.02, 0.03
    # How the places look takes long, and is not what is asked.
    monkeypatch.setattr(loop_closure, "_known_again", lambda *_: True)
    monkeypatch.setattr(loop_closure, "_compare", lambda *_: "")
    poor, painted = (turn**2, (shift * WALL_M) ** 2), wall(0)
    old, new = (
        place(number, [view(T, painted) for T in poses[:count]], poor) for number, poses in ((3, OLD), (40, NEW))
    )
    ratios = []
    for seed in range(40):
        seen = window(old, new, turn, shift, 0.05, seed, [*OLD[:count], *NEW[:count]])
        verdict = verify(old, new, seen, LoopPolicy())
        assert verdict.constraint is not None, verdict.reason
        angle, distance, _ = off(verdict)
        variance = verdict.constraint.variance
        ratios.append((angle**2 / 3 / variance[0], distance**2 / 3 / variance[3]))
    mean = np.mean(ratios, axis=0)
    assert (mean > 0.6).all() and (mean < 1.5).all()


def test_places_of_many_views_cost_no_more_than_those_of_few(monkeypatch):
    pairs = []
    monkeypatch.setattr(landmarks, "_mutual", lambda *two: pairs.append(two) or _mutual(*two))
    old, new = [*OLD, *OLD[1:], *OLD[1:]], [*NEW, *NEW[1:], *NEW[1:]]
    many = places(wall(0), wall(0), old=old, new=new)
    verdict = verify(*many, window(*many, truth=[*old, *new]), LoopPolicy())
    assert verdict.constraint is not None, verdict.reason
    assert len(pairs) == 16


@pytest.mark.parametrize("noise", [{}, {"turn": 0.03, "shift": 0.03, "depth": 0.2}])
def test_places_of_one_shape_that_share_no_points_are_two(other, noise):
    assert verify(*other, window(*other, **noise), LoopPolicy()).reason == "the places share no points"


@pytest.mark.parametrize("poster_m", [0.67, 1.0, 1.5])
def test_a_poster_that_hangs_in_two_places_does_not_make_them_one(poster_m):
    """In the middle of pictures that show 5 m of wall, and in all of them."""
    size, middle = round(poster_m * PIXELS_PER_M), 612
    part = slice(600 - size // 2, 600 - size // 2 + size), slice(middle - size // 2, middle - size // 2 + size)
    walls = wall(0), wall(1)
    for one in walls:
        one[part] = wall(7)[:size, :size]
    pair = places(*walls)
    assert verify(*pair, window(*pair), LoopPolicy()).reason == "the places share no points"


def test_a_point_counts_once_however_many_views_show_it():
    rng = np.random.default_rng(0)
    shared = rng.gamma(0.3, 60, (2, 128))

    def points():
        descriptors = np.concatenate([shared, rng.gamma(0.3, 60, (50, 128))]).astype(np.float32)
        u = np.arange(len(descriptors))
        return Points(np.stack([u / 100, 0.0 * u, 1.0 + 0.0 * u], axis=1), 0 * u, u, descriptors)

    depth = [np.full((40, 60), 3.0)] * 8
    found = compare_sightings([points() for _ in range(8)], np.stack([np.eye(4)] * 8), depth, 4)
    assert found.agreeing == 2


def test_points_that_look_alike_must_lie_in_one_spot(same):
    """A network that puts the second place 1.5 m aside, on the same wall: its surfaces still fit."""
    aside = window(*same)
    aside.T_world_cam[4:, :3, 3] += 1.5 * 0.3 * aside.T_world_cam[0, :3, 0]
    assert verify(*same, aside, LoopPolicy()).reason == "the places share no points"


def test_poses_that_are_far_from_what_they_were_are_refused_whatever_looks_alike(same):
    turned = window(*same)
    turned.T_world_cam[3] = turned.T_world_cam[3] @ pose(0.0, 0.0, 0.6)
    assert verify(*same, turned, LoopPolicy()).reason == "the views of one place do not lie as they did"


def test_without_points_the_network_must_be_exact_and_the_places_look_alike():
    blurred = wall(0, detail=150)
    another = 255 - blurred
    pair = places(blurred, blurred)
    assert all(len(find_points(one)) < 30 for p in pair for _, one in p.views)
    assert verify(*pair, window(*pair), LoopPolicy()).constraint is not None
    assert verify(*pair, window(*pair, turn=0.1, shift=0.05), LoopPolicy()).constraint is None
    pair = places(blurred, another)
    assert verify(*pair, window(*pair), LoopPolicy()).reason == "the places do not look alike"


def test_odometry_between_the_views_of_a_place_does_not_move_the_loop(same):
    """The loop is that of the two keyframes' own views; the others say how sure it is."""
    old, new = same
    others = [replace(one, T_odom_cam=one.T_odom_cam @ pose(0.1, 0.0, 0.08)) for _, one in new.views[1:]]
    crooked = place(40, [new.views[0][1], *others])
    verdict = verify(old, crooked, window(old, crooked), LoopPolicy())
    angle, distance, _ = off(verdict)
    assert angle < 1e-3 and distance < 0.01
    assert verdict.constraint.variance[0] > 10 * verify(*same, window(*same), LoopPolicy()).constraint.variance[0]


@pytest.mark.parametrize("hw", [(168, 224), (378, 504)])
def test_points_lie_where_they_are_seen_whatever_the_size_of_the_picture(hw):
    pair = [view(OLD[0], wall(0), hw), view(NEW[0], wall(0), hw)]
    points = [find_points(one) for one in pair]
    depth = [one.depth.astype(np.float64) for one in pair]
    found = compare_sightings(points, np.stack([OLD[0], NEW[0]]), depth, 1)
    assert found.matched > 50 and found.agreeing > 0.95 * found.matched
    # By plane and rays alone, to about half a pixel of 224.
    spots = [
        (lambda T, rays: T[:3, 3] + rays * ((WALL_M - T[2, 3]) / rays[:, 2:]))(T, one.rays @ T[:3, :3].T)
        for T, one in zip((OLD[0], NEW[0]), points, strict=True)
    ]
    apart = np.linalg.norm(spots[0][:, None] - spots[1], axis=-1).min(1)
    assert np.median(apart) < 0.5 * WALL_M / (0.8 * 224)


def test_padding_and_what_has_no_depth_has_no_points():
    one = view(OLD[0], wall(0), content=(0, 100, 168, 124))
    assert len(find_points(one)) > 20
    assert find_points(one).rays[:, 0].min() > (100 - 112) / (0.8 * 224) - 0.02
    one.weight[:, 40:] = 0
    assert find_points(one).column.max() < 40
