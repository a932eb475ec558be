"""Recordings of every kind come out as the same messages."""

import cv2
import numpy as np
import pytest
import yaml
from bag_helpers import (
    ROS1,
    ROS2,
    START_NS,
    STEP_NS,
    Messages,
    camera_messages,
    storage_file,
    write_ros1,
    write_ros2,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.rosbag2 import Reader as Ros2Reader

from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import find_cameras
from da3_ros.ingest.from_msg import calibration_from_info, frame_from_compressed, frame_from_image

M = Messages(ROS2)
RECORDED = camera_messages(M)


def pictures(bag: Bag, **limits) -> list[int]:
    """The number in each picture, by the path that replay takes."""
    frames = [frame_from_image(found.message, "front") for found in bag.messages(["/front/image_raw"], **limits)]
    return [int(frame.image[0, 0, 0]) for frame in frames]


def split(folder, parts, storage=StoragePlugin.MCAP) -> list[str]:
    """Names of the files of a recording in parts without metadata, one after the other."""
    folder.mkdir()
    names = []
    for part in range(parts):
        recorded = [(topic, at + part * 6 * STEP_NS, message) for topic, at, message in RECORDED]
        file = storage_file(write_ros2(folder.parent / f"part{part}", recorded, storage))
        names.append(f"split_{part}{file.suffix}")
        file.rename(folder / names[-1])
    return names


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE])
def test_rosbag2(tmp_path, storage, compression):
    bag = Bag([write_ros2(tmp_path / "bag", RECORDED, storage, compression)])
    assert bag.lost == []
    assert {name: (topic.type, topic.messages) for name, topic in bag.topics.items()} == {
        "/front/camera_info": ("sensor_msgs/msg/CameraInfo", 6),
        "/front/image_raw": ("sensor_msgs/msg/Image", 6),
    }
    assert (bag.start_ns, bag.end_ns) == (RECORDED[0][1], RECORDED[-1][1] + 1)
    assert [(found.topic, found.receive_ns) for found in bag.messages()] == [entry[:2] for entry in RECORDED]
    assert pictures(bag) == [0, 1, 2, 3, 4, 5]
    assert pictures(bag, start_ns=START_NS + 2 * STEP_NS, stop_ns=START_NS + 4 * STEP_NS) == [2, 3]


def test_a_single_storage_file_and_mcap_with_compressed_chunks(tmp_path):
    folder = write_ros2(tmp_path / "bag", RECORDED, compression=CompressionMode.STORAGE)
    assert pictures(Bag([storage_file(folder)])) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_ros1(tmp_path, compression):
    recorded = camera_messages(Messages(ROS1))
    bag = Bag([write_ros1(tmp_path / "old.bag", recorded, compression)])
    assert bag.topics["/front/image_raw"].type == "sensor_msgs/msg/Image"
    assert pictures(bag) == [0, 1, 2, 3, 4, 5]
    info = next(bag.messages(["/front/camera_info"])).message
    assert calibration_from_info(info, "front").K[0, 0] == 50.0  # ROS 1 calls it K, ROS 2 k


@pytest.mark.parametrize("ros1", [False, True])
def test_compressed_images(tmp_path, ros1):
    messages = Messages(ROS1 if ros1 else ROS2)
    topic = "/front/image_raw/compressed"
    recorded = []
    for number in range(3):
        png = cv2.imencode(".png", np.full((8, 8, 3), 40 * number, np.uint8))[1].tobytes()
        recorded.append((topic, START_NS + number, messages.compressed(START_NS + number, png, "png")))
    path = write_ros1(tmp_path / "bag.bag", recorded) if ros1 else write_ros2(tmp_path / "bag", recorded)
    bag = Bag([path])
    (camera,) = find_cameras(bag)
    assert (camera.image_topic, camera.compressed) == (topic, True)
    frames = [frame_from_compressed(found.message, "front") for found in bag.messages([topic])]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 40, 80]


