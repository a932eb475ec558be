"""Matching images of cameras whose clocks differ, jump, or are set; and starting anew."""

import pytest
from sync_events import EPOCH, MS, SECOND, check_counts, check_sets, make, play, stream


def test_two_cameras_with_clocks_an_hour_apart():
    sync = make("ab")
    events = stream("a", 90) + [(now, "b", stamp - 3600 * SECOND) for now, _, stamp in stream("b", 90)]
    sets = play(sync, events)
    assert len(sets) >= 72
    assert all(matched.missing == ("b",) for matched in sets)
    figures = sync.statistics()
    assert (figures["a"].other_clock, figures["b"].other_clock) == (False, True)
    assert figures["b"].skew_ns == pytest.approx(-3600 * SECOND, abs=3 * SECOND)
    # When only the one that is behind is left, its clock is followed, and that is told.
    rest = [(now, "b", stamp - 3600 * SECOND) for now, _, stamp in stream("b", 90, start_ms=90 * 33)]
    sets = play(sync, rest)
    assert sync.take_reset().by_ns == pytest.approx(3600 * SECOND, abs=5 * SECOND)
    assert sets[-1].stamp_ns == EPOCH - 3600 * SECOND + 179 * 33 * MS
    check_counts(sync)


def test_a_clock_that_is_set_brings_the_camera_back():
    sync = make("ab")
    early = [(now, "b", stamp - 3600 * SECOND) for now, _, stamp in stream("b", 60)]
    sets = play(sync, stream("a", 120) + early + stream("b", 60, start_ms=60 * 33))
    assert [matched.missing for matched in sets[-59:]] == [()] * 59
    figures = sync.statistics()
    assert not figures["b"].other_clock
    assert figures["b"].skew_ns == 0
    assert figures["b"].delay_ns == 5 * MS


@pytest.mark.parametrize("cameras", ["ab", "abcd"])
@pytest.mark.parametrize("queued", [False, True])
def test_backward_clock_jump_with_full_queues(cameras, queued):
    """A bag that loops: everything matches again afterwards, and the jump is told once."""
    sync = make(cameras)
    first = [event for camera in cameras for event in stream(camera, 100)]
    if queued:  # camera a alone at the end: its queue is full when time jumps
        first += stream("a", 12, start_ms=100 * 33)
    assert len(play(sync, first)) == 100
    assert sync.take_reset() is None
    arrival = max(now for now, _, _ in first)
    again = [
        (arrival + (now - EPOCH), camera, stamp) for camera in cameras for now, camera, stamp in stream(camera, 100)
    ]
    sets = play(sync, again)
    assert len(sets) == 100
    assert all(not matched.missing for matched in sets)
    jump = sync.take_reset()
    assert jump.camera == "a"
    assert jump.by_ns >= 99 * 33 * MS
    assert sync.take_reset() is None
    check_counts(sync)


def test_images_still_on_their_way_during_a_jump_do_not_reset_again():
    sync = make("ab")
    play(sync, [event for camera in "ab" for event in stream(camera, 100)])
    old = EPOCH + 100 * 33 * MS
    new = EPOCH
    sets = []
    now = old
    jumps = []
    for step in range(30):
        now += 33 * MS
        sets += sync.add("a", new + step * 33 * MS, ("a", new + step * 33 * MS), now)
        # Camera b takes four more images on the old clock.
        stamp = old + step * 33 * MS if step < 4 else new + step * 33 * MS
        sets += sync.add("b", stamp, ("b", stamp), now)
        jumps.append(sync.take_reset())
    assert [jump is not None for jump in jumps] == [True] + [False] * 29
    check_sets(sets, 20 * MS)
    assert len(sets) == 26
    assert sync.statistics()["b"].dropped["backward"] == 4


def test_small_steps_back_and_repeated_stamps_drop_one_image_only():
    sync = make("a")
    stamps = [0, 33, 66, 66, 40, 99, 132]
    sets = [s for ms in stamps for s in sync.add("a", EPOCH + ms * MS, ms, EPOCH + 200 * MS)]
    assert [matched.items["a"] for matched in sets] == [0, 33, 66, 99, 132]
    assert sync.statistics()["a"].dropped == {"duplicate": 1, "backward": 1}
    assert sync.take_reset() is None


def test_simulated_host_clock_that_restarts():
    """now_ns may be simulated time, which jumps back together with the stamps."""
    sync = make("ab")
    for _ in range(3):
        sets = play(sync, [event for camera in "ab" for event in stream(camera, 300)])
        assert len(sets) == 300
    sync.take_reset()
    # Liveness still works on the new clock: camera b is dead now.
    sets = play(sync, stream("a", 60))
    assert any(matched.missing == ("b",) for matched in sets)


def test_camera_with_another_clock_does_not_stop_the_others():
    for offset_ms in (-3_600_000, 3_600_000):
        events = [event for camera in "abc" for event in stream(camera, 90)]
        events += [(now, "d", stamp + offset_ms * MS) for now, _, stamp in stream("d", 90)]
        sync = make("abcd")
        sets = play(sync, events)
        check_sets(sets, 20 * MS)
        assert len(sets) >= 72  # of 90; it is put aside when the timeout is over
        assert all(matched.missing == ("d",) for matched in sets[1:])
        figures = sync.statistics()
        assert figures["d"].skew_ns == pytest.approx(offset_ms * MS, abs=3 * SECOND)
        assert [camera for camera in "abcd" if figures[camera].other_clock] == ["d"]
        assert abs(figures["a"].skew_ns) < MS
        assert figures["d"].matched <= 1


def test_reset_forgets_what_waits():
    sync = make("ab")
    sync.add("a", EPOCH, "old", EPOCH)
    sync.reset()
    assert sync.statistics()["a"].dropped == {"reset": 1}
    assert sync.add("b", EPOCH, "new", EPOCH) == []
    # Stamps from before the reset are welcome after it.
    assert sync.add("a", EPOCH - 100 * MS, "earlier", EPOCH) == []
    assert len(sync.add("a", EPOCH, "new", EPOCH)) == 1
    assert sync.take_reset() is None


def test_stamps_of_all_cameras_that_step_forward_cost_no_set():
    events = [event for camera in "ab" for event in stream(camera, 40, 100)]
    moved = [(now, c, t + 1000 * SECOND if t >= EPOCH + SECOND else t) for now, c, t in events]
    sync = make()
    assert [matched.missing for matched in play(sync, moved)] == [()] * 40
    assert all(figures.skew_ns == 0 and not figures.other_clock for figures in sync.statistics().values())
