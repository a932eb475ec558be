"""The demo end to end: pictures through real topics, in three processes, and figures and a picture out."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from da3_ros.cli.demo import _network, _prepare_folder
from da3_ros.cli.demo_report import read_report, table
from da3_ros.cli.main import main
from da3_ros.config import NESTED_VARIANTS, SINGLE_VIEW_VARIANTS, VARIANTS
from da3_ros.errors import ConfigError, UnavailableError


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
def test_demo_end_to_end(tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [
            "demo", "--cameras", "2", "--steps", "4", "--process-res", "70", "--window-sets", "2", "--seed", "1",
            "--device", "cpu", "--model", "da3-small", "--checkpoint", "random",
            "--out", str(out), "--json", str(tmp_path / "figures.json"),
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
    # Untrained weights and the source of scale are said where somebody looks: the rig, if they show its baseline.
    assert not figures["trained"] and "mean nothing" in table
    assert "network's own unit" in table or "rig" in table
    # The rendered sequence knows its truth, of which untrained weights know nothing.
    accuracy = figures["accuracy"]
    assert accuracy["abs_rel"].keys() == accuracy["delta1"].keys() == {"left", "right"}
    assert min(accuracy["abs_rel"].values()) > 0.2 and accuracy["ate_m"] > 0
    assert 0.1 < accuracy["path_m"] < 0.5 and "AbsRel / delta1" in table

    # They are numbers of da3-ros evaluate, to the last digit, as they are printed too.
    estimates = ["--estimates", str(out / "recording"), "--output", str(tmp_path / "m.json"), "--report", "none"]
    assert main(["evaluate", str(out / "sequence"), *estimates]) == 0
    printed, metrics = capsys.readouterr().out, json.loads((tmp_path / "m.json").read_text())
    for name in ("left", "right"):
        errors = metrics["depth"][name]["recording"]["median" if accuracy["scaled"] else "none"]
        assert (errors["abs_rel"], errors["delta1"]) == (accuracy["abs_rel"][name], accuracy["delta1"][name])
        assert f"{name} {errors['abs_rel']:.3f} / {100 * errors['delta1']:.1f} %" in table
    assert metrics["trajectory"]["ate"]["sim3" if accuracy["scaled"] else "se3"]["rmse"] == accuracy["ate_m"]
    assert metrics["trajectory"]["path_length"] == accuracy["path_m"]
    assert f"{accuracy['ate_m']:.3f} m off over {accuracy['path_m']:.2f} m" in table
    run = metrics["run"]
    assert run["rate_hz"] == figures["rate_hz"] and run["dropped"] == {}
    for text in (table, printed):
        assert f"{run['rate_hz']:.2f} sets a second" in text
    stages = {{"prepare": "upload"}.get(stage, stage): each for stage, each in run["latency_ms"].items()}
    assert {stage: [each["p50"], each["p95"]] for stage, each in stages.items()} == figures["latency_ms"]
    anew = ["--output", str(tmp_path / "n.json"), "--report", "none", "--topics", "/left/image_raw", "/right/image_raw"]
    parameters = ["model.variant=da3-small", "model.checkpoint=random", "model.device=cpu", "model.process_res=70",
                  "window.sets=2"]  # fmt: skip
    threads = torch.get_num_threads()
    assert main(["evaluate", str(out / "sequence"), *anew, "--set", *parameters]) == 0
    torch.set_num_threads(threads)
    by_pipeline = json.loads((tmp_path / "n.json").read_text())
    assert by_pipeline["depth"] == metrics["depth"]
    assert by_pipeline["trajectory"]["ate"]["se3"]["rmse"] == pytest.approx(metrics["trajectory"]["ate"]["se3"]["rmse"])
    capsys.readouterr()
    assert stages["total"]["p50"] > 0 and re.search(rf"total +ms +p50 {stages['total']['p50']:.1f} ", printed)

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


def write_recording(path, variant, trained, scale, poses):
    """What the recorder leaves of two steps of one camera."""
    kilted = get_typestore(Stores.ROS2_KILTED)
    make = kilted.types

    def header(stamp_ns):
        stamp = make["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return make["std_msgs/msg/Header"](stamp, "")

    values = {"model variant": variant, "model weights_trained": str(trained), "model scale": scale}
    pairs = [make["diagnostic_msgs/msg/KeyValue"](key, value) for key, value in values.items()]
    status = make["diagnostic_msgs/msg/DiagnosticStatus"](0, "da3_node: pipeline", "", "", pairs)
    region = make["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    messages = [("/diagnostics", make["diagnostic_msgs/msg/DiagnosticArray"](header(1), [status]), 3)]
    for second in (1, 2):
        info = make["sensor_msgs/msg/CameraInfo"](
            header(second * 10**9), 4, 4, "plumb_bob", np.zeros(5), np.zeros(9), np.zeros(9), np.zeros(12), 0, 0, region
        )
        messages.append(("/front/depth/camera_info", info, second))
        messages.append(("/front/depth/image_rect", make["sensor_msgs/msg/Image"](
            header(second * 10**9), 1, 1, "mono8", 0, 1, np.zeros(1, np.uint8)), second))  # fmt: skip
        if poses and second == 2:
            messages.append(("/window", make["std_msgs/msg/Header"](header(second).stamp, ""), second))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, message, second in messages:
            name = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=kilted)
            writer.write(connections[topic], second * 10**9, kilted.serialize_cdr(message, name))


def test_a_network_without_poses_is_reported_as_such(tmp_path):
    """It publishes no window: its depth counts, and the table says that there are no poses."""
    write_recording(tmp_path / "single", "da3mono-large", True, "none", poses=False)
    report = read_report(tmp_path / "single", {"/front/image_raw": 2}, 2, ("front",))
    assert (report.estimates, report.rate_hz, report.variant) == (2, 1.0, "da3mono-large")
    assert report.trained and not report.poses and "poses      none" in table(report, "", "")
    write_recording(tmp_path / "any", "da3-small", False, "none", poses=True)
    report = read_report(tmp_path / "any", {"/front/image_raw": 2}, 2, ("front",))
    assert (report.estimates, report.poses) == (1, True)  # no scale in the first step, so no poses
    assert not report.trained and "poses  " not in table(report, "", "")


def test_a_missing_recording_is_one_line(tmp_path):
    with pytest.raises(
        UnavailableError, match=r"there is no recording of the node in .*: see .*recorder\.log"
    ) as error:
        read_report(tmp_path / "recording", {}, 1, ("front",))
    assert "\n" not in str(error.value)


def test_installed_weights_come_before_untrained_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("da3_ros.model.weights.BUNDLED", tmp_path)
    assert _network(None, None) == ("da3-small", "random")
    assert _network("da3-nano", None) == ("da3-nano", "random")
    (tmp_path / "da3-nano.safetensors").touch()
    assert _network(None, None) == _network("da3-nano", None) == ("da3-nano", "")
    assert _network("da3-large", None) == ("da3-large", "random")
    assert _network(None, "random") == ("da3-nano", "random")
    assert _network("da3-small", "file") == ("da3-small", "file")


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(variant, tmp_path, capsys):
    """The flags that --help and the README give for the large ones."""
    small = ["--cameras", "2", "--steps", "3", "--window-sets", "1", "--process-res", "98", "--device", "cpu"]
    small += ["--checkpoint", "random"]
    assert main(["demo", "--model", variant, *small, "--out", str(tmp_path), "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [counts["out"] for counts in figures["cameras"].values()] == [3, 3] and figures["estimates"] == 3
    single = variant in SINGLE_VIEW_VARIANTS
    assert (figures["variant"], figures["poses"], figures["trained"]) == (variant, not single, False)
    assert ("/left/sky" in figures["topics"]) == (single or variant in NESTED_VARIANTS)
    assert ("/window" in figures["topics"]) != single


@pytest.mark.ros
@pytest.mark.parametrize(
    "arguments, message",
    [(["/no/bag", "--rate", "1"], "/no/bag cannot be read"), (["/no/bag"], "name its answers with --answers")],
)
def test_the_player_answers_bad_input_with_one_line(arguments, message):
    done = subprocess.run([sys.executable, "-m", "da3_ros.ros.play", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and message in json.loads(done.stdout)["error"]
    assert done.stdout.count("\n") == 1


@pytest.mark.ros
def test_a_node_that_cannot_start_is_quoted_in_one_line(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 48)).save(pictures / "0.png")
    (pictures / "stamps.txt").write_text("1.0\n")
    (pictures / "calibration.yaml").write_text("cameras: {front: {images: '*.png', stamps: stamps.txt}}\n")
    arguments = ["demo", "--images", pictures, "--out", tmp_path / "out", "--checkpoint", "/no/such/file"]
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1 and "/no/such/file" in captured.err
