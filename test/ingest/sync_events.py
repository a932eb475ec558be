"""Images of simulated cameras for the tests of synchronization, and what holds for any sets of them."""

import itertools
import random

from da3_ros.ingest.sync import FrameSynchronizer

MS = 1_000_000
SECOND = 1000 * MS
EPOCH = 1_700_000_000 * SECOND


def make(cameras="ab", slop_ms=20, queue=10, timeout_ms=500, min_cameras=1):
    return FrameSynchronizer(tuple(cameras), slop_ms * MS, queue, timeout_ms * MS, min_cameras)


def stream(camera, count, period_ms=33, start_ms=0, jitter_ms=0, delay_ms=5, lost=(), seed=0):
    """(arrival, camera, stamp) of ``count`` images, in nanoseconds."""
    rng = random.Random(f"{seed} {camera}")
    events = []
    for i in range(count):
        stamp = EPOCH + int((start_ms + i * period_ms + rng.uniform(-jitter_ms, jitter_ms)) * MS)
        if i not in lost:
            events.append((stamp + delay_ms * MS, camera, stamp))
    return events


def play(sync, events, poll_until_ns=None):
    """Feed events in order of arrival; the item of an image is its (camera, stamp)."""
    sets = []
    now = EPOCH
    for now, camera, stamp in sorted(events):
        sets += sync.add(camera, stamp, (camera, stamp), now)
    while poll_until_ns is not None and now < poll_until_ns:
        now += 50 * MS
        sets += sync.poll(now)
    return sets


def check_sets(sets, slop_ns):
    """What holds for any input."""
    used = [item for matched in sets for item in matched.items.values()]
    assert len(used) == len(set(used))
    for matched in sets:
        stamps = [stamp for _, stamp in matched.items.values()]
        assert all(camera == item[0] for camera, item in matched.items.items())
        assert max(stamps) - min(stamps) <= slop_ns
        assert matched.stamp_ns == max(stamps)
        assert not set(matched.missing) & matched.items.keys()
    for earlier, later in itertools.pairwise(sets):
        assert earlier.stamp_ns < later.stamp_ns


def check_counts(sync):
    """Every image is matched, dropped for a reason, or still waits."""
    for camera, figures in sync.statistics().items():
        waiting = figures.received - figures.matched - sum(figures.dropped.values())
        assert 0 <= waiting <= sync._queue, camera


def lively(sync, cameras, stamps_ms, delays_ms):
    """Cameras with the same stamps, and a host that looks for time-outs every 100 ms; stamps are arrivals, too."""
    events = [
        (EPOCH + (ms + d) * MS, c, EPOCH + ms * MS) for ms in stamps_ms for c, d in zip(cameras, delays_ms, strict=True)
    ]
    sets = []
    now = EPOCH
    for arrival, camera, stamp in sorted(events):
        while now + 100 * MS < arrival:
            now += 100 * MS
            sets += sync.poll(now)
        now = arrival
        sets += sync.add(camera, stamp, (camera, stamp), now)
    return sets