def test_ros1_messages_become_those_of_ros2(tmp_path):
    bag = Bag([write_ros1(tmp_path / "old.bag", camera_messages(Messages(ROS1)))])
    converted = [bag.to_ros2(raw) for raw in bag.raw()]
    assert converted == [bytes(ROS2.serialize_cdr(message, message.__msgtype__)) for _, _, message in RECORDED]


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_split_bags_are_read_one_file_after_the_other(tmp_path, storage):
    folder = tmp_path / "split"
    names = split(folder, 11, storage)  # split_10 comes after split_9
    metadata = yaml.safe_load((tmp_path / "part0" / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"] = names
    for described in (True, False):
        if described:
            (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
        else:
            (folder / "metadata.yaml").unlink()
        bag = Bag([folder])
        received = [found.receive_ns for found in bag.messages()]
        assert len(received) == 11 * 12 and received == sorted(received)
        assert (bag.lost == []) == described
    (folder / names[3]).unlink()
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    bag = Bag([folder])
    assert len(list(bag.messages())) == 10 * 12 and f"its file {names[3]} is missing" in bag.lost[0]


def test_several_bags_are_merged_by_the_time_of_recording(tmp_path):
    left = write_ros2(tmp_path / "left", camera_messages(M, topic="/left/image_raw"))
    shifted = [
        (topic, at + STEP_NS // 2, message) for topic, at, message in camera_messages(M, topic="/right/image_raw")
    ]
    bag = Bag([left, write_ros2(tmp_path / "right", shifted, StoragePlugin.SQLITE3)])
    topics = [found.topic for found in bag.messages(["/left/image_raw", "/right/image_raw"])]
    assert topics == ["/left/image_raw", "/right/image_raw"] * 6


def test_own_message_types_are_read_by_the_definition_in_the_bag(tmp_path):
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_types_from_msg, get_typestore
    from rosbags.typesys.stores import Stores

    store = get_typestore(Stores.ROS2_KILTED)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat32[] ranges", "my_robot/msg/Sonar"))
    message = store.types["my_robot/msg/Sonar"](M.header(START_NS, "sonar"), np.array([1.5, 2.5], np.float32))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/sonar", "my_robot/msg/Sonar", typestore=store)
        writer.write(connection, START_NS, store.serialize_cdr(message, "my_robot/msg/Sonar"))
    (found,) = Bag([tmp_path / "bag"]).messages()
    assert found.message.ranges.tolist() == [1.5, 2.5]


def test_what_is_no_recording_is_refused_with_its_name(tmp_path):
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrong.mcap").write_bytes(b"no mcap" * 100)
    for name, wanted in (
        ("nothing.mcap", "no recording .*nothing"),
        ("empty.mcap", "is empty"),
        ("notes.txt", r"wanted a \.mcap, \.db3 or \.bag"),
        ("folder", "holds no recording"),
        ("wrong.mcap", "is no MCAP file"),
    ):
        with pytest.raises(InputError, match=wanted):
            Bag([tmp_path / name])
    with pytest.raises(InputError, match="no messages"):
        Bag([write_ros2(tmp_path / "bag", [])])


@pytest.fixture
def openings(monkeypatch):
    """Names of the files of which an index was opened, and how many of these are open."""
    opened, closed = [], []
    for reader in (Ros1Reader, Ros2Reader):
        open_it, close_it = reader.open, reader.close

        def noted_open(self, open_it=open_it):
            open_it(self)
            opened.append(self.path.name)

        def noted_close(self, close_it=close_it):
            close_it(self)
            closed.append(self.path.name)

        monkeypatch.setattr(reader, "open", noted_open)
        monkeypatch.setattr(reader, "close", noted_close)
    return opened, lambda: len(opened) - len(closed)


@pytest.mark.parametrize("kind", [*StoragePlugin, "ros1"])
def test_the_index_is_opened_once_however_often_the_recording_is_read(tmp_path, openings, kind):
    opened, open_now = openings
    if kind == "ros1":
        bag = Bag([write_ros1(tmp_path / "old.bag", camera_messages(Messages(ROS1)))])
    else:
        bag = Bag([write_ros2(tmp_path / "bag", RECORDED, kind)])
    find_cameras(bag)
    next(bag.messages(["/front/camera_info"]))  # a user who has enough
    assert [pictures(bag), pictures(bag)] == [[0, 1, 2, 3, 4, 5]] * 2 and len(opened) == 1
    # Who reads at the same time has a reader, and a place in the file, of his own.
    both = zip(bag.messages(["/front/image_raw"]), bag.messages(["/front/image_raw"]), strict=True)
    assert all(a.receive_ns == b.receive_ns and a is not b for a, b in both) and len(opened) == 2
    assert pictures(bag) == [0, 1, 2, 3, 4, 5] and len(opened) == 2
    assert open_now() == 1
    del bag
    assert open_now() == 0


def test_of_a_split_recording_few_files_are_open(tmp_path, openings):
    opened, open_now = openings
    split(tmp_path / "split", 8)
    bag = Bag([tmp_path / "split"])
    assert open_now() == 4
    assert len(pictures(bag)) == 8 * 6 and open_now() == 4
    assert len(opened) == 16  # to see what is in each, and to read it


def test_a_reader_that_met_damage_is_not_used_again(tmp_path, openings):
    open_now = openings[1]
    file = storage_file(write_ros2(tmp_path / "bag", RECORDED))
    bag = Bag([file])
    size = file.stat().st_size
    with file.open("r+b") as out:  # while the bag is open
        out.truncate(size // 3)
    assert len(pictures(bag)) < 6 and bag.lost
    assert open_now() == 0
