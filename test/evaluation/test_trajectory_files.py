"""Trajectory files, read as evo reads them, but to the nanosecond."""

import numpy as np
import pytest
from evaluation_helpers import START_NS, random_poses
from evo.tools import file_interface

from da3_ros.errors import InputError
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import read_trajectory, write_tum

STAMPS = START_NS + np.array([123_456_789, 223_456_790, 987_654_321])
POSES = random_poses(3, seed=1)


def test_tum_there_and_back_and_as_evo_reads_it(tmp_path):
    write_tum(tmp_path / "poses.tum", Trajectory(STAMPS, POSES))
    ours = read_trajectory(tmp_path / "poses.tum")
    theirs = file_interface.read_tum_trajectory_file(tmp_path / "poses.tum")
    assert ours.stamps_ns.tolist() == STAMPS.tolist()
    assert ours.T_world_body == pytest.approx(POSES, abs=1e-7)
    assert ours.T_world_body == pytest.approx(np.stack(theirs.poses_se3))


def test_euroc_as_evo_reads_it(tmp_path):
    from da3_ros.geometry.se3 import quat_xyzw_from_matrix

    file = tmp_path / "data.csv"
    lines = ["#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z, v_x"]
    for stamp, T in zip(STAMPS, POSES, strict=True):
        x, y, z, w = quat_xyzw_from_matrix(T)
        lines.append(",".join(str(value) for value in (stamp, *T[:3, 3], w, x, y, z, 0.5)))
    file.write_text("\n".join(lines))
    ours, theirs = read_trajectory(file), file_interface.read_euroc_csv_trajectory(file)
    assert ours.stamps_ns.tolist() == STAMPS.tolist()
    assert ours.T_world_body == pytest.approx(np.stack(theirs.poses_se3))


def test_kitti_as_evo_reads_it_with_times_beside(tmp_path):
    file = tmp_path / "00.txt"
    np.savetxt(file, POSES[:, :3].reshape(3, 12))
    with pytest.raises(InputError, match=r"times\.txt"):
        read_trajectory(file)
    (tmp_path / "times.txt").write_text("0.0\n0.1\n2.5e-1\n")
    ours, theirs = read_trajectory(file), file_interface.read_kitti_poses_file(file)
    assert ours.stamps_ns.tolist() == [0, 100_000_000, 250_000_000]
    assert ours.T_world_body == pytest.approx(np.stack(theirs.poses_se3))
    (tmp_path / "times.txt").write_text("0.0\n")
    with pytest.raises(InputError, match="1 stamps, but .* 3 poses"):
        read_trajectory(file)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("# only a comment\n", "no poses"),
        ("1.0 2 3\n", "lines of 3 values"),
        ("1.0 0 0 0 0 0 0 1\n2.0 0 0 x 0 0 0 1\n", "line 2"),
        ("1.0 0 0 0 0 0 0 0\n", "line 1 .* no rotation"),
        ("1.0 0 0 0 0 0 0 1\n2.0 nan 0 0 0 0 0 1\n", "line 2 .* not finite"),
        ("1.0 0 0 0 0 0 0 1\n1.0 0 0 0 0 0 0 1\n", "do not increase"),
    ],
)
def test_a_file_that_is_no_trajectory_is_refused_with_its_name(tmp_path, text, wanted):
    file = tmp_path / "poses.tum"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"poses\.tum.*{wanted}"):
        read_trajectory(file)
