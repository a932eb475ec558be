"""Metres per unit of a window: what each source says, and the filter that keeps one scale out of them."""

import math

import numpy as np
import pytest
import torch

from da3_ros.tracking.depth_scale import ScaleRatio
from da3_ros.tracking.scale_filter import ScaleFilter, combine, unknown_scale
from da3_ros.tracking.scale_sources import (
    SOURCES,
    ScaleMeasurement,
    scale_from_metres,
    scale_from_ranges,
    scale_from_vectors,
)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def measured(metres, relative=0.02):
    return ScaleMeasurement(tensor(math.log(metres)), tensor(relative**2), torch.tensor(True))


def only(source, measurement):
    """Measurements of all sources, of which ``source`` alone says something."""
    nothing = ScaleMeasurement(tensor(0.0), tensor(math.inf), torch.tensor(False))
    return [measurement if one == source else nothing for one in SOURCES]


def ratio(log, variance=1e-4, valid=True):
    return ScaleRatio(
        tensor(log if valid else 0.0), tensor(variance if valid else math.inf), torch.tensor(valid), tensor(1.0)
    )


def test_vectors_give_metres_per_unit_and_noise_across_them_does_not_lengthen_it():
    known = torch.eye(3)
    found = scale_from_vectors(known, known / 2.0 + 0.1 * known.roll(1, 0), independent=3)
    assert bool(found.valid)
    assert float(found.log) == pytest.approx(math.log(2.0), abs=1e-6)


def noisy_vectors(displacements, relative=0.04):
    """4000 times so many, known and as predicted with 2 metres per unit; the same in each run."""
    known = torch.tensor([[0.0, 0.3, 0.0]], dtype=torch.float64).repeat(4000, displacements, 1)
    noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return known, known / 2 + 0.15 * relative * noise


@pytest.mark.parametrize("displacements", [2, 3, 4, 8])
def test_noise_of_vectors_makes_lengths_neither_too_long_nor_too_short(displacements):
    known, predicted = noisy_vectors(displacements)
    found = scale_from_vectors(known, predicted, torch.full((4000,), displacements))
    off = found.log - math.log(2.0)
    assert found.valid.all() and abs(off.mean()) < 0.1 * off.std()
    assert off.std() < 1.1 * 0.04 / math.sqrt(displacements)  # as a mean


@pytest.mark.parametrize("displacements", [4, 8])
def test_one_vector_that_is_altogether_wrong_counts_for_next_to_nothing(displacements):
    known, predicted = noisy_vectors(displacements)
    predicted[:, 0] *= 1.6
    found = scale_from_vectors(known, predicted, torch.full((4000,), displacements))
    off = (found.log - math.log(2.0))[found.valid]
    assert len(off) > 3600 and abs(off.median()) < 0.01 and off.std() < 0.04


