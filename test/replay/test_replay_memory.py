"""A large recording replayed, with its pictures passed through: memory does not grow with its size.

DA3_ROS_BAG_GB=10 pytest -s -m slow test/replay/test_replay_memory.py makes it 10 GB (twice, in the temporary folder).
"""

import time
from pathlib import Path

import pytest
from large_recording import FRAMES, run_alone, told, write

from da3_ros.ingest.bag import Bag


def replay(bag: Path) -> dict:
    return run_alone("replay", str(bag), "--output", f"{bag.with_suffix('')}_out.mcap", "--pass-through")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_large_recording_is_replayed_in_bounded_memory(tmp_path, capsys):
    large, small, out = (tmp_path / name for name in ("large.mcap", "small.mcap", "large_out.mcap"))
    started = time.perf_counter()
    try:
        write(large, FRAMES)
        written_s, size = time.perf_counter() - started, large.stat().st_size
        found = replay(large)
        topics = Bag([out]).topics
    finally:
        large.unlink(missing_ok=True)
        out.unlink(missing_ok=True)
    write(small, 100)
    least = replay(small)["bytes"]
    with capsys.disabled():
        print(told("replayed", size, written_s, found, least))
    for topic in ("/front/image_raw", "/front/depth/image_rect", "/window", "/odometry"):
        assert topics[topic].messages == FRAMES
    assert found["bytes"] - least < 150e6
