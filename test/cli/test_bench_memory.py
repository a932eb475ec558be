"""`da3-ros memory` and `da3-ros approximations`: tables that can be read, and one line for bad input."""

import json

import cv2
import numpy as np
import pytest

from da3_ros.cli.main import main
from da3_ros.model import VARIANTS
from da3_ros.model.variants import Variant


@pytest.fixture
def _thin(monkeypatch):
    """The variant keeps its name; the network is thin and shallow."""
    thin = Variant("thin", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/THIN",), "Apache-2.0")
    monkeypatch.setitem(VARIANTS, "da3-small", thin)


def test_memory_is_predicted_and_measured(capsys):
    arguments = ["--views", "4", "--sizes", "210x140", "--device", "cpu", "--dtype", "float32"]
    assert main(["memory", *arguments, "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["width"], row["height"], row["views"]) == (210, 140, 4)
    assert row["total"] == pytest.approx(row["weights"] + row["kept"] + row["step"], rel=0.05)
    assert 0.6 * row["allocated"] < row["total"] < 1.2 * row["allocated"]


def test_a_size_that_no_network_takes_is_refused(capsys):
    assert main(["memory", "--sizes", "500x378", "--device", "cpu"]) == 2
    assert "multiples of 14 such as 504x378, not '500x378'" in capsys.readouterr().err


@pytest.mark.usefixtures("_thin")
def test_approximations_are_compared_with_the_exact_window(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 256, (42, 56, 3), dtype=np.uint8))
    arguments = [str(tmp_path), "--views", "3", "--process-res", "56", "--device", "cpu", "--seconds", "0"]
    assert main(["approximations", *arguments, "--json", "-"]) == 0
    rows = {row["approximation"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["exact"]["depth_percent"] == rows["exact"]["over_5_percent"] == 0
    assert rows["exact"]["over_5_percent"] < rows["fp8"]["over_5_percent"] < 100
    assert rows["keys2"]["depth_percent"] == 0  # too few views for it
    assert 0 < rows["bfloat16"]["depth_percent"] < rows["int8"]["depth_percent"] < rows["fp8"]["depth_percent"]
    assert rows["half"]["rotation_deg"] == rows["exact"]["rotation_deg"]  # poses do not come from the dense head


@pytest.mark.usefixtures("_thin")
def test_what_is_left_out_of_a_sequence_is_told(tmp_path, capsys):
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (42, 56, 3), dtype=np.uint8) for _ in range(2))
    for number, picture in enumerate([first, first, first, second]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    arguments = [str(tmp_path), "--pictures", "4", "--views", "2", "--process-res", "56", "--device", "cpu"]
    assert main(["approximations", *arguments, "--skip-below", "1", "255", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["left_out_percent"] for row in rows] == [50, 75]
    assert rows[1]["largest_change_percent"] > rows[0]["largest_change_percent"]
    assert 0 < rows[0]["left_out_ms"] < rows[0]["used_ms"]
    assert rows[1]["used_ms"] is None  # the one picture that is used does not fill the window


def test_too_few_pictures_are_refused(tmp_path, capsys):
    assert main(["approximations", str(tmp_path), "--views", "3", "--device", "cpu"]) == 2
    assert "has 0 pictures (png, jpg), but 3 views are wanted" in capsys.readouterr().err