@pytest.mark.parametrize("readings", [2, 4])
def test_few_ranges_are_not_taken_by_their_shorter_half(readings):
    noise = torch.randn(readings, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [float(scale_from_ranges(4 + 0.1 * one, torch.full_like(one, 2.0)).log) for one in noise.T]
    assert abs(np.mean(found) - math.log(2.0)) < 0.1 * np.std(found)


@pytest.mark.parametrize(
    "known, predicted",
    [(torch.zeros(2, 3), torch.ones(2, 3)), (torch.eye(3), -torch.eye(3)), (torch.zeros(0, 3), torch.zeros(0, 3))],
    ids=["no displacement", "backwards", "nothing"],
)
def test_vectors_that_say_nothing_are_not_valid(known, predicted):
    found = scale_from_vectors(known, predicted, independent=2)
    assert not bool(found.valid)
    assert math.isinf(float(found.variance))


def test_ranges_give_their_median_though_some_are_wrong_or_missing():
    known = torch.tensor([2.0, 4.0, 6.0, 8.0, 1.0, math.nan, 3.0])
    predicted = torch.tensor([1.0, 2.0, 3.0, 4.0, 9.0, 1.0, 0.0])
    found = scale_from_ranges(known, predicted)
    assert bool(found.valid)
    assert float(found.log) == pytest.approx(math.log(2.0), abs=1e-6)
    assert not bool(scale_from_ranges(known[-2:], predicted[-2:]).valid)


def test_one_range_alone_is_taken_as_a_tenth_sure():
    found = scale_from_ranges(torch.tensor([3.0]), torch.tensor([1.5]))
    assert float(found.variance) == pytest.approx(0.01)


def test_metres_of_a_network_carry_their_deviation_and_nan_is_not_valid():
    found = scale_from_metres(tensor(3.0), tensor(0.15))
    assert float(found.log) == pytest.approx(math.log(3.0))
    assert math.sqrt(float(found.variance)) == pytest.approx(0.05)
    assert math.sqrt(float(scale_from_metres(tensor(3.0), tensor(math.nan)).variance)) == pytest.approx(0.1)
    assert not bool(scale_from_metres(tensor(math.nan), None).valid)


def settled(scale_filter, metres=2.0):
    """State after ten time constants in which one source said the same."""
    state = unknown_scale(torch.device("cpu"))
    for _ in range(20):
        state = scale_filter.correct(state, only("rig", measured(metres)), scale_filter.time_constant_s / 2)
    return state


def test_the_first_measurement_is_taken_over_then_means_and_later_ones_correct_slowly():
    scale_filter = ScaleFilter(time_constant_s=5.0, jump_after=3)
    state = unknown_scale(torch.device("cpu"))
    assert not bool(state.metric)
    state = scale_filter.correct(state, only("rig", measured(2.0)), 0.1)
    assert bool(state.metric)
    assert float(state.metres_per_unit) == pytest.approx(2.0)
    for windows in range(2, 11):
        before = float(state.log)
        state = scale_filter.correct(state, only("rig", measured(2.05)), 0.1)
        assert 0 < float(state.log) - before <= (math.log(2.05) - before) / windows + 1e-9  # at most their mean
    assert float(state.metres_per_unit) > 2.02  # one window has one vote
    state = scale_filter.correct(settled(scale_filter), only("rig", measured(2.05)), 0.1)
    assert 2.0 < float(state.metres_per_unit) < 2.005


def test_another_scale_is_left_out_at_first_and_taken_over_when_it_stays():
    scale_filter = ScaleFilter(time_constant_s=5.0, jump_after=3)
    state = scale_filter.correct(unknown_scale(torch.device("cpu")), only("rig", measured(2.0)), 0.1)
    for _ in range(2):
        state = scale_filter.correct(state, only("rig", measured(4.0)), 0.1)
        assert bool(state.rejected[0]) and not state.jumped.any()
        assert float(state.metres_per_unit) == pytest.approx(2.0)
    state = scale_filter.correct(state, only("rig", measured(4.0)), 0.1)
    assert bool(state.jumped[0]) and not state.rejected.any()
    assert float(state.metres_per_unit) == pytest.approx(4.0)


def test_the_next_window_keeps_the_metres_whatever_its_unit():
    scale_filter = ScaleFilter(time_constant_s=5.0, jump_after=3)
    state = scale_filter.correct(unknown_scale(torch.device("cpu")), only("rig", measured(2.0)), 0.1)
    carried = scale_filter.carry(state, ratio(math.log(3.0)), 0.1)
    assert float(carried.metres_per_unit) == pytest.approx(6.0)
    kept = scale_filter.carry(state, ratio(0.0, valid=False), 0.1)
    assert float(kept.metres_per_unit) == pytest.approx(2.0)
    assert float(kept.variance) > float(carried.variance) > float(state.variance)


def test_ratios_count_by_their_variance():
    found = combine([ratio(0.0, 1e-4), ratio(0.5, 4e-4), ratio(9.0, valid=False)])
    assert float(found.log) == pytest.approx(0.1)
    assert not bool(combine([ratio(0.0, valid=False)]).valid)


def test_a_source_that_contradicts_another_one_does_not_take_over():
    scale_filter = ScaleFilter(time_constant_s=5.0, jump_after=3)
    state = scale_filter.correct(unknown_scale(torch.device("cpu")), only("rig", measured(2.0)), 0.1)
    for _ in range(20):
        both = only("rig", measured(2.0))
        both[SOURCES.index("odometry")] = measured(4.0)
        state = scale_filter.correct(state, both, 0.1)
    assert float(state.metres_per_unit) == pytest.approx(2.0)
    assert bool(state.rejected[SOURCES.index("odometry")]) and bool(state.used[SOURCES.index("rig")])


@pytest.mark.parametrize("time_constant_s", [1.0, 10.0])
def test_a_correction_is_no_faster_than_the_time_constant(time_constant_s):
    scale_filter = ScaleFilter(time_constant_s, jump_after=1000)
    state = settled(scale_filter)
    for _ in range(round(time_constant_s / 0.1)):
        state = scale_filter.carry(state, ratio(0.0, 1e-3), 0.1)
        state = scale_filter.correct(state, only("rig", measured(2.1)), 0.1)
    moved = (float(state.log) - math.log(2.0)) / math.log(2.1 / 2.0)
    assert 0.2 < moved <= 1 - math.exp(-1) + 1e-3


def turned(vectors, degrees):
    """``vectors`` (K, 3) turned about z, and a third as long: a network whose poses are wrong."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return vectors @ torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]]) / 3


RIG = torch.tensor([[0.0, 0.3, 0.0], [0.2, -0.1, 0.0], [0.2, 0.2, 0.0]])


@pytest.mark.parametrize("degrees, refused", [(0, False), (5, False), (12, False), (25, True), (90, True), (180, True)])
def test_directions_that_contradict_what_is_known_are_refused(degrees, refused):
    found = scale_from_vectors(RIG, turned(RIG, degrees), independent=3)
    assert bool(found.refused) == refused and bool(found.valid) == (not refused)
    alike = scale_from_vectors(RIG, turned(RIG, degrees), independent=3, equally_noisy=True)
    assert bool(alike.refused) == refused and bool(alike.valid) == (not refused)


def test_a_rig_that_is_refused_leaves_the_scale_to_others_and_comes_back_only_when_it_stays_right():
    scale_filter = ScaleFilter(time_constant_s=5.0, jump_after=3)
    state = unknown_scale(torch.device("cpu"))
    wrong, right = (scale_from_vectors(RIG, turned(RIG, degrees), independent=3) for degrees in (40, 0))
    for measurement in (wrong, right, right, wrong):  # right by chance
        state = scale_filter.correct(state, only("rig", measurement), 0.1)
        assert bool(state.rejected[0]) and not bool(state.metric)
    both = only("rig", wrong)
    both[SOURCES.index("metric_model")] = measured(2.0)
    state = scale_filter.correct(state, both, 0.1)
    assert float(state.metres_per_unit) == pytest.approx(2.0) and bool(state.rejected[0])
    state = scale_filter.correct(unknown_scale(torch.device("cpu")), only("rig", wrong), 0.1)
    for _ in range(4):
        state = scale_filter.correct(state, only("rig", right), 0.1)
    assert bool(state.used[0]) and float(state.metres_per_unit) == pytest.approx(3.0, rel=1e-3)
