"""Times of steps while cameras drop out."""

import numpy as np
import pytest

from da3_ros.cli import bench_dropouts
from da3_ros.cli.bench_dropouts import main, present, table


def test_cameras_drop_out_for_some_sets_and_come_back():
    names = ("a", "b", "c")
    sets = list(present(names, 2000, np.random.default_rng(1)))
    there = np.array([[name in cameras for name in names] for cameras in sets])
    assert there.any(1).all()
    assert (there.mean(0) > 0.7).all() and (there.mean(0) < 0.9).all()
    changes = np.abs(np.diff(there.astype(int), axis=0)).sum(0)
    assert (changes > 80).all() and (changes < 250).all()  # not anew in each set


def test_a_row_for_each_kind_of_step():
    lines = table({"known": [1.0, 3.0, 100.0], "new": []})
    assert lines[1].split() == ["known", "3", "3.0", "90.3", "100.0"]
    assert lines[2].split() == ["new", "0"]


@pytest.mark.usefixtures("thin")
def test_steps_are_told_apart_by_their_shapes(capsys, monkeypatch):
    monkeypatch.setattr(bench_dropouts, "_COMPLETE", 2)
    monkeypatch.setattr(bench_dropouts, "_STAYS", 2)
    options = {"variant": "da3-small", "cameras": 2, "sets": 2, "process-res": 56, "steps": 12, "device": "cpu"}
    main([f"--{name}={value}" for name, value in options.items()])
    lines = capsys.readouterr().out.splitlines()
    counts = {line[:32].strip(): int(line[32:39]) for line in lines[3:]}
    shapes = int(lines[1].split()[0])
    assert shapes >= 3 and counts["shapes of windows that are new"] == shapes
    assert sum(counts.values()) == 12 + 2 * 2
