"""Rows of the benchmark of a replay's writer."""

import json

from da3_ros.cli import bench_writer


def test_a_row_for_each_number_of_cameras(tmp_path, capsys):
    given = ["--cameras", "1", "2", "--size", "42x28", "--sets", "2", "--repeat", "3", "--folder", str(tmp_path)]
    assert bench_writer.main([*given, "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["cameras"] for row in rows] == [1, 2]
    # Depth, confidence, two clouds and a mask: 41 bytes a pixel, and what is about them.
    assert all(41 < row["mb"] * 1e6 / (42 * 28) / row["cameras"] < 60 for row in rows)
    assert all(0 < row["cpu_ms"] <= row["largest_ms"] for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_none_is_refused(capsys):
    assert bench_writer.main(["--size", "large"]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
