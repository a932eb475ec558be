"""Matching images of several cameras: what a robot sees when cameras are late, lossy, slow or dead."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_events import EPOCH, MS, SECOND, check_counts, check_sets, lively, make, play, stream

from da3_ros.errors import InputError


def test_equal_stamps_match_at_once():
    sync = make("abc")
    for i in range(5):
        stamp = EPOCH + i * 33 * MS
        assert sync.add("a", stamp, "A", stamp) == []
        assert sync.add("c", stamp, "C", stamp) == []
        (matched,) = sync.add("b", stamp, "B", stamp)
        assert matched.items == {"a": "A", "b": "B", "c": "C"}
        assert (matched.stamp_ns, matched.missing) == (stamp, ())


def test_one_camera_alone_needs_no_partner():
    sync = make("a")
    assert [len(sync.add("a", EPOCH + i, i, EPOCH + i)) for i in range(3)] == [1, 1, 1]


def test_jitter_within_the_slop_loses_nothing():
    events = [event for camera in "abcd" for event in stream(camera, 100, jitter_ms=8)]
    sets = play(make("abcd"), events)
    check_sets(sets, 20 * MS)
    assert len(sets) == 100
    assert all(len(matched.items) == 4 for matched in sets)


def test_a_missing_image_costs_one_set():
    events = stream("a", 60, jitter_ms=3) + stream("b", 60, jitter_ms=3, lost=(20, 21, 40))
    sync = make()
    sets = play(sync, events)
    assert len(sets) == 57
    assert all(not matched.missing for matched in sets)
    assert sync.statistics()["a"].dropped == {"unmatched": 3}


def test_cameras_at_30_and_15_hz_give_sets_at_15_hz():
    events = stream("a", 90, 33) + stream("b", 45, 66, start_ms=4) + stream("c", 90, 33, start_ms=-3)
    sync = make("abc")
    sets = play(sync, events)
    check_sets(sets, 20 * MS)
    assert len(sets) == 45
    assert all(not matched.missing for matched in sets)
    # And with the right one of the faster cameras' images.
    for matched in sets:
        assert abs(matched.items["a"][1] - matched.items["b"][1]) == 4 * MS
    assert sync.statistics()["b"].matched == 45


def test_late_camera_is_waited_for_and_named():
    events = [event for camera in "ac" for event in stream(camera, 60)] + stream("b", 60, delay_ms=150)
    sync = make("abc")
    sets = play(sync, events)
    assert len(sets) == 60
    figures = sync.statistics()
    assert {camera: f.completed_sets for camera, f in figures.items()} == {"a": 0, "b": 60, "c": 0}
    assert {camera: f.delay_ns // MS for camera, f in figures.items()} == {"a": 5, "b": 150, "c": 5}


def test_nearest_image_wins_where_the_slop_spans_several():
    # Slop of three periods: a plain first-fit would pair images 90 ms apart for ever.
    events = stream("a", 60) + stream("b", 30, 66, start_ms=95)
    sets = play(make(slop_ms=100), events)
    skews = [abs(matched.items["a"][1] - matched.items["b"][1]) for matched in sets]
    assert len(sets) >= 26
    assert max(skews[1:]) <= 17 * MS


def test_dead_camera_is_done_without_after_the_timeout():
    events = [event for camera in "ab" for event in stream(camera, 90)] + stream("c", 30)
    sync = make("abc")
    sets = play(sync, events)
    check_sets(sets, 20 * MS)
    full = [matched for matched in sets if not matched.missing]
    partial = [matched for matched in sets if matched.missing]
    assert len(full) == 30
    assert all(matched.missing == ("c",) and matched.items.keys() == {"a", "b"} for matched in partial)
    # 60 images remain; those of the timeout beyond the queue of 10 are lost, and nothing after it.
    assert 50 <= len(partial) <= 56
    figures = sync.statistics()
    assert figures["a"].alive
    assert not figures["c"].alive
    assert figures["c"].age_ns > SECOND


def test_camera_dead_from_the_start():
    sync = make("abc")
    sets = play(sync, [event for camera in "ab" for event in stream(camera, 60)])
    assert sets
    assert all(matched.missing == ("c",) for matched in sets)
    # The first set leaves when the timeout after the first image is over.
    assert sets[-1].stamp_ns == EPOCH + 59 * 33 * MS
    assert sync.statistics()["c"].last_stamp_ns is None
    assert not sync.statistics()["c"].alive


def test_poll_emits_what_a_dead_camera_held_up():
    sync = make("ab")
    events = [event for camera in "ab" for event in stream(camera, 3)] + stream("a", 5, start_ms=99)
    assert len(play(sync, events)) == 3
    first = EPOCH + 99 * MS + 5 * MS  # arrival of the first image of a that waits
    assert [sync.poll(first + ms * MS) for ms in (200, 350, 500)] == [[], [], []]
    sets = sync.poll(first + 501 * MS)
    assert [matched.missing for matched in sets] == [("b",)] * 5


def test_stamps_of_sets_increase_when_the_newest_camera_dies():
    sync = make("ab")
    sync.add("a", EPOCH, "a0", EPOCH)
    assert [matched.stamp_ns for matched in sync.add("b", EPOCH + 18 * MS, "b18", EPOCH)] == [EPOCH + 18 * MS]
    for ms in (10, 15, 30):
        sync.add("a", EPOCH + ms * MS, f"a{ms}", EPOCH + 400 * MS)
    sets = [matched for ms in range(500, 1000, 50) for matched in sync.poll(EPOCH + ms * MS)]
    assert [matched.items for matched in sets] == [{"a": "a30"}]
    assert sync.statistics()["a"].dropped == {"unmatched": 2}


def test_returning_camera_is_back_in_the_sets():
    b = stream("b", 20) + stream("b", 40, start_ms=80 * 33)
    sets = play(make("ab"), stream("a", 120) + b)
    check_sets(sets, 20 * MS)
    missing = [bool(matched.missing) for matched in sets]
    assert missing[:20] == [False] * 20
    # Camera a's image of the same instant has just left without it, as b was not waited for.
    assert missing[-39:] == [False] * 39
    assert all(missing[20:-39])


@pytest.mark.parametrize("hz", [1.9, 1, 0.2])
def test_cameras_slower_than_the_timeout_lose_nothing(hz):
    sync = make("abc")
    sets = lively(sync, "abc", [round(i * 1000 / hz) for i in range(10)], (0, 120, 60))
    assert [matched.missing for matched in sets] == [()] * 10
    assert all(figures.alive for figures in sync.statistics().values())


def test_slow_cameras_without_polls_as_from_a_bag():
    sets = play(make(), stream("a", 10, 2000) + stream("b", 10, 2000, delay_ms=90))
    assert [matched.missing for matched in sets] == [()] * 10
    sets = play(make(), stream("a", 10, 2000))
    assert [matched.missing for matched in sets] == [("b",)] * 10


@pytest.mark.parametrize("pause_ms", [600, 5000, 3_600_000])
def test_a_pause_of_all_cameras_costs_no_set(pause_ms):
    stamps = [i * 100 + (pause_ms if i >= 10 else 0) for i in range(20)]
    events = [event for camera in "abc" for event in stream(camera, 20, 100, delay_ms=5 if camera == "a" else 60)]
    moved = [
        (now + pause_ms * MS, c, t + pause_ms * MS) if t >= EPOCH + SECOND else (now, c, t) for now, c, t in events
    ]
    if pause_ms < 100_000:
        assert [matched.missing for matched in lively(make("abc"), "abc", stamps, (0, 60, 20))] == [()] * 20
    assert [matched.missing for matched in play(make("abc"), moved)] == [()] * 20


def test_cameras_that_start_one_after_the_other():
    # Within the timeout nothing is lost but what came before the last one; after it the others go on alone.
    quick = play(make("abc"), stream("a", 50) + stream("b", 38, start_ms=12 * 33) + stream("c", 44, start_ms=6 * 33))
    assert [matched.missing for matched in quick] == [()] * 38
    late = play(make("ab"), stream("a", 120) + stream("b", 60, start_ms=60 * 33))
    missing = [matched.missing for matched in late]
    assert missing[-59:] == [()] * 59
    assert set(missing[:-60]) == {("b",)} and len(missing) >= 110


@pytest.mark.parametrize("first", ["poll", "add"])
@pytest.mark.parametrize("held_up", [False, True])
def test_a_host_that_was_held_up_and_then_drains_camera_by_camera(first, held_up):
    sync = make()
    sets = lively(sync, "ab", range(0, 300, 100), (0, 1))
    sent = list(range(300, 900, 100))
    if held_up:  # an image of camera a already waits for that of b when the host stops
        sets += sync.add("a", EPOCH + 300 * MS, ("a", 3), EPOCH + 300 * MS)
    now = EPOCH + 950 * MS
    if first == "poll":
        sets += sync.poll(now)
    for camera in "ab":
        for ms in sent[1:] if held_up and camera == "a" else sent:
            now += MS
            sets += sync.add(camera, EPOCH + ms * MS, (camera, ms), now)
    assert [matched.missing for matched in sets] == [()] * 9


def test_a_camera_that_stops_costs_the_timeout_once():
    sync = make("ab")
    play(sync, [event for camera in "ab" for event in stream(camera, 10, 100)])
    after = [(now, len(sync.add("a", stamp, stamp, now))) for now, _, stamp in stream("a", 40, 100, start_ms=1000)]
    begin = next(i for i, (_, sets) in enumerate(after) if sets)
    assert 5 <= begin <= 6
    assert all(sets == 1 for _, sets in after[begin + 1 :])
    assert sum(sets for _, sets in after) == 40


def test_too_few_cameras_make_no_set():
    sync = make("abc", min_cameras=2)
    assert play(sync, stream("a", 120), poll_until_ns=EPOCH + 10 * SECOND) == []
    check_counts(sync)
    assert sync.statistics()["a"].dropped["queue"] == 110
    # With a second camera there are sets again.
    sets = play(sync, [event for camera in "ab" for event in stream(camera, 60, start_ms=20_000)])
    assert sets
    assert all(matched.missing == ("c",) for matched in sets)


def test_stamps_that_never_meet_are_explained():
    # Two free-running cameras half a period apart, slop too small.
    sync = make("ab", slop_ms=5)
    assert play(sync, stream("a", 60) + stream("b", 60, start_ms=14)) == []
    figures = sync.statistics()
    assert figures["b"].skew_ns == 14 * MS
    assert figures["a"].skew_ns == -14 * MS
    assert figures["a"].dropped["unmatched"] >= 58
    assert figures["a"].rate_hz == pytest.approx(1000 / 33, rel=0.01)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cameras": ()},
        {"cameras": "aa"},
        {"slop_ms": -1},
        {"queue": 0},
        {"timeout_ms": 0},
        {"min_cameras": 0},
        {"min_cameras": 3},
    ],
)
def test_settings_that_make_no_sense(arguments):
    with pytest.raises(InputError):
        make(**arguments)


def test_unknown_camera_is_refused_and_harmless():
    sync = make("ab")
    with pytest.raises(InputError, match="'c' is not synchronized, only a, b"):
        sync.add("c", EPOCH, None, EPOCH)
    assert len(play(sync, [event for camera in "ab" for event in stream(camera, 10)])) == 10


shuffles = st.tuples(
    st.integers(2, 5),  # cameras
    st.integers(0, 9),  # jitter, ms
    st.floats(0.0, 0.3),  # share of lost images
    st.lists(st.sampled_from([33, 66, 100]), min_size=5, max_size=5),  # periods
    st.integers(1, 120),  # slop, ms
    st.randoms(use_true_random=False),
)


@given(shuffles)
@settings(max_examples=60, deadline=None)
def test_order_of_arrival_across_cameras_does_not_matter(case):
    n, jitter, loss, periods, slop, rng = case
    cameras = "abcde"[:n]
    streams = {}
    for camera, period in zip(cameras, periods, strict=False):
        count = 1500 // period
        lost = {i for i in range(count) if rng.random() < loss}
        streams[camera] = stream(camera, count, period, rng.uniform(0, 30), jitter, lost=lost, seed=rng.random())

    def run(delays):
        sync = make(cameras, slop, queue=1000, timeout_ms=5000)
        events = [(now + int(delays() * MS), c, stamp) for c in cameras for now, _, stamp in streams[c]]
        # Each camera's own images stay in order.
        ordered = []
        for camera in cameras:
            arrivals = sorted(now for now, c, _ in events if c == camera)
            ordered += [(now, camera, stamp) for now, (_, _, stamp) in zip(arrivals, streams[camera], strict=True)]
        sets = play(sync, ordered, poll_until_ns=EPOCH + 20 * SECOND)
        check_sets(sets, slop * MS)
        check_counts(sync)
        return [matched.items for matched in sets if not matched.missing]

    expected = run(lambda: 0)
    for _ in range(3):
        assert run(lambda: rng.uniform(0, 400)) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(-2000, 2000), st.integers(0, 300), st.booleans()), max_size=200
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_nothing_breaks_it(events, queue, min_cameras):
    """Any stamps in any order: invariants hold, memory is bounded, and healthy cameras match right afterwards."""
    sync = make("abc", queue=queue, min_cameras=min_cameras)
    now = EPOCH
    sets = []
    for camera, stamp_ms, wait_ms, poll in events:
        now += wait_ms * MS
        found = sync.poll(now) if poll else sync.add(camera, EPOCH + stamp_ms * MS, (camera, stamp_ms, now), now)
        if sync.take_reset() is not None:
            sets = []
        sets += found
        for earlier, later in itertools.pairwise(sets):
            assert earlier.stamp_ns < later.stamp_ns
        for matched in found:
            assert len(matched.items) >= min_cameras
            assert len(matched.items) + len(matched.missing) == 3
        check_counts(sync)
    later_ms = (now - EPOCH) // MS + 10_000
    healthy = [event for camera in "abc" for event in stream(camera, 40, start_ms=later_ms)]
    sets = play(sync, healthy)
    assert sum(not matched.missing for matched in sets) >= 38
