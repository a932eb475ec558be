"""Folders of pictures to recordings, and what a recording holds."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from da3_ros.cli.main import main
from da3_ros.geometry.se3 import T_BODY_OPTICAL
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.from_msg import frame_from_compressed

C2W = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 2.0], [0, 0, 0, 1]]


@pytest.fixture
def folder(tmp_path):
    """Three moments of one camera with all the truth that there can be, as in meta.json."""
    pictures = tmp_path / "room"
    pictures.mkdir()
    frames = []
    for number in range(3):
        pixels = np.full((12, 16, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
        depth = np.full((12, 16), 1500 + number, np.uint16)
        depth[0] = 0
        Image.fromarray(depth).save(pictures / f"{number}_depth.png")
        c2w = np.array(C2W, dtype=float)
        c2w[0, 3] += number
        files = {"image": f"{number}.png", "depth": f"{number}_depth.png"}
        frames.append({"camera": "front", **files, "c2w": c2w.tolist()})
    camera = {"width": 16, "height": 12, "fx": 20.0, "fy": 21.0, "cx": 7.5, "cy": 5.5,
              "T_rig_cam": T_BODY_OPTICAL.tolist()}  # fmt: skip
    meta = {"name": "room", "depth_scale": 1000, "pose_units": "m", "cameras": {"front": camera}, "frames": frames}
    (pictures / "meta.json").write_text(json.dumps(meta))
    return pictures


def test_pictures_calibration_rig_and_truth_become_topics(folder, tmp_path, capsys):
    assert main(["bags", "from-images", str(folder), "--output", str(tmp_path / "room.mcap")]) == 0
    assert "nominal rate of 10 Hz" in capsys.readouterr().err  # these pictures have no stamps
    bag = Bag([tmp_path / "room.mcap"])
    assert {name: topic.messages for name, topic in bag.topics.items()} == {
        "/front/image_raw/compressed": 3,
        "/front/camera_info": 3,
        "/front/ground_truth/depth": 3,
        "/ground_truth/odometry": 3,
        "/tf": 3,
        "/tf_static": 1,
    }
    found: dict[str, list] = {}
    for entry in bag.messages():
        found.setdefault(entry.topic, []).append(entry.message)
    frame = frame_from_compressed(found["/front/image_raw/compressed"][2], "front")
    assert (frame.image == 80).all()
    depth = found["/front/ground_truth/depth"][1].data.view(np.float32).reshape(12, 16)
    assert np.isnan(depth[0]).all() and depth[1:] == pytest.approx(1.501)
    assert found["/front/camera_info"][0].k[0] == 20.0
    place = found["/ground_truth/odometry"][2].pose.pose.position
    assert (place.x, place.z) == (2.5, 2.0)


def test_pictures_and_videos_of_which_nothing_is_known(folder, tmp_path, capsys):
    (folder / "meta.json").unlink()
    for depth in folder.glob("*_depth.png"):
        depth.unlink()
    out = tmp_path / "plain.mcap"
    assert main(["bags", "from-images", str(folder), "--output", str(out), "--rate", "20"]) == 0
    bag = Bag([out])
    assert {name: topic.messages for name, topic in bag.topics.items()} == {"/camera/image_raw/compressed": 3}
    assert bag.end_ns - bag.start_ns == 100_000_001  # two periods
    assert "no calibration" in capsys.readouterr().err

    video = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 16))
    for number in range(5):
        video.write(np.full((16, 32, 3), (0, 0, 50 * number), np.uint8))  # red in BGR
    video.release()
    more = ["--transport", "raw", "--steps", "4"]
    assert (
        main(["bags", "from-images", str(tmp_path / "walk.avi"), "--output", str(tmp_path / "walk.mcap"), *more]) == 0
    )
    images = [found.message for found in Bag([tmp_path / "walk.mcap"]).messages()]
    assert [image.header.stamp.nanosec for image in images] == [0, 40_000_000, 80_000_000, 120_000_000]
    assert images[3].data.reshape(16, 32, 3)[8, 8, 0] == pytest.approx(150, abs=6)
    assert main(["bags", "from-images", str(tmp_path / "walk.mcap"), "--output", str(tmp_path / "no.mcap")]) == 2
    assert "neither a folder of pictures nor a video" in capsys.readouterr().err


def test_a_video_with_fewer_pictures_than_it_announces(tmp_path, capsys):
    """As of a camera that was switched off."""
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    video = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 16))
    for number in range(20):
        video.write(np.full((16, 32, 3), 10 * number, np.uint8))
    video.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert main(["bags", "from-images", str(cut), "--output", str(tmp_path / "cut.mcap")]) == 0
    written = Bag([tmp_path / "cut.mcap"]).topics["/camera/image_raw/compressed"].messages
    told = capsys.readouterr()
    assert 0 < written < 20 and f"{written} moments of camera" in told.out
    assert f"announces 20 pictures, and has {written}" in told.err


def test_what_is_in_a_recording_is_told(folder, tmp_path, capsys):
    out = tmp_path / "bag"
    assert main(["bags", "from-images", str(folder), "--output", str(out), "--transport", "raw", "--steps", "2"]) == 0
    capsys.readouterr()
    assert main(["bags", "info", str(out), "--json", "-"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["topics"]["/front/image_raw"] == {"type": "sensor_msgs/msg/Image", "messages": 2}
    assert info["duration_s"] == pytest.approx(0.1) and info["lost"] == []
    assert [(c["name"], c["image_topic"], c["info_topic"]) for c in info["cameras"]] == [
        ("front", "/front/image_raw", "/front/camera_info")
    ]
    assert main(["bags", "info", str(out)]) == 0
    assert "camera front: /front/image_raw" in capsys.readouterr().out
    assert main(["bags", "info", str(out), "--json", str(tmp_path / "nowhere" / "info.json")]) == 2
    assert "info.json cannot be written: No such file or directory" in capsys.readouterr().err


def test_nothing_is_written_over_and_no_half_recording_stays(folder, tmp_path, capsys):
    (tmp_path / "there.mcap").touch()
    assert main(["bags", "from-images", str(folder), "--output", str(tmp_path / "there.mcap")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["bags", "from-images", str(folder), "--output", str(tmp_path / "n.mcap"), "--rate", "nan"]) == 2
    assert "--rate above 0, not 9223372036854775807 and nan" in capsys.readouterr().err
    (folder / "2.png").unlink()
    assert main(["bags", "from-images", str(folder), "--output", str(tmp_path / "new.mcap")]) == 2
    assert "2.png cannot be read" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room", "there.mcap"]
