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
    ours = read_trajectory(tmp_path / "poses.tum").trajectory
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
    ours, theirs = read_trajectory(file).trajectory, file_interface.read_euroc_csv_trajectory(file)
    assert ours.stamps_ns.tolist() == STAMPS.tolist()
    assert ours.T_world_body == pytest.approx(np.stack(theirs.poses_se3))


def test_kitti_as_evo_reads_it_with_times_beside(tmp_path):
    file = tmp_path / "00.txt"
    np.savetxt(file, POSES[:, :3].reshape(3, 12))
    with pytest.raises(InputError, match=r"times\.txt"):
        read_trajectory(file)
    (tmp_path / "times.txt").write_text("0.0\n0.1\n2.5e-1\n")
    ours, theirs = read_trajectory(file).trajectory, file_interface.read_kitti_poses_file(file)
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
        ("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0\n", "line 2 .* 7 values, wanted 8"),
        ("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1 1\n", "line 2 .* 9 values, wanted 8"),
        ("1.0 0 0 0 0 0 0 0\n2.0 nan 0 0 0 0 0 1\n", "none of its 2 lines is a rotation and finite place"),
        ("1.0 0 0 0 0 0 0 1\n1.0 0 0 0 0 0 0 1\n", "do not increase"),
    ],
)
def test_a_file_that_is_no_trajectory_is_refused_with_its_name(tmp_path, text, wanted):
    file = tmp_path / "poses.tum"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"poses\.tum.*{wanted}"):
        read_trajectory(file)


def test_a_euroc_or_kitti_line_that_is_too_short_or_no_rotation_is_named(tmp_path):
    euroc = tmp_path / "data.csv"
    euroc.write_text("1403636580838555648,0,0,0,1,0,0,0,0\n1403636580938555648,0,0,0,1,0,0\n")
    with pytest.raises(InputError, match=r"data\.csv, line 2 .* 7 values, wanted at least 8"):
        read_trajectory(euroc)
    (tmp_path / "times.txt").write_text("0.0\n0.1\n")
    for line, wanted in (("1 0 0 0 0 1 0 0 0 0 1", "11 values, wanted 12"), ("2 0 0 0 0 1 0 0 0 0 1 0", "no rotation")):
        (tmp_path / "00.txt").write_text(f"1 0 0 0 0 1 0 0 0 0 1 0\n{line}\n")
        with pytest.raises(InputError, match=rf"00\.txt, line 2 .* {wanted}"):
            read_trajectory(tmp_path / "00.txt")
    (tmp_path / "00.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    (tmp_path / "times.txt").write_text("0.0\nnan\n")
    with pytest.raises(InputError, match=r"times\.txt has a line that is no number of seconds"):
        read_trajectory(tmp_path / "00.txt")


@pytest.mark.parametrize("bad", ["nan nan nan nan nan nan nan nan", "2.0 nan 0 0 0 0 0 1", "2.0 inf 0 0 0 0 0 1",
                                 "2.0 0 0 0 0 0 0 0"])  # fmt: skip
def test_a_tum_pose_that_is_none_is_left_out_and_counted(tmp_path, bad):
    file = tmp_path / "poses.tum"
    file.write_text(f"# lost once\n1.0 1 0 0 0 0 0 1\n{bad}\n3.0 3 0 0 0 0 0 1\n")
    found = read_trajectory(file)
    assert found.trajectory.positions[:, 0].tolist() == [1, 3]
    assert found.trajectory.stamps_ns.tolist() == [1_000_000_000, 3_000_000_000]
    (note,) = found.notes(file)
    assert note.startswith("1 of 3 poses in poses.tum are no rotation") and "line 3" in note


def test_kitti_and_euroc_poses_that_are_none_keep_the_stamps_of_the_others(tmp_path):
    rows = [f"1 0 0 {x} 0 1 0 0 0 0 1 0" for x in (0, 1, "nan", 3)]
    (tmp_path / "00.txt").write_text("\n".join(rows))
    (tmp_path / "times.txt").write_text("0.0\n0.1\n0.2\n0.3\n")
    kitti = read_trajectory(tmp_path / "00.txt")
    assert kitti.trajectory.stamps_ns.tolist() == [0, 100_000_000, 300_000_000]
    assert kitti.trajectory.positions[:, 0].tolist() == [0, 1, 3]
    stamp = 1403636580838555648
    lines = [f"{stamp + i},{x},0,0,1,0,0,0,nan" for i, x in enumerate((0, "nan", 2))]  # a velocity may be what it likes
    (tmp_path / "data.csv").write_text("\n".join(lines))
    euroc = read_trajectory(tmp_path / "data.csv")
    assert euroc.trajectory.stamps_ns.tolist() == [stamp, stamp + 2]
    assert (euroc.unusable, kitti.unusable, euroc.first_unusable) == (1, 1, 2)
    (tmp_path / "good.tum").write_text("1.0 1 0 0 0 0 0 1\n")
    assert read_trajectory(tmp_path / "good.tum").notes(tmp_path / "good.tum") == []


def test_stamps_in_nanoseconds_with_blanks_are_orb_slams_in_tum_s_order(tmp_path):
    file = tmp_path / "CameraTrajectory.txt"
    for stamp in ("1403636580838555648.000000", "1403636580838555648"):
        file.write_text(f"{stamp} 1 2 3 0 0 0.6 0.8\n")
        found = read_trajectory(file).trajectory
        assert found.stamps_ns.tolist() == [1403636580838555648]
        assert found.T_world_body[0, :2, :2] == pytest.approx(np.array([[0.28, -0.96], [0.96, 0.28]]))
    file.write_text("9e20 1 2 3 0 0 0.6 0.8\n")
    with pytest.raises(InputError, match=r"CameraTrajectory\.txt"):
        read_trajectory(file)
