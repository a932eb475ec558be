"""The covariance that odometry claims is that of its errors."""

import numpy as np
import pytest
import window_simulation as sim

from da3_ros.evaluation.simulated_drives import Drive, Scenario
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.odometry_covariance import OdometryCovariance
from da3_ros.tracking.view_errors import ViewErrors

NOISE = sim.Noise(depth=0.05, rotation_rad=0.003, translation=0.005)


WAYS = {"circle": sim.circle(50), "straight": sim.straight(50, 0.9), "turning": sim.turning(50)}
RIGS = {"stereo": (sim.STEREO, "rig"), "one camera": (sim.FRONT, "odometry")}


CASES = [("circle", "stereo", True), ("straight", "stereo", True), ("circle", "one camera", True)]
MORE = [
    ("turning", "stereo", True),
    ("circle", "stereo", False),
    ("straight", "stereo", False),
    ("turning", "stereo", False),
    ("straight", "one camera", True),
]


@pytest.mark.parametrize(
    ("way", "rig", "keyframes"), [*CASES, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE)]
)
def test_normalised_errors_squared_are_near_their_expectation(way, rig, keyframes):
    rig, source = RIGS[rig]
    recent = 2 if keyframes else 4
    drives = [Drive(Scenario("", WAYS[way], rig, source, noise=NOISE, recent=recent), seed) for seed in range(2)]
    mean = np.mean([np.nanmean(drive.nees()[20:]) for drive in drives])
    assert 6 / 3 < mean < 6 * 3  # six degrees of freedom


def covariance_of(*steps):
    """After steps of (position, rotation variance, scale variance), a second each."""
    covariance, P = OdometryCovariance(5.0), None
    for position, rotation, scale in steps:
        P = covariance.step(T_from(np.eye(3), np.array(position, dtype=float)), 1.0, rotation, 0.0, scale)
    return P


def test_an_early_turn_moves_later_positions_sideways():
    P = covariance_of(((0, 0, 0), 0.0, 0.0), ((0, 0, 0), 0.01, 0.0), ((10, 0, 0), 0.0, 0.0))
    np.testing.assert_allclose(np.diag(P)[:3], [0.0, 1.0, 1.0])
    assert P[1, 5] > 0  # a turn to the left goes with a shift to the left


def test_an_unsure_scale_stretches_the_way():
    P = covariance_of(((0, 0, 0), 0.0, 0.02**2), ((0, 5, 0), 0.0, 0.02**2))
    np.testing.assert_allclose(np.sqrt(np.diag(P)), [0, 0.1, 0, 0, 0, 0], atol=1e-12)


def test_what_a_wrong_scale_did_to_the_way_remains_when_it_is_known_better():
    unsure = [((0, 0, 0), 0.0, 0.02**2), ((5, 0, 0), 0.0, 0.02**2)]
    P = covariance_of(*unsure, *[((5, 0, 0), 0.0, 1e-8)] * 3)
    assert np.sqrt(P[0, 0]) == pytest.approx(0.1)
    # Scales that are wrong independently of each other lengthen a long way less than one that stays wrong.
    ways = [((x, 0, 0), 0.0, 0.02**2) for x in range(101)]
    assert 0.5 < np.sqrt(covariance_of(*ways)[0, 0]) < 0.8 < 0.02 * 100


def simulated(stays, cameras, steps=60, trials=4000, metres=None):
    """Errors of one axis, deviation 1 in each view and window, by the means of the tracker: of the newest body
    (trials, steps); and what ViewErrors says its variance is (steps,). ``stays`` (step, sets) -> the set that leaves.
    From step ``metres`` on lengths are 3 times as many and errors those against the body of that step.
    """
    rng = np.random.default_rng(0)
    errors, claimed, found, inherited = {}, [], [], 0.0
    model, held, counts = ViewErrors(), [], {}
    for step in range(steps):
        if len(held) == 4:
            held.remove(stays(step, held))
        held.append(step)
        keys = [(camera, of) for of in held for camera in range(cameras)]
        counts = {key: counts.get(key, 0) + 1 for key in keys}
        noise = {key: rng.normal(size=trials) if step else np.zeros(trials) for key in keys}
        old = [key for key in keys if key in errors]
        window = np.mean([errors[key] - noise[key] for key in old], axis=0) if old else np.zeros(trials)
        says = {key: window + noise[key] for key in keys}
        body = np.mean([says[key] for key in keys if key[1] == step], axis=0)
        residual = np.mean([np.square(says[key] - errors[key]) for key in old]) if old else 0.0
        errors = {key: errors[key] + (says[key] - errors[key]) / counts[key] if key in errors else body for key in keys}
        if step == metres:
            model.enlarge(3.0)
        if metres is not None and step >= metres:
            residual *= 9
        added, own, learnt = model.step(keys, cameras, True, cameras > 1, np.full(2, residual), np.full(2, 25.0))
        if step == metres:
            model.count_from_here()
            inherited, added, own = 0.0, np.zeros(2), np.zeros(2)
        inherited = inherited * learnt[1] + added[1]
        claimed.append(inherited + own[1])
        found.append(body)
    return np.stack(found, 1), np.array(claimed)


POLICIES = {
    "sliding window": lambda step, held: held[0],
    "one anchor that stays": lambda step, held: held[1],
    "anchors that change": lambda step, held: held[0] if step % 5 == 0 else held[-1],
}


@pytest.mark.parametrize("cameras", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_errors_of_views_become_errors_of_the_frame_by_the_means_of_the_windows(policy, cameras):
    found, claimed = simulated(POLICIES[policy], cameras)
    np.testing.assert_allclose(claimed[10::10], found.var(0)[10::10], rtol=0.35)


@pytest.mark.parametrize("cameras", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_errors_are_in_metres_and_count_from_the_first_ones_on(policy, cameras):
    """The first metres come in a step of a drive: nothing of what views are off by is forgotten with them."""
    found, claimed = simulated(POLICIES[policy], cameras, metres=30)
    off = 3 * (found[:, 30:] - found[:, 30:31])
    np.testing.assert_allclose(claimed[31::4], off.var(0)[1::4], rtol=0.35)


def test_anchors_hold_the_frame():
    (sliding, _), (anchored, _) = (simulated(POLICIES[name], 2) for name in ("sliding window", "one anchor that stays"))
    assert anchored[:, -1].var() < 0.5 * sliding[:, -1].var()
