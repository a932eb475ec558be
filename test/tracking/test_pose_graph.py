"""The pose graph: drift is taken out by loops, wrong loops are found out, memory stays bounded."""

import builtins
import math

import numpy as np
import pytest

from da3_ros.errors import UnavailableError
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.tracking.loop_agreement import LoopAgreement
from da3_ros.tracking.pose_graph import Constraint, PoseGraph
from da3_ros.tracking.similarity import invert_similarity, scale_of, scaling

STDDEV = np.array([0.01] * 3 + [0.02] * 3 + [0.005])
LOOP = np.array([0.01] * 3 + [0.02] * 3 + [0.005]) ** 2


def rotation(yaw):
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def laps(keyframes, per_lap):
    """True poses (4, 4) on a circle, metres; the first one at the origin."""
    angle = 2 * math.pi * np.arange(keyframes) / per_lap
    radius = per_lap / (2 * math.pi)
    poses = [T_from(rotation(a), radius * np.array([math.sin(a), 1 - math.cos(a), 0.0])) for a in angle]
    return [invert(poses[0]) @ pose for pose in poses]


def drifting_graph(truth, drift_scale=1.0003, yaw_drift=0.002):
    """A graph of which odometry turns a little too much and whose scale grows."""
    graph = PoseGraph()
    graph.begin(0, np.eye(4))
    for number in range(1, len(truth)):
        S = invert(truth[number - 1]) @ truth[number] @ T_from(rotation(yaw_drift), np.zeros(3)) @ scaling(drift_scale)
        graph.extend(Constraint(number - 1, number, S, STDDEV**2))
    return graph


NOTHING = np.eye(4)


def true_loop(truth, a, b, off=NOTHING):
    return Constraint(a, b, invert(truth[a]) @ truth[b] @ off, LOOP)


def solve(graph):
    graph.start()
    steps = 1
    while not graph.advance():
        steps += 1
        assert steps < 100
    return steps


def worst(graph, truth):
    return max(np.linalg.norm(graph.pose(k)[:3, 3] - truth[k][:3, 3]) for k in range(len(truth)) if k in graph)


def test_loops_take_out_drift_of_pose_and_scale():
    truth = laps(120, 60)
    graph = drifting_graph(truth)
    before = worst(graph, truth)
    graph.add_loops([true_loop(truth, a, a + 60) for a in range(0, 60, 10)])
    solve(graph)
    assert before > 1.5
    assert worst(graph, truth) < 0.15 * before
    assert abs(scale_of(graph.pose(119)) - 1) < abs(1.0003**119 - 1)
    assert graph.dropped == []


def test_a_wrong_loop_among_right_ones_is_dropped():
    truth = laps(120, 60)
    graph = drifting_graph(truth)
    right = [true_loop(truth, a, a + 60) for a in range(0, 60, 10)]
    wrong = true_loop(truth, 25, 85, T_from(rotation(0.3), np.array([1.5, 0.0, 0.0])))
    graph.add_loops([*right, wrong])
    solve(graph)
    assert graph.dropped == [wrong]
    assert worst(graph, truth) < 0.3


def test_keyframes_that_come_while_it_is_solved_follow_the_solution():
    truth = laps(120, 60)
    graph = drifting_graph(truth[:100])
    graph.add_loops([true_loop(truth, 0, 60), true_loop(truth, 30, 90)])
    graph.start()
    step = invert(truth[99]) @ truth[100]
    graph.extend(Constraint(99, 100, step, STDDEV**2))
    while not graph.advance():
        pass
    np.testing.assert_allclose(graph.pose(100), graph.pose(99) @ step)


def test_thinning_keeps_what_the_graph_knows():
    truth = laps(120, 60)
    full, thinned = drifting_graph(truth), drifting_graph(truth)
    loops = [true_loop(truth, a, a + 60) for a in range(0, 60, 10)]
    for graph in (full, thinned):
        graph.add_loops(loops)
    for number in range(1, 119):
        if number % 3:
            thinned.remove(number)
    assert len(thinned) == 41
    for graph in (full, thinned):
        solve(graph)
    kept = [number for number in range(120) if number in thinned]
    apart = max(np.linalg.norm(full.pose(k)[:3, 3] - thinned.pose(k)[:3, 3]) for k in kept)
    assert apart < 0.15  # of 1.5 m of drift that was taken out


