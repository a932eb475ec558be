"""A recording larger than memory, evaluated whole: synchronizer, decoder and scores take what they take of a small one.

DA3_ROS_BAG_GB=50 pytest -s -m slow test/cli/test_evaluate_memory.py makes it 50 GB (in the temporary folder).
"""

import json
import time
from pathlib import Path

import pytest
from large_recording import FRAMES, run_alone, told, write


def evaluate(bag: Path) -> dict:
    return run_alone("evaluate", str(bag), "--output", f"{bag}.json", "--report", f"{bag}.json.html")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_large_recording_is_evaluated_in_bounded_memory(tmp_path, capsys):
    large, small = tmp_path / "large.mcap", tmp_path / "small.mcap"
    started = time.perf_counter()
    try:
        write(large, FRAMES)
        written_s, size = time.perf_counter() - started, large.stat().st_size
        found = evaluate(large)
        metrics = json.loads(large.with_suffix(".mcap.json").read_text())
    finally:
        large.unlink(missing_ok=True)
    write(small, 100)
    least = evaluate(small)["bytes"]
    with capsys.disabled():
        print(told("evaluated", size, written_s, found, least))
    assert metrics["frames"] == FRAMES and metrics["run"]["estimates"] == FRAMES and not metrics["lost"]
    assert found["bytes"] - least < 150e6
