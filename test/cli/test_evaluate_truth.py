"""Truth of other kinds: point clouds of a LiDAR or a map, and transforms."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from recording_helpers import HEIGHT, STEPS, WIDTH, depth, pose, stamp

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.datatypes import PointBuffer
from da3_ros.egress.bag import new_recording
from da3_ros.egress.message_types import message_builder
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum
from da3_ros.geometry.camera import unproject
from da3_ros.geometry.clouds import pack_points

T_BASE_LIDAR = np.eye(4)
T_BASE_LIDAR[:3, 3] = (0.1, 0.2, 0.9)


@pytest.fixture
def answer(tmp_path):
    """Another program's poses and depth: the truth, 10 % too far."""
    folder = tmp_path / "depth"
    folder.mkdir()
    for step in range(STEPS):
        np.save(folder / f"{stamp(step)}.npy", np.nan_to_num(1.1 * depth(step)))
    stamps = np.array([stamp(step) for step in range(STEPS)])
    write_tum(tmp_path / "poses.tum", Trajectory(stamps, np.stack([pose(step) for step in range(STEPS)])))
    return ["--external", str(tmp_path / "poses.tum"), "--external-depth", str(folder)]


def wall(sequence, step: int) -> np.ndarray:
    """The points (n, 3) that the camera sees, in the frame of base_link."""
    camera = sequence.cameras[0]
    points = unproject(torch.from_numpy(depth(step)).double(), torch.from_numpy(camera.calibration.K)).reshape(-1, 3)
    points = points.numpy()[np.isfinite(points.numpy()).all(axis=1)]
    return points @ camera.T_base_cam[:3, :3].T + camera.T_base_cam[:3, 3]


def write(sequence, path, clouds) -> str:
    """The sequence without depth, and ``clouds``: (stamp, frame, points)."""

    def bare():
        for step in sequence.read():
            yield replace(step, images=tuple(replace(image, depth=None) for image in step.images))

    folder = path.with_suffix("")
    write_sequence(replace(sequence, read=bare), folder.with_suffix(".pictures.mcap"), "raw")
    build = message_builder()
    with new_recording(folder.with_suffix(".clouds.mcap")) as recording:
        lidar = build.transform(T_BASE_LIDAR, stamp(0), "base_link", "lidar")
        recording.write("/tf_static", stamp(0) - 1, build.transforms([lidar]))
        for at, frame, points in clouds:
            xyz = torch.from_numpy(points.astype(np.float32))[None]
            data = pack_points(xyz, torch.zeros((3, *xyz.shape[:2]), dtype=torch.uint8), xyz.isfinite().all(dim=-1))
            recording.write("/lidar/points", at, build.cloud(PointBuffer(data.numpy(), frame, True), at))
    return [str(folder.with_suffix(".pictures.mcap")), str(folder.with_suffix(".clouds.mcap")), "--together"]


def evaluate(tmp_path, *arguments) -> dict:
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "m.json")]) == 0
    return json.loads((tmp_path / "m.json").read_text())


def inverse(T, points):
    return (points - T[:3, 3]) @ T[:3, :3]


def in_world(sequence, step: int) -> np.ndarray:
    """What the camera sees at ``step``, in the world."""
    return wall(sequence, step) @ pose(step)[:3, :3].T + pose(step)[:3, 3]


def scale_of(sequence, step: int, points: np.ndarray) -> float:
    """Median of the depth that ``points`` of the world have at ``step``, against that of the answer at their pixels."""
    camera = sequence.cameras[0]
    seen = inverse(pose(step) @ camera.T_base_cam, points)
    K = camera.calibration.K
    seen = seen[seen[:, 2] > 0]
    u, v = (np.rint(K[i, i] * seen[:, i] / seen[:, 2] + K[i, 2]).astype(int) for i in (0, 1))
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
    return float(np.median(seen[inside, 2]) / np.nanmedian(1.1 * depth(step)[v[inside], u[inside]]))


