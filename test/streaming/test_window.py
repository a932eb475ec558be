"""Which views the window holds, and where."""

import numpy as np
import pytest

from da3_ros.datatypes import View, WindowView
from da3_ros.errors import InputError
from da3_ros.streaming.window import SlidingWindow

VIEW = View("left", (42, 56), (0, 0, 42, 56), np.eye(3), True)


def views(step, count=2):
    return [WindowView(f"camera{index}", step, "", True, VIEW) for index in range(count)]


def stamps(window):
    return [slot.view.stamp_ns for slot in window.slots()]


def test_the_oldest_set_leaves_a_full_window():
    window = SlidingWindow(sets=2, cameras=2)
    for step in range(4):
        window.push(views(step))
    assert stamps(window) == [2, 2, 3, 3] and len(window) == 2


def test_no_two_views_share_a_row_and_none_is_moved():
    window, rng = SlidingWindow(sets=3, cameras=2), np.random.default_rng(0)
    row_of = {}
    for step in range(50):
        window.push(views(step, int(rng.integers(1, 3))))
        rows = [slot.index for slot in window.slots()]
        assert len(set(rows)) == len(rows) and set(rows) <= set(range(6))
        for slot in window.slots():
            assert row_of.setdefault((slot.view.stamp_ns, slot.view.camera), slot.index) == slot.index


def test_chosen_views_leave_and_old_ones_stay():
    window = SlidingWindow(sets=3, cameras=1)
    for step in range(3):
        window.push(views(step, 1))
    for step in range(3, 6):
        window.push(views(step, 1), evict=[window.slots()[1]])
    assert stamps(window) == [0, 4, 5]


def test_half_a_set_can_stay():
    window = SlidingWindow(sets=2, cameras=2)
    window.push(views(0))
    window.push(views(1))
    window.push(views(2, 1), evict=window.slots()[1:2])
    assert stamps(window) == [0, 1, 1, 2] and len(window) == 3
    window.push(views(3))  # without a choice the oldest sets leave until the new one fits
    assert stamps(window) == [2, 3, 3]


def test_what_does_not_fit_is_refused_and_changes_nothing():
    window = SlidingWindow(sets=2, cameras=2)
    window.push(views(0))
    window.push(views(1))
    with pytest.raises(InputError, match="2 new views and the 3 that stay are more than the 4 of the window"):
        window.push(views(2), evict=window.slots()[:1])
    gone = window.slots()[:2]
    window.push(views(3))
    with pytest.raises(InputError, match="cannot be evicted"):
        SlidingWindow(sets=1, cameras=1).push(views(4, 1), evict=gone)
    assert stamps(window) == [1, 1, 3, 3]
