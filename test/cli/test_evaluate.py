"""Recordings scored: the truth itself has no errors, known mistakes have known errors, and every source is read."""

import json
import platform
import shutil
import sys
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image
from recording_helpers import STEPS, TruthfulPipeline, depth, other_clock, pose, stamp, truth_changed

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.egress.bag import new_recording
from da3_ros.egress.message_types import message_builder
from da3_ros.evaluation import ground_truth, segments
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.bag import Bag

QUICK = ["--set", "model.checkpoint=random", "model.variant=da3-nano", "model.process_res=56", "window.sets=2",
         "model.device=cpu"]  # fmt: skip


@pytest.fixture
def external(tmp_path):
    """Poses and depth of another program: the truth times 1.25, in another world, half the pictures' size."""
    T = np.stack([pose(step) for step in range(STEPS)])
    T[:, :3, 3] *= 1.25
    world = T_from(matrix_from_quat_xyzw(np.array([0.0, 0.0, 0.6, 0.8])), np.array([5.0, -3.0, 2.0]))
    write_tum(tmp_path / "poses.tum", Trajectory(np.array([stamp(s) for s in range(STEPS)]), world @ T))
    folder = tmp_path / "depth"
    folder.mkdir()
    for step in range(STEPS):
        small = np.nan_to_num(depth(step)[1::2, 1::2])
        np.save(folder / f"{stamp(step)}.npy", 1.25 * small)
    return tmp_path


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def evaluate(bag, tmp_path, *more) -> dict:
    output = tmp_path / "metrics.json"
    assert main(["evaluate", str(bag), "--output", str(output), *more]) == 0
    return json.loads(output.read_text())


