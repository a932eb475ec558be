"""bench_tracking --network: the shipped network on the CPU, and the figures of a network that is never wrong."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from da3_ros.cli import bench_tracking, network_drives
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.drive_score import DriveScore
from da3_ros.evaluation.simulated_drives import Scenario
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.streaming import StreamingDA3
from da3_ros.training import scenes
from da3_ros.training.scenes import furnish
from da3_ros.training.scenes.lightmap import Lightmap

SIZE = 56, 42
UNITS_PER_METRE = 0.4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small pictures, few textures, and the same light everywhere."""
    monkeypatch.setattr(network_drives, "WIDTH", SIZE[0])
    monkeypatch.setattr(network_drives, "HEIGHT", SIZE[1])
    monkeypatch.setattr(network_drives, "PROCESS_RES", SIZE[0])
    monkeypatch.setattr(furnish, "make_atlas", partial(scenes.make_atlas, size=32, variants=1))
    monkeypatch.setattr(scenes, "bake", lambda rooms, generator: Lightmap(torch.full((70_000, 3), 0.5)))


def test_the_command_gives_every_figure(monkeypatch, capsys, tmp_path):
    way = sim.circle(8, per_step=0.1)
    drive = Scenario("a way", way, sim.STEREO, missing={4: {"left"}}, noise=sim.Noise(outliers=0.2), sets=2)
    monkeypatch.setattr(network_drives, "network_scenarios", lambda steps: [drive])
    path = tmp_path / "figures.json"
    keyframes = "loops.keyframe_motion:=0.01"
    given = ["--network", "--device", "cpu", "--sources", "auto", "range", "--json", str(path), "-p", keyframes]
    assert bench_tracking.main(given) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows[1:]] == ["auto", "range"] and len({len(row) for row in rows}) == 1
    auto, ranged = json.loads(path.read_text())["drives"]
    assert (auto["metres"], ranged["metres"]) == (False, True) and ranged["sources"] == {"range": 8}
    for result in (auto, ranged):
        assert result["steps"] == 8 and result["distance_m"] == pytest.approx(1.4, abs=0.1)
        unknown = {name for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
        assert unknown <= {"nees"}
        assert sum(result["statuses"].values()) == 8


def test_bad_input_is_one_line(capsys):
    assert bench_tracking.main(["--network", "--device", "cpu", "-p", "window.set:=2"]) == 1
    assert "window.set" in capsys.readouterr().err


def test_a_drive_without_any_pose_ends_no_run():
    """Odometry of a robot that stands still gives no metres, and without them there are no poses."""
    hall = network_drives.Hall(torch.device("cpu"))
    still = Scenario("still", sim.straight(3, 0.0), sim.FRONT, sets=2)
    values = {"model.variant": "da3-nano", "model.device": "cpu", "model.cpu_threads": 1, "loops.enabled": False}
    (result,) = network_drives.drive(hall, still, ["odometry"], values)
    assert (result.steps, result.silent, result.statuses) == (0, 3, {"no pose": 3}) and math.isnan(result.ate_m)


class NeverWrong:
    """In place of the network's answer the truth, each window in a gauge of its own."""

    def __init__(self, monkeypatch):
        self.depth, self.poses = {}, {}
        self.random = np.random.default_rng(0)
        step, pictures = StreamingDA3.step, network_drives.Hall.pictures

        def seen(hall, scenario):
            for number, rendered in enumerate(pictures(hall, scenario)):
                stamp = 1_000_000_000 + number * 100_000_000
                for name, depth in rendered.depth.items():
                    self.depth[name, stamp] = depth
                    self.poses[name, stamp] = rendered.T_world_base @ scenario.rig[name]
                yield rendered

        monkeypatch.setattr(network_drives.Hall, "pictures", seen)
        monkeypatch.setattr(
            StreamingDA3, "step", lambda engine, *given, **named: self.answer(step(engine, *given, **named))
        )

    def answer(self, prediction):
        gauge = T_from(np.eye(3), self.random.normal(size=3))
        keys = [(view.camera, view.stamp_ns) for view in prediction.views]
        T = np.stack([invert(gauge @ self.poses[key]) for key in keys])
        T[:, :3, 3] *= UNITS_PER_METRE
        depth = np.stack([self.depth[keys[index]] for index in prediction.decoded]) * UNITS_PER_METRE
        return replace(prediction, T_cam_world=torch.from_numpy(T).float(), depth=torch.from_numpy(depth))


@pytest.mark.parametrize(
    "sources", [("auto", "odometry"), pytest.param(("rig", "range"), marks=pytest.mark.slow)], ids=" and ".join
)
def test_a_network_that_is_never_wrong_has_no_errors(monkeypatch, sources):
    NeverWrong(monkeypatch)
    hall = network_drives.Hall(torch.device("cpu"))
    drive = Scenario("", sim.circle(8, per_step=0.1), sim.STEREO, missing={4: {"left"}}, sets=2)
    values = {
        "model.variant": "da3-nano", "model.device": "cpu", "model.cpu_threads": 1, "loops.enabled": False,
        "loops.keyframe_motion": 0.02,
    }  # fmt: skip
    for result in network_drives.drive(hall, drive, sources, values):
        assert result.metres == (result.source != "auto")
        assert result.silent == (result.source == "odometry")  # one moment alone shows no way
        assert result.ate_m < 0.01 and result.ate_scaled_m < 0.01 and result.rotation_deg < 0.1, result
        assert result.map_ate_m < 0.01 and result.keyframe_ate_m < 0.01
        assert result.scale_median_percent < 1 and abs(result.way_percent) < 1
        assert result.jump_m < 0.01 and result.largest_step_m == pytest.approx(0.2, abs=0.02)
        assert result.cloud_m < 0.02


def test_continuity_and_lengths_of_a_drive_by_hand():
    """A metre a step along x, and all of it a fifth too long; the third step goes half a metre aside too."""
    true = np.stack([T_from(np.eye(3), np.array([float(n), 0.0, 0.0])) for n in range(5)])
    estimated = true.copy()
    estimated[:, 0, 3] *= 1.2
    estimated[3:, 1, 3] = 0.5
    stamps = np.arange(5, dtype=np.int64) * 100_000_000
    score = DriveScore(
        "", stamps, estimated, true, [None] * 5, np.array([0.1, 0.2, 0.2, 0.2, 0.3]), [0.1] * 5, [1.0] * 5,
        ["tracking"] * 5, second=2,
    )  # fmt: skip
    result = score.result()
    assert (result.largest_step_m, result.true_step_m) == (pytest.approx(math.hypot(1.2, 0.5)), pytest.approx(1.0))
    assert result.jump_m == pytest.approx(math.hypot(0.2, 0.5))
    assert result.drift_percent == pytest.approx(100 * math.hypot(0.8, 0.5) / 4)
    assert result.scale_median_percent == pytest.approx(20) and result.scale_largest_percent == pytest.approx(30)
    assert result.ate_m == pytest.approx(math.sqrt((0.04 + 0.16 + 0.36 + 0.64 + 0.5) / 5))
    # On a line: after the best scale, the first poses on each other.
    straight = replace(score, estimated=estimated.copy())
    straight.estimated[:, 1, 3] = 0.0
    assert straight.ate_scaled() == pytest.approx(0.0, abs=1e-9)
    # Aside says nothing of lengths, and displacements over two steps are 2.4 m where 2 are true.
    assert network_drives.way_percent(estimated, true, 2) == pytest.approx(20)
