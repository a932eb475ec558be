"""Rows of the benchmark of replays: what is recorded, and what times real time are of."""

import json
import subprocess

import cv2
import numpy as np
import pytest

from da3_ros.cli import bench_replay
from da3_ros.cli.demo_sequence import Sequence, SequenceCamera, SequenceImage, SequenceStep
from da3_ros.ingest.bag import Bag

FIGURES = {"sets": 20, "replay_s": 5.0, "first_s": 3.0, "description": {"device": "some GPU"}}


def sequence(cameras: int, steps: int, *, width: int, height: int, rate_hz: float, **_) -> Sequence:
    """Grey pictures with depth."""
    names = [f"camera{number}" for number in range(cameras)]
    grey, depth = np.full((height, width, 3), 99, np.uint8), np.ones((height, width), np.float32)

    def read():
        for step in range(steps):
            stamp_ns = 10**18 + round(step * 1e9 / rate_hz)
            yield SequenceStep(stamp_ns, tuple(SequenceImage(n, stamp_ns, grey, depth) for n in names), np.eye(4))

    described = tuple(SequenceCamera(name, f"{name}_frame", None, None) for name in names)
    return Sequence("grey", described, steps, "base_link", read)


def test_rows_of_recordings_that_are_made_once(monkeypatch, tmp_path, capsys):
    asked = []

    def replay(command, **_):
        asked.append(command)
        with open(command[command.index("--json") + 1], "w") as file:
            json.dump(FIGURES, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(bench_replay, "procedural_sequence", sequence)
    monkeypatch.setattr(bench_replay.subprocess, "run", replay)
    given = ["--rates", "10", "20", "--cameras", "2", "--seconds", "1", "--image-size", "32x24"]
    given += ["--folder", str(tmp_path), "--set", "window.sets=2"]
    assert bench_replay.main([*given, "--json", str(tmp_path / "rows.json")]) == 0
    bags = sorted(tmp_path.glob("*.mcap"))
    assert [command[command.index("replay") + 1] for command in asked] == [str(bag) for bag in bags]
    assert all(command[-2:] == ["--set", "window.sets=2"] for command in asked)
    bag = Bag([bags[0]])
    assert {name: topic.messages for name, topic in bag.topics.items()} == {
        "/camera0/image_raw/compressed": 10,
        "/camera1/image_raw/compressed": 10,
    }
    picture = next(bag.messages(["/camera0/image_raw/compressed"])).message
    assert cv2.imdecode(picture.data, cv2.IMREAD_COLOR).shape == (24, 32, 3)

    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["cameras"], row["rate_hz"]) for row in rows] == [(2, 10.0), (2, 20.0)]
    # 20 sets at 10 Hz are 2 s: in 5 s with the start, of which 3 went before the first one; 19 in the other two.
    assert rows[0]["times_replay"] == pytest.approx(0.4) and rows[0]["times_running"] == pytest.approx(0.95)
    assert rows[0]["sets_per_s"] == pytest.approx(9.5)
    assert rows[0]["times_process"] == pytest.approx(2.0 / rows[0]["process_s"])

    written = [bag.stat().st_mtime_ns for bag in bags]
    assert bench_replay.main(given) == 0
    assert [bag.stat().st_mtime_ns for bag in bags] == written
    assert "some GPU" in capsys.readouterr().out


def test_evaluations_of_recordings_with_truth(monkeypatch, tmp_path):
    asked = []

    def evaluate(command, **_):
        asked.append(command)
        run = {"sets": 20, "elapsed_s": 5.0, "first_s": 3.0, "device": "some GPU"}
        with open(command[command.index("--output") + 1], "w") as file:
            json.dump({"run": run}, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(bench_replay, "procedural_sequence", sequence)
    monkeypatch.setattr(bench_replay.subprocess, "run", evaluate)
    given = ["--rates", "10", "--seconds", "1", "--image-size", "32x24", "--folder", str(tmp_path), "--evaluate"]
    assert bench_replay.main([*given, "--json", str(tmp_path / "rows.json")]) == 0
    (bag,) = tmp_path.glob("*.mcap")
    assert asked[0][3:5] == ["evaluate", str(bag)]
    assert {"/camera0/ground_truth/depth", "/ground_truth/odometry"} <= Bag([bag]).topics.keys()
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["times_replay"] == pytest.approx(0.4) and row["times_running"] == pytest.approx(0.95)


def test_a_replay_that_fails_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_replay, "procedural_sequence", sequence)
    failed = subprocess.CompletedProcess([], 2, stderr="no such model")
    monkeypatch.setattr(bench_replay.subprocess, "run", lambda *_, **__: failed)
    assert bench_replay.main(["--seconds", "1", "--image-size", "32x24", "--rates", "5"]) == 2
    assert "no such model" in capsys.readouterr().err


def test_a_size_that_is_none_is_refused(capsys):
    assert bench_replay.main(["--image-size", "large"]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