def test_a_single_loop_that_moves_the_map_waits_until_another_agrees():
    truth = laps(120, 60)
    graph, agreement = drifting_graph(truth), LoopAgreement()
    wrong = true_loop(truth, 5, 70, T_from(rotation(1.0), np.array([4.0, 0.0, 0.0])))
    first, second = true_loop(truth, 0, 60), true_loop(truth, 3, 63)
    assert agreement.admit(wrong, graph) == []
    assert agreement.admit(first, graph) == []
    assert agreement.admit(second, graph) == [first, second]


def test_a_loop_that_confirms_the_map_needs_no_other():
    truth = laps(120, 60)
    graph = drifting_graph(truth, drift_scale=1.0, yaw_drift=0.0)
    loop = true_loop(truth, 0, 60)
    assert LoopAgreement().admit(loop, graph) == [loop]


@pytest.fixture
def corridor():
    """A corridor of 40 m that was walked up and down for 320 steps, the map exact, but odometry known to be poor; one
    loop is in it. With it the true pose (4, 4) of a keyframe."""

    def pose(number):
        way = number % 200
        return T_from(np.eye(3), np.array([0.4 * min(way, 200 - way), 0.0, 0.0]))

    graph = PoseGraph()
    graph.begin(0, np.eye(4))
    poor = np.array([0.01] * 3 + [0.05] * 3 + [0.02]) ** 2
    for number in range(1, 320):
        graph.extend(Constraint(number - 1, number, invert(pose(number - 1)) @ pose(number), poor))
    graph.add_loops([corridor_loop(pose, 5)])
    return graph, pose


def corridor_loop(pose, a, off_m=0.0):
    S = invert(pose(a)) @ pose(a + 200)
    S[0, 3] += off_m
    return Constraint(a, a + 200, S, np.array([0.02] * 3 + [0.15] * 3 + [0.05]) ** 2)


@pytest.mark.parametrize(("a", "off_m"), [(15, 2.0), (22, 5.0), (60, 5.0), (110, 5.0)])
def test_a_true_loop_does_not_vouch_for_a_false_one_further_along_the_way(corridor, a, off_m):
    graph, pose = corridor
    agreement = LoopAgreement()
    assert agreement.admit(corridor_loop(pose, a, off_m), graph) == []
    # Nor does a second one that is wrong in another way.
    assert agreement.admit(corridor_loop(pose, a + 8, -off_m), graph) == []


def test_false_loops_of_different_stretches_of_way_do_not_vouch_for_each_other(corridor):
    graph, pose = corridor
    agreement = LoopAgreement()
    assert agreement.admit(corridor_loop(pose, 20, 5.0), graph) == []
    assert agreement.admit(corridor_loop(pose, 110, 5.0), graph) == []


def test_a_loop_of_the_map_vouches_for_the_next_one_that_says_the_same(corridor):
    graph, pose = corridor
    graph.add_loops([corridor_loop(pose, 40, 2.0)])
    loop = corridor_loop(pose, 46, 2.1)
    assert LoopAgreement().admit(loop, graph) == [loop]


def test_loops_are_bounded_and_those_that_repeat_others_go():
    graph, variance = PoseGraph(), np.full(7, 1e-4)
    graph.begin(0, np.eye(4))
    for number in range(1, 1000):
        graph.extend(Constraint(number - 1, number, np.eye(4), variance))
    alone = Constraint(10, 990, np.eye(4), 2 * variance)  # the least sure of all, but no other is like it
    repeated = [Constraint(500 + k % 40, 600 + k % 40, np.eye(4), (1 + k / 1e3) * variance) for k in range(400)]
    graph.add_loops([alone])
    for loop in repeated:
        graph.add_loops([loop])
    assert len(graph.loops) == 300
    assert alone in graph.loops
    assert {(loop.a, loop.b) for loop in graph.loops[1:]} == {(loop.a, loop.b) for loop in repeated}
    assert repeated[0] in graph.loops


def test_without_the_solver_there_is_one_clear_error(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "gtsam":
            raise ImportError("No module named 'gtsam'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UnavailableError, match="pip install gtsam, or set loops.enabled to false"):
        PoseGraph()


def test_a_similarity_and_its_inverse_cancel():
    S = T_from(1.3 * rotation(0.4), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(S @ invert_similarity(S), np.eye(4), atol=1e-12)
    assert scale_of(S) == pytest.approx(1.3)
