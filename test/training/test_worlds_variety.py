"""What scenes are made of, how cameras move through them, and what cameras do to pictures: each kind that there is."""

import math

import cv2
import numpy as np
import pytest
import torch

from da3_ros.training.scenes.atlas import make_atlas
from da3_ros.training.worlds import motion
from da3_ros.training.worlds.camera_noise import _STEPS, _degraded
from da3_ros.training.worlds.draws import Draws
from da3_ros.training.worlds.motion import MOTIONS, ways
from da3_ros.training.worlds.patterns import WORLD_PATTERNS
from da3_ros.training.worlds.samples import COUNTS, make_worlds

SAMPLES, STEPS = 200, 5
OUTDOORS = 2


def moved(monkeypatch, name, cameras=1):
    """Ways of SAMPLES rigs outdoors, all of one motion."""
    number = torch.full((SAMPLES,), MOTIONS.index(name))
    monkeypatch.setattr(motion, "_motion", lambda draws, desk: number)
    kind = torch.full((SAMPLES,), OUTDOORS)
    return ways(Draws(torch.arange(SAMPLES), 8000), kind, torch.full((SAMPLES, 3), 1e4), STEPS, cameras)


def steps_of(found):
    """Of one camera: ways forward, left and up between moments in the frame of its level heading, and turns in degrees;
    each (SAMPLES, STEPS - 1)."""
    T = found.T_world_cam[:, :, 0]
    forward = T[..., :2, 2] / T[..., :2, 2].norm(dim=-1, keepdim=True)
    way = T[:, 1:, :3, 3] - T[:, :-1, :3, 3]
    ahead = (way[..., :2] * forward[:, :-1]).sum(-1)
    left = way[..., 1] * forward[:, :-1, 0] - way[..., 0] * forward[:, :-1, 1]
    turn = torch.rad2deg(torch.atan2(forward[..., 1], forward[..., 0]).diff(dim=1))
    return ahead, left, way[..., 2], (turn + 180) % 360 - 180


def test_robots_drive_forward(monkeypatch):
    ahead, left, up, turn = steps_of(moved(monkeypatch, "drive"))
    assert (ahead > 0).float().mean() > 0.99 and ahead.median() > 0.3
    assert (left.abs().mean(1) < 0.35 * ahead.mean(1)).float().mean() > 0.95
    assert up.abs().max() < 1e-4 and turn.abs().mean(1).max() < 11


def test_robots_turn_in_place(monkeypatch):
    ahead, left, up, turn = steps_of(moved(monkeypatch, "turn"))
    driven = steps_of(moved(monkeypatch, "drive"))[0].median()
    assert (ahead.square() + left.square()).sqrt().median() < 0.1 * driven and up.abs().max() < 1e-4
    assert turn.mean(1).abs().median() > 8 and turn.mean(1).abs().max() < 24
    assert (turn.mean(1) > 3).any() and (turn.mean(1) < -3).any()


def test_drones_fly_sideways_and_up_and_down(monkeypatch):
    ahead, left, up, _ = steps_of(moved(monkeypatch, "drone"))
    climbed, flown = up.mean(1), (ahead.square() + left.square()).sqrt().mean(1)
    assert (climbed > 0.2 * flown).float().mean() > 0.2 and (climbed < -0.2 * flown).float().mean() > 0.1
    assert (left.mean(1).abs() > ahead.mean(1).abs()).float().mean() > 0.2
    pitch = moved(monkeypatch, "drone").T_world_cam[:, :, 0, 2, 2].clamp(-1, 1).asin()
    assert (pitch < -math.radians(20)).any() and pitch.diff(dim=1).abs().mean() > math.radians(1)


def test_hands_shake_more_than_wheels(monkeypatch):
    shaken = {name: steps_of(moved(monkeypatch, name))[3].diff(dim=1).abs().mean() for name in ("hand", "drive")}
    assert shaken["hand"] > 4 * shaken["drive"]


def test_ways_round_an_object_turn_against_the_side_that_they_move_to(monkeypatch):
    ahead, left, _, turn = steps_of(moved(monkeypatch, "round"))
    went = left.mean(1).abs() > 3 * ahead.mean(1).abs()
    assert went.float().mean() > 0.5
    assert (left.mean(1) * turn.mean(1) < 0)[went].float().mean() > 0.9


def test_cameras_of_rigs_overlap_or_do_not(monkeypatch):
    found = moved(monkeypatch, "drive", cameras=4)
    forward = found.T_world_cam[:, 0, :, :3, 2]
    angle = (forward[:, 1:] * forward[:, :-1]).sum(-1).clamp(-1, 1).acos().mean(1)       # between neighbours
    apart = angle > found.fov
    parallel = angle < math.radians(6)
    assert 0.1 < apart.float().mean() < 0.4, "rings that look into all directions"
    assert 0.3 < parallel.float().mean() < 0.5, "rows of stereo cameras"
    assert 0.2 < (~apart & ~parallel).float().mean() < 0.5, "fans"
    centre = found.T_world_cam[:, 0, :, :3, 3]
    baseline = (centre[:, 1] - centre[:, 0]).norm(dim=-1)
    assert baseline.min() > 0.005 and baseline.max() < 0.6


