"""The benchmark of scoring runs, and says what is wrong with its arguments."""

import json

from da3_ros.cli import bench_scoring


def test_a_row_for_each_part(capsys):
    assert bench_scoring.main(["--size", "64x48", "--truth", "80x60", "--repeat", "2", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["part"] for row in rows] == ["depth", "consistency", "examples", "cloud"]
    assert all(row["cpu_ms"] > 0 for row in rows)


def test_a_size_that_is_none(capsys):
    assert bench_scoring.main(["--truth", "large"]) == 2
    assert "--truth" in capsys.readouterr().err
