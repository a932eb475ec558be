"""``da3-ros bench --ray-pose``: rows that a user can read, with errors that tell right from wrong."""

import json

import pytest

from da3_ros.cli.main import main


def bench(capsys, *arguments):
    assert main(["bench", "--ray-pose", "--device", "cpu", "--seconds", "0", "--json", "-", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_time_and_error_of_every_size(capsys):
    rows = bench(capsys, "--views", "1", "3", "--process-res", "112")
    assert [(row["views"], row["height"], row["width"]) for row in rows] == 2 * [(1, 84, 112)] + 2 * [(3, 84, 112)]
    assert {row["off_centre"] for row in rows} == {0.0, 0.2}
    for row in rows:
        assert row["ours_ms"] > 0 and row["reference_ms"] is None
        assert 0 < row["ours_rotation_deg"] < 0.5 and 0 < row["ours_focal_percent"] < 1


def test_the_reference_beside_it(capsys):
    pytest.importorskip("depth_anything_3", reason="the comparison needs the package depth-anything-3")
    centred, off = bench(capsys, "--views", "1", "--process-res", "56", "--reference")
    assert centred["reference_ms"] > 0 and centred["reference_rotation_deg"] < 0.5
    assert off["reference_rotation_deg"] > 5 > off["ours_rotation_deg"], "the published factorisation"


def test_a_size_that_is_not_4_to_3_is_refused(capsys):
    assert main(["bench", "--ray-pose", "--device", "cpu", "--process-res", "100"]) == 2
    assert "must be a multiple of 56, not 100" in capsys.readouterr().err