@pytest.fixture(scope="module")
def worlds():
    atlas = make_atlas(torch.Generator().manual_seed(0), 32, 4, WORLD_PATTERNS)
    return make_worlds(Draws(torch.arange(SAMPLES), 8000), atlas)


def test_every_kind_of_scene_has_what_it_should(worlds):
    found, kind = worlds
    solids = found.solids
    extents = solids.half.sort(-1).values
    thin = solids.present & (extents[..., 1] < 0.05) & (extents[..., 2] > 0.2)
    for number in range(3):
        of = kind == number
        assert of.float().mean() > 0.15
        boxes, cylinders, balls = solids.present[of].float().split(COUNTS, dim=1)
        for shape in (boxes, cylinders, balls):
            assert shape.sum(1).median() >= 5, "clutter of all shapes"
        assert thin[of].any(1).float().mean() > 0.9, "poles, legs, posts"
        looks = [solids.surface.texture[i][solids.present[i]].unique().numel() for i in of.nonzero().flatten().tolist()]
        assert np.median(looks) > 25
    assert torch.equal(found.indoors, kind != OUTDOORS)
    hill = solids.present & (solids.half[..., 0] > 4.0)
    hill[:, : COUNTS[0] + COUNTS[1]] = False
    assert hill[kind == OUTDOORS].any(1).float().mean() > 0.8 and not hill[kind != OUTDOORS].any()


def test_indoors_there_are_lamps_and_outdoors_a_sky(worlds):
    found, kind = worlds
    outside = kind == OUTDOORS
    assert (found.light.zenith[outside] > 0).any(1).all() and not found.light.zenith[~outside].any()
    assert (found.light.lamp[outside].norm(dim=-1) > 50).all()
    inside = found.light.lamp[~outside] - found.room_centre[~outside]
    assert (inside.abs() <= found.room_half[~outside]).all()
    assert found.light.lamp_colour.std(0).min() > 0.1 and (found.light.haze_m[outside] < 500).any()


def taken(colour, exposure=1.0, gamma=1.0, vignette=0.0, blur=0.1, noise=0.0, coarse=0.0, seed=0):
    """Pictures (V, 3, H, W), 0..255, of linear ``colour`` by a camera that does to them what is given alone."""
    views = len(colour)
    numbers = torch.tensor([exposure, gamma, vignette, blur, noise, coarse, 1.0, 1.0, 1.0]).expand(views, 9)
    return _degraded(colour, numbers, torch.arange(views, dtype=torch.int32) + seed, torch.tensor(_STEPS)).float()


FLAT = torch.full((1, 3, 48, 64), 0.2)


def test_a_camera_that_does_nothing():
    assert (taken(FLAT) == 51).all() and (taken(FLAT, gamma=0.5) == round(255 * 0.2**0.5)).all()


def test_exposure_and_vignetting():
    assert (taken(FLAT, exposure=2.0) == 102).all() and (taken(FLAT, exposure=9.0) == 255).all()
    darker = taken(FLAT, vignette=0.5)[0, 0]
    assert darker[24, 32] >= 50 and darker[0, 0] == pytest.approx(51 * 0.5, abs=1)


def test_blur_is_gaussian():
    point = torch.zeros(1, 3, 21, 21)
    point[..., 10, 10] = 1.0
    seen = taken(point, blur=0.8)[0, 0, 10, 7:14] / 255
    weights = torch.exp(-0.5 * (torch.arange(-3, 4) / 0.8).square())
    weights = weights / weights.sum()
    torch.testing.assert_close(seen, weights * weights[3], atol=0.005, rtol=0)


def test_noise_is_normal_and_new_in_every_view():
    seen = taken(FLAT.repeat(20, 1, 1, 1) * 1.25, noise=0.05)         # 0.05 of 0.4 and the root of 0.25
    off = (seen - 255 * 0.25) / (255 * 0.05 * 0.9)
    assert abs(off.mean()) < 0.01 and abs(off.std() - 1) < 0.02
    assert (off.abs() < 1).float().mean() == pytest.approx(0.683, abs=0.02)
    flat = off.flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.05
    assert torch.equal(taken(FLAT, noise=0.05, seed=3), taken(FLAT.repeat(4, 1, 1, 1), noise=0.05)[3:])


def test_compression_does_what_jpeg_does():
    """Quality 50 of a grey picture has the standard's own steps."""
    v, u = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    grey = 0.5 + 0.25 * torch.sin(u / 3 + v / 7) + 0.2 * torch.sin(u * v / 90)
    plain = taken(grey.expand(1, 3, 48, 64))[0]
    seen = taken(grey.expand(1, 3, 48, 64), coarse=1.0)[0, 0].numpy()
    encoded = cv2.imencode(".jpg", plain[0].numpy().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    wanted = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).astype(np.float32)
    assert np.abs(wanted - plain[0].numpy()).mean() > 2, "it is coarse"
    assert np.abs(seen - wanted).mean() < 0.5 and np.quantile(np.abs(seen - wanted), 0.99) <= 4