def test_another_program_s_output_is_scored(bag, external, capsys):
    options = ("--external", str(external / "poses.tum"), "--external-depth", str(external / "depth"))
    metrics = evaluate(bag, external, *options)
    errors = metrics["depth"]["front"]["per_frame"]
    assert metrics["depth"]["front"]["frames"] == STEPS
    # The nearest pixel of a map of half the size is up to one pixel away, which is 0.03 of 2 to 4 metres.
    assert errors["none"]["abs_rel"] == pytest.approx(0.25, abs=0.02) and errors["none"]["delta1"] < 0.6
    assert errors["median"]["abs_rel"] < 0.01 and errors["median"]["delta1"] == 1.0
    assert metrics["depth"]["front"]["scale"]["median"] == pytest.approx(0.8, abs=0.01)
    assert errors["none"]["covered"] > 0.98
    assert metrics["run"]["evaluated_with"] == {
        "tolerance_s": 0.02,
        "max_depth_m": None,  # no limit
        "true_poses": "/ground_truth/odometry",
        "true_depth": {"front": "/front/ground_truth/depth"},
        "depth": str(external / "depth"),
        "units_per_metre": 1000.0,
    }
    versions = metrics["run"]["versions"]
    assert versions["torch"] == metadata.version("torch") and versions["da3_ros"] == metadata.version("da3_ros")
    assert versions["Python"].startswith(platform.python_version())
    trajectory = metrics["trajectory"]
    assert (trajectory["associated_poses"], trajectory["frame"]) == (STEPS, "base_link")
    assert trajectory["scale_error"] == pytest.approx(0.25)
    assert trajectory["ate"]["sim3"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert trajectory["ate"]["se3"]["rmse"] > 0.1 and trajectory["ate"]["none"]["rmse"] > 1.0
    assert trajectory["auc"] == {"3": 1.0, "5": 1.0, "15": 1.0, "30": 1.0}
    assert trajectory["rpe_scaled"]["translation"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    table = capsys.readouterr().out
    assert "ATE sim3   rmse 0.000" in table and "median" in table


def test_depth_of_16_bits_and_stamps_in_seconds(bag, external):
    folder = external / "png"
    folder.mkdir()
    for step in range(STEPS):
        millimetres = np.nan_to_num(depth(step) * 5000).astype(np.uint16)
        name = f"{stamp(step) // 10**9}.{stamp(step) % 10**9:09d}.png"
        Image.fromarray(millimetres).save(folder / name)
    options = ("--external", str(external / "poses.tum"), "--external-depth", str(folder))
    metrics = evaluate(bag, external, *options, "--external-depth-scale", "5000")
    assert metrics["depth"]["front"]["per_frame"]["none"]["abs_rel"] < 1e-3
    assert metrics["depth"]["front"]["per_frame"]["none"]["covered"] == 1.0


def test_poses_from_a_file_and_a_frame_of_their_own(bag, external, sequence):
    camera = sequence.cameras[0]
    stamps = np.array([stamp(step) for step in range(STEPS)])
    T_world_cam = np.stack([pose(step) @ camera.T_base_cam for step in range(STEPS)])
    write_tum(external / "camera.tum", Trajectory(stamps, T_world_cam))
    options = ["--poses", str(external / "camera.tum"), "--pose-frame", camera.frame_id]
    options += ["--tolerance", "0.01", "--max-depth", "3.5"]
    metrics = evaluate(bag, external, "--external", str(external / "camera.tum"), *options)
    assert metrics["trajectory"]["ate"]["none"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["trajectory"]["frame"] == camera.frame_id
    evaluated = metrics["run"]["evaluated_with"]
    assert (evaluated["tolerance_s"], evaluated["max_depth_m"]) == (0.01, 3.5)
    assert evaluated["true_poses"] == str(external / "camera.tum")


def test_poses_of_the_robot_are_compared_with_true_ones_of_its_camera(bag, external, sequence):
    camera, build = sequence.cameras[0], message_builder()
    stamps = np.array([stamp(step) for step in range(STEPS)])
    T_world_cam = np.stack([pose(step) @ camera.T_base_cam for step in range(STEPS)])
    write_tum(external / "camera.tum", Trajectory(stamps, T_world_cam))
    with new_recording(external / "node.mcap") as recording:
        for step in range(STEPS):
            at = stamp(step)
            info = build.camera_info(camera.calibration, at, camera.frame_id)
            recording.write("/front/depth/camera_info", at, info)
            recording.write("/front/depth/image_rect", at, build.image(depth(step), at, camera.frame_id))
            recording.write("/odometry", at, build.odometry(pose(step), at, "odom", "base_link"))
    options = ["--poses", str(external / "camera.tum"), "--pose-frame", camera.frame_id]
    metrics = evaluate(bag, external, "--estimates", str(external / "node.mcap"), *options)
    assert metrics["trajectory"]["ate"]["none"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["depth"]["front"]["per_frame"]["none"]["abs_rel"] == 0.0
    metrics = evaluate(bag, external, "--estimates", str(external / "node.mcap"), *options[:2], "--pose-frame", "arm")
    assert metrics["trajectory"] is None and any("no transform connects them" in note for note in metrics["notes"])


def test_the_pipeline_s_and_a_recording_of_it_score_alike(bag, tmp_path, capsys):
    direct = evaluate(bag, tmp_path, *QUICK)
    run = direct["run"]
    assert run["real_time_factor"] == pytest.approx(run["recorded_s"] / run["elapsed_s"]) and run["elapsed_s"] > 0
    assert 0 < run["first_s"] < run["elapsed_s"]
    said = f"{run['real_time_factor']:.1f} times real time: {run['recorded_s']:.1f} s in {run['elapsed_s']:.1f} s, of"
    assert said in capsys.readouterr().out
    assert direct["frames"] == direct["run"]["estimates"] == STEPS
    assert direct["run"]["weights_trained"] is False and direct["run"]["rate_hz"] > 0
    assert direct["depth"]["front"]["frames"] == STEPS and direct["consistency"]["front"]["pairs"] > 0
    assert direct["trajectory"]["associated_poses"] == STEPS
    assert len(direct["depth"]["front"]["over_time"]) == STEPS
    assert direct["windows"]["count"] == STEPS - 1  # the first window has one view, and no pair
    assert all(0 <= value <= 1 for value in direct["windows"]["auc"].values())
    assert main(["replay", str(bag), "--output", str(tmp_path / "out.mcap"), *QUICK]) == 0
    recorded = evaluate(bag, tmp_path, "--estimates", str(tmp_path / "out.mcap"))
    # What both were evaluated with is alike; of the pipeline that gave the recorded ones nothing is known.
    assert recorded["run"]["evaluated_with"] == direct["run"]["evaluated_with"]
    assert recorded["run"]["versions"] == direct["run"]["versions"]
    given, cameras = direct["run"]["node_parameters"], recorded["run"]["node_parameters"]
    assert (given["window.sets"], given["model.process_res"], given["window.stride"]) == (2, 56, 1)
    assert cameras == {name: value for name, value in given.items() if name.startswith(("cameras", "camera."))}
    assert cameras["cameras"] == ["front"] and cameras["camera.front.image_topic"] == "/front/image_raw"
    for key in ("depth", "trajectory", "windows"):
        assert_close(recorded[key], direct[key], key)
    # A view without a pose belongs to no pair; its window's others do.
    with new_recording(tmp_path / "lost.mcap") as out:
        for found in (source := Bag([tmp_path / "out.mcap"])).messages():
            if found.topic == "/window":
                turn = found.message.views[-1].pose.orientation
                turn.x = turn.y = turn.z = turn.w = 0.0
            types = source.ros2_types()
            data = types.serialize_cdr(found.message, found.type)
            out.write_raw(found.topic, found.type, found.receive_ns, data, types)
    lost = evaluate(bag, tmp_path, "--estimates", str(tmp_path / "lost.mcap"))
    assert lost["frames"] == STEPS and lost["windows"] is None  # windows of two views each


def test_two_evaluations_say_the_same(bag, tmp_path):
    """But for what took how long: every number, and what the page shows."""
    found = []
    for name in ("a", "b"):
        assert main(["evaluate", str(bag), "--output", str(tmp_path / name), *QUICK]) == 0
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        timed = ("rate_hz", "elapsed_s", "first_s", "real_time_factor", "latency_ms")
        metrics["run"] = {key: value for key, value in metrics["run"].items() if key not in timed}
        shown = (tmp_path / name / "report.html").read_text().partition("<h2>Trajectory</h2>")[2]
        found.append((metrics, shown.partition("<h2>Run</h2>")[0]))
    assert found[0] == found[1] and "data:" in found[0][1]


def test_windows_that_were_recorded_are_scored_in_the_frame_of_the_truth(bag, tmp_path, sequence, monkeypatch):
    """Views of a window by their own frames: /tf_static connects them with whose poses the true ones are."""

    class Described(TruthfulPipeline):
        description = {"variant": "truth", "weights_trained": True}

    monkeypatch.setattr("da3_ros.cli.replay.Pipeline", lambda config, repeatable: Described(sequence.cameras[0]))
    assert main(["replay", str(bag), "--output", str(tmp_path / "out.mcap"), "--set", "publish.points=false",
                 "publish.merged_points=false"]) == 0  # fmt: skip
    metrics = evaluate(bag, tmp_path, "--estimates", str(tmp_path / "out.mcap"))
    perfect = {"3": 1.0, "5": 1.0, "15": 1.0, "30": 1.0}
    assert metrics["windows"] == {"count": STEPS - 1, "auc": perfect}


def assert_close(a, b, where):
    if isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in b:
            assert_close(a[key], b[key], f"{where}.{key}")
    elif isinstance(b, list):
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_close(*pair, f"{where}[{index}]")
    elif isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6), where
    else:
        assert a == b, where


def test_a_pipeline_that_knows_the_truth_has_no_errors(bag, tmp_path, sequence, monkeypatch):
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    metrics = evaluate(bag, tmp_path)
    perfect = {"3": 1.0, "5": 1.0, "15": 1.0, "30": 1.0}
    assert metrics["windows"] == {"count": STEPS - 1, "auc": perfect} and metrics["trajectory"]["auc"] == perfect
    assert metrics["trajectory"]["ate"]["none"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    errors = metrics["depth"]["front"]["per_frame"]["none"]
    assert (errors["abs_rel"], errors["delta1"], errors["covered"]) == (0.0, 1.0, 1.0)
    assert metrics["run"]["latency_ms"]["network"] == {"p50": 13.5, "p95": pytest.approx(16.65), "max": 17.0}


def test_without_truth_what_can_be_said_is_said(bag, tmp_path, sequence):
    def bare():
        for step in sequence.read():
            image = step.images[0]
            yield replace(step, images=(replace(image, depth=None),), T_world_tracked=None)

    write_sequence(replace(sequence, read=bare), tmp_path / "bare.mcap", "raw")
    metrics = evaluate(tmp_path / "bare.mcap", tmp_path, *QUICK)
    assert metrics["depth"] == {} and metrics["trajectory"] is None and metrics["consistency"]["front"]["pairs"] > 0
    assert any("no true depth" in note for note in metrics["notes"])
    assert any("no true poses" in note for note in metrics["notes"])


@pytest.mark.optional("open3d")
def test_surfaces_after_fusion(bag, external, sequence):
    camera = sequence.cameras[0]
    T = np.stack([pose(step) @ camera.T_base_cam for step in range(STEPS)])
    stamps = np.array([stamp(step) for step in range(STEPS)])
    write_tum(external / "truth.tum", Trajectory(stamps, T))
    T[:, :3, 3] *= 1.25
    write_tum(external / "camera.tum", Trajectory(stamps, T))
    options = ["--external", str(external / "camera.tum"), "--external-depth", str(external / "depth")]
    options += ["--poses", str(external / "truth.tum"), "--pose-frame", camera.frame_id]
    found = evaluate(bag, external, *options, "--surface", "eth3d")["surface"]
    assert found["views"] == STEPS and found["scale"] == pytest.approx(0.8)
    assert found["chamfer"] < 0.05 and found["f1"] > 0.95


def test_surfaces_without_open3d_are_refused_at_once(bag, external, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open3d", None)
    options = ["--external", str(external / "poses.tum"), "--surface", "7scenes"]
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    assert "pip install 'open3d<0.20'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--external-depth", "somewhere"], "needs --external"),
        (["--external", "nothing.tum"], "nothing.tum cannot be read"),
        (["--pose-topic", "/odom"], "no topic /odom with poses; there are: /ground_truth/odometry"),
        (["--depth-topic", "rear=/depth"], "no camera 'rear'"),
        (["--depth-topic", "front=/depth"], "no topic /depth of type sensor_msgs.msg.Image; there are: .front.ground"),
        (["--estimates", "nothing.mcap"], "no recording nothing.mcap"),
        (["--tolerance", "-1"], "--tolerance must not be below 0"),
        (["--tolerance", "nan"], "--tolerance must not be below 0"),
        (["--max-depth", "0"], "--max-depth .* must be above 0"),
        (["--output", "nowhere/m.json", "--report", "none"], "--output nowhere/m.json: there is no folder nowhere"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(bag, tmp_path, capsys, more, wanted):
    import re

    assert main(["evaluate", str(bag), "--output", str(tmp_path / "m.json"), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(wanted, error) and error.count("\n") == 0, error
    assert not (tmp_path / "m.json").exists()


def test_a_recording_that_was_cut_off_before_its_first_picture_is_refused_with_what_was_lost(bag, tmp_path, capsys):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[:8000])
    assert main(["evaluate", str(cut), "--output", str(tmp_path / "m.json")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no topic with pictures (image topics: none); lost of it: cut.mcap: " in said
    assert "its index cannot be used" in said and "the file ends within the record" in said


def test_output_without_stamps_is_that_of_the_pictures_in_order(bag, external, sequence, capsys):
    """As DA3-Streaming writes it: a matrix a line (here with the scale of its chunk), numbered archives of arrays."""
    camera, folder = sequence.cameras[0], external / "results_output"
    folder.mkdir()
    T = np.stack([pose(step) @ camera.T_base_cam for step in range(STEPS)])
    T[:, :3] *= 0.5
    np.savetxt(external / "camera_poses.txt", T.reshape(STEPS, 16))
    for step in range(STEPS):
        values = {"image": np.zeros((4, 6, 3), np.uint8), "depth": 0.5 * np.nan_to_num(depth(step))}
        np.savez(folder / f"frame_{step + 5}.npz", **values)  # frame_10 comes after frame_9
    options = ["--external", str(external / "camera_poses.txt"), "--external-depth", str(folder)]
    metrics = evaluate(bag, external, *options, "--external-frame", camera.frame_id)
    assert metrics["trajectory"]["ate"]["sim3"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["trajectory"]["scale_error"] == pytest.approx(-0.5)
    assert metrics["trajectory"]["auc"]["3"] == 1.0 and metrics["trajectory"]["frame"] == camera.frame_id
    assert metrics["depth"]["front"]["per_frame"]["median"]["abs_rel"] == pytest.approx(0.0, abs=1e-6)
    for what in ("poses in camera_poses.txt", "depth files in results_output"):
        assert f"the {STEPS} {what} have no stamps: they are taken to be of the pictures in order" in metrics["notes"]
    elsewhere = evaluate(bag, external, *options, "--external-frame", "arm")
    assert elsewhere["trajectory"] is None and any("no transform connects them" in note for note in elsewhere["notes"])
    # Taken for poses of the robot, they turn about another axis.
    assert evaluate(bag, external, *options)["trajectory"]["auc"]["3"] < 0.9
    (folder / "frame_5.npz").unlink()
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    assert f"({STEPS} pictures, {STEPS - 1} files)" in capsys.readouterr().err
    np.savetxt(external / "camera_poses.txt", T[1:].reshape(-1, 16))
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    wanted = f"poses without stamps ({STEPS - 1}, and the camera has {STEPS} pictures): put times.txt"
    assert wanted in capsys.readouterr().err


def test_true_poses_without_stamps_are_those_of_the_pictures_in_order(bag, external, capsys):
    """As KITTI's files come without their times.txt."""
    T = np.stack([pose(step) for step in range(STEPS)])[:, :3]
    np.savetxt(external / "00.txt", T.reshape(STEPS, 12))
    options = ["--external", str(external / "poses.tum"), "--poses", str(external / "00.txt")]
    metrics = evaluate(bag, external, *options)
    assert metrics["trajectory"]["associated_poses"] == STEPS
    assert metrics["trajectory"]["ate"]["sim3"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    note = f"the {STEPS} poses in 00.txt have no stamps: they are taken to be of the pictures in order"
    assert note in metrics["notes"]
    np.savetxt(external / "00.txt", T[1:].reshape(-1, 12))
    capsys.readouterr()
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"poses without stamps ({STEPS - 1}, and the camera has {STEPS} pictures): put times.txt" in said


def test_files_of_another_program_that_are_none(bag, external, capsys):
    shutil.copy(external / "poses.tum", external / "depth" / "readme.png")
    options = ["--external", str(external / "poses.tum"), "--external-depth", str(external / "depth")]
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    assert "readme.png: its name is no stamp" in capsys.readouterr().err


def test_depth_of_another_program_that_is_nowhere(bag, external, capsys):
    options = ["--external", str(external / "poses.tum"), "--external-depth", str(external / "nowhere")]
    assert main(["evaluate", str(bag), "--output", str(external / "m.json"), *options]) == 2
    assert "nowhere is no folder of depth files" in capsys.readouterr().err


def test_true_poses_of_another_clock_cost_only_the_errors_of_poses(bag, external, capsys):
    late = truth_changed(bag, external / "late.mcap", other_clock)
    options = ["--external", str(external / "poses.tum"), "--external-depth", str(external / "depth")]
    metrics = evaluate(late, external, *options)
    assert metrics["trajectory"] is None and metrics["depth"]["front"]["frames"] == STEPS
    assert "no errors of poses: no estimated pose is within 0.02 s" in capsys.readouterr().err
    assert "no errors of poses" in (external / "report.html").read_text()


def test_true_poses_that_are_none_are_left_out(bag, external):
    """As trackers send them when they are lost."""

    def lose(number, message):
        if number == 2:
            message.pose.pose.position.x = float("nan")
        if number == 4:
            message.pose.pose.orientation = replace(message.pose.pose.orientation, x=0.0, y=0.0, z=0.0, w=0.0)

    lost = truth_changed(bag, external / "lost.mcap", lose)
    metrics = evaluate(lost, external, "--external", str(external / "poses.tum"))
    assert metrics["trajectory"]["associated_poses"] == STEPS - 2
    assert metrics["trajectory"]["ate"]["sim3"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert "2 true poses are no rotation and finite place: left out" in metrics["notes"]


def test_parts_without_true_poses_keep_their_depth(tmp_path, sequence, monkeypatch):
    """The motion capture stopped before the robot did."""
    monkeypatch.setattr(ground_truth, "_SLACK_NS", 10_000_000)
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    monkeypatch.setattr(TruthfulPipeline, "reset", lambda self: None)
    monkeypatch.setattr(TruthfulPipeline, "set_rig", lambda self, rig: None)
    write_sequence(sequence, tmp_path / "all.mcap", "raw")
    bag = truth_changed(tmp_path / "all.mcap", tmp_path / "half.mcap", lambda number, message: number < STEPS // 2 - 1)
    metrics = evaluate(bag, tmp_path, "--segment", "0.35")
    assert metrics["failed"] == [] and metrics["depth"]["front"]["frames"] == STEPS
    assert metrics["trajectory"]["associated_poses"] == STEPS // 2 - 1
    assert any("no true poses of some parts" in note for note in metrics["notes"])


def test_poses_in_files_that_are_none_are_left_out_and_said(bag, external, capsys):
    lines = (external / "poses.tum").read_text().splitlines()
    lines[2] = " ".join([lines[2].split()[0], *["nan"] * 7])
    (external / "holes.tum").write_text("\n".join(lines))
    wanted = f"1 of {STEPS} poses in holes.tum are no rotation and finite place (the first in line 3): left out"
    estimated = evaluate(bag, external, "--external", str(external / "holes.tum"))
    assert estimated["trajectory"]["associated_poses"] == STEPS - 1 and wanted in estimated["notes"]
    assert f"note: {wanted}" in capsys.readouterr().err
    true = evaluate(bag, external, "--external", str(external / "poses.tum"), "--poses", str(external / "holes.tum"))
    assert true["trajectory"]["associated_poses"] == STEPS - 1 and wanted in true["notes"]


def test_true_depth_in_millimetres_is_said_and_not_mended(bag, external, capsys):
    recording = Bag([bag])
    with new_recording(external / "mm.mcap") as out:
        for raw in recording.raw():
            kind = recording.topics[raw.topic].type
            if raw.topic == "/front/ground_truth/depth":
                message = recording.deserialize(raw)
                message.data = (np.frombuffer(message.data.tobytes(), np.float32) * 1000).view(np.uint8)
                assert message.encoding == "32FC1"
                out.write(raw.topic, raw.receive_ns, message)
            else:
                out.write_raw(raw.topic, kind, raw.receive_ns, raw.data, recording.ros2_types())
    options = ["--external", str(external / "poses.tum"), "--external-depth", str(external / "depth")]
    options += ["--report", str(external / "r.html")]
    metrics = evaluate(external / "mm.mcap", external, *options)
    assert "looks like millimetres" in metrics["depth"]["front"]["warning"]
    assert metrics["depth"]["front"]["scale"]["median"] == pytest.approx(800, rel=0.02)  # as it is
    assert "warning: depth of front: the true depth looks like millimetres" in capsys.readouterr().err
    page = (external / "r.html").read_text()
    assert '<p class="warning">depth of front: the true depth looks like millimetres' in page
    # With a limit in metres nothing is left to compare: what the reason is is said all the same.
    assert "warning" in evaluate(external / "mm.mcap", external, *options, "--max-depth", "10")["depth"]["front"]
    assert "warning" not in evaluate(bag, external, *options)["depth"]["front"]


def test_without_evo_the_rest_is_scored_and_it_is_said_before_the_work(bag, external, capsys, monkeypatch):
    for module in ("evo", "evo.core.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    options = ["--external", str(external / "poses.tum"), "--external-depth", str(external / "depth")]
    metrics = evaluate(bag, external, *options, "--report", str(external / "r.html"))
    assert capsys.readouterr().err.startswith("note: evo is not installed")
    trajectory = metrics["trajectory"]
    assert trajectory["ate"]["se3"] is None and trajectory["rpe"] is None and trajectory["scale_error"] is None
    assert trajectory["auc"]["3"] == 1.0 and metrics["depth"]["front"]["per_frame"]["median"]["abs_rel"] < 0.01
    assert len([note for note in trajectory["notes"] if "evo" in note]) == 1
    assert "<h3>Top</h3>" in (external / "r.html").read_text()