def test_clouds_of_a_lidar_are_moved_to_the_time_and_place_of_the_pictures(sequence, answer, tmp_path):
    """Clouds at the odd steps only: each is the truth of its neighbours too, where the robot stood elsewhere."""
    clouds = []
    for step in range(1, STEPS, 2):
        clouds.append((stamp(step), "lidar", inverse(T_BASE_LIDAR, wall(sequence, step))))
    bag = write(sequence, tmp_path / "lidar", clouds)
    metrics = evaluate(tmp_path, *bag, *answer, "--cloud-topic", "/lidar/points")
    assert metrics["run"]["evaluated_with"]["true_depth"] == {"front": "/lidar/points"}
    errors = metrics["depth"]["front"]["per_frame"]["none"]
    assert metrics["depth"]["front"]["frames"] == STEPS // 2
    assert errors["abs_rel"] == pytest.approx(0.1, abs=1e-4) and errors["covered"] == 1.0
    assert metrics["depth"]["front"]["per_frame"]["median"]["abs_rel"] == pytest.approx(0.0, abs=1e-4)

    # 0.1 s apart: the other pictures see the wall of the nearest cloud (of two the earlier), from their own place.
    both = evaluate(tmp_path, *bag, *answer, "--cloud-topic", "/lidar/points", "--tolerance", "0.11")
    assert both["depth"]["front"]["frames"] == STEPS
    for step, of in ((0, 1), (2, 1), (4, 3)):
        scale = both["depth"]["front"]["over_time"][step]["scale"]
        assert scale == pytest.approx(scale_of(sequence, step, in_world(sequence, of)), rel=0.02)


def test_a_map_in_the_world_of_the_true_poses_is_the_truth_of_all_pictures(sequence, answer, tmp_path):
    first = in_world(sequence, 0)
    bag = write(sequence, tmp_path / "map", [(stamp(0) - 10**9, "world", first)])
    metrics = evaluate(tmp_path, *bag, *answer, "--cloud-topic", "/lidar/points")
    over_time = metrics["depth"]["front"]["over_time"]
    assert len(over_time) == STEPS
    assert over_time[0]["abs_rel"] == pytest.approx(0.1, abs=1e-3)
    assert over_time[1]["scale"] == pytest.approx(scale_of(sequence, 1, first), rel=0.02)


def test_clouds_that_nothing_connects_with_the_cameras_are_said(sequence, answer, tmp_path, capsys):
    bag = write(sequence, tmp_path / "lost", [(stamp(0), "elsewhere", np.ones((4, 3)))])
    out = ["--output", str(tmp_path / "m.json")]
    assert main(["evaluate", *bag, *answer, *out, "--cloud-topic", "/lidar/points"]) == 2
    assert "is in frame 'elsewhere', and no static transform connects it" in capsys.readouterr().err
    assert main(["evaluate", *bag, *answer, *out, "--cloud-topic", "/radar"]) == 2
    assert "no topic /radar of type sensor_msgs/msg/PointCloud2; there are: /lidar/points" in capsys.readouterr().err


def test_poses_from_transforms(bag, answer, tmp_path, capsys):
    tf = ["--pose-tf", "world:ground_truth/base_link", "--pose-frame", "base_link"]
    metrics = evaluate(tmp_path, str(bag), *answer, *tf)
    assert metrics["trajectory"]["associated_poses"] == STEPS
    assert metrics["trajectory"]["ate"]["none"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["run"]["evaluated_with"]["true_poses"] == "transforms world:ground_truth/base_link"
    for text, wanted in (
        ("world:arm", "no transform world:arm; there are: world:ground_truth/base_link"),
        ("world", "names no two frames"),
    ):
        assert main(["evaluate", str(bag), *answer, "--pose-tf", text, "--output", str(tmp_path / "n.json")]) == 2
        assert wanted in capsys.readouterr().err
