"""The demo end to end: pictures through real topics, in three processes, and figures and a picture out."""

import json

import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import Reader

from da3_ros.cli.demo import _prepare_folder
from da3_ros.cli.main import main
from da3_ros.errors import ConfigError


def test_only_what_the_demo_made_is_ever_removed(tmp_path):
    bag = tmp_path / "sequence"
    bag.mkdir()
    (bag / "sequence.mcap").touch()
    (bag / "metadata.yaml").touch()
    (tmp_path / "notes.txt").touch()
    assert _prepare_folder(tmp_path, keep=True).name == f"{tmp_path.name}_2" and bag.exists()
    assert _prepare_folder(tmp_path, keep=False) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    bag.mkdir()
    (bag / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="thesis.tex"):
        _prepare_folder(tmp_path, keep=False)
    assert (bag / "thesis.tex").exists()
    with pytest.raises(ConfigError, match="is a file"):
        _prepare_folder(tmp_path / "notes.txt", keep=False)


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_demo_end_to_end(tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [
            "demo", "--cameras", "2", "--steps", "4", "--process-res", "70", "--window-sets", "2", "--seed", "1",
            "--device", "cpu", "--out", str(out), "--json", str(tmp_path / "figures.json"),
        ]
    )  # fmt: skip
    table = capsys.readouterr().out
    assert code == 0, (table, (out / "node.log").read_text())
    figures = json.loads((tmp_path / "figures.json").read_text())
    for name in ("left", "right"):
        counts = figures["cameras"][name]
        assert (counts["sent"], counts["received"], counts["out"], counts["dropped"]) == (4, 4, 4, 0)
    assert figures["estimates"] == 4 and figures["rate_hz"] > 0
    for stage in ("sync", "upload", "network", "publish"):
        p50, p95 = figures["latency_ms"][stage]
        assert 0 < p50 <= p95
        assert stage in table
    # Untrained weights and missing scale are said where somebody looks.
    assert not figures["trained"] and "mean nothing" in table and "network's own unit" in table

    with Reader(out / "recording") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    for name in ("left", "right"):
        for topic in ("depth/image_rect", "depth/camera_info", "confidence", "points"):
            assert counts[f"/{name}/{topic}"] == 4
    assert counts["/points"] == counts["/window"] == counts["/odometry"] == counts["/path"] == 4
    assert counts["/tf"] >= 4 and counts["/diagnostics"] >= 1
    sheet = np.asarray(Image.open(out / "sheet.png"))
    assert min(sheet.shape[:2]) > 500 and sheet.std() > 20
    assert str(out / "sheet.png") in table


@pytest.mark.ros
@pytest.mark.timeout(120)
def test_a_node_that_cannot_start_is_quoted_in_one_line(tmp_path, capsys):
    code = main(
        ["demo", "--cameras", "1", "--steps", "1", "--out", str(tmp_path / "out"), "--checkpoint", "/no/such/file"]
    )
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1 and "/no/such/file" in captured.err
