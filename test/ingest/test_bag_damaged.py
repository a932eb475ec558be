"""Recordings that are cut off or damaged: what is readable comes out, and what is lost is said."""

import numpy as np
import pytest
from bag_helpers import ROS1, ROS2, START_NS, STEP_NS, Messages, storage_file, write_ros1, write_ros2
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from da3_ros.egress.bag import BagWriter
from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.ingest.bag_scan_sqlite import scan_sqlite
from da3_ros.ingest.decompress import zstd

COUNT = 40
SIZE = 200  # pictures of 120 kB each: many chunks


def recording(store=ROS2):
    messages, noise = Messages(store), np.random.default_rng(0)
    return [
        (
            "/front/image_raw",
            START_NS + number * STEP_NS,
            messages.image(START_NS + number * STEP_NS, noise.integers(0, 255, (SIZE, SIZE, 3), np.uint8)),
        )
        for number in range(COUNT)
    ]


def numbers(bag: Bag) -> list[int]:
    return [(found.receive_ns - START_NS) // STEP_NS for found in bag.messages(["/front/image_raw"])]


def cut(file, share):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def damage_a_chunk(file):
    """Overwrite where the compressed data of a chunk half-way begins."""
    data = bytearray(file.read_bytes())
    place = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)
    data[place : place + 4] = b"gone"
    file.write_bytes(data)


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_an_mcap_file_that_was_cut_off_gives_what_came_before(tmp_path, compression):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), compression=compression))
    cut(file, 0.5)
    bag = Bag([file])
    found = numbers(bag)
    assert found == list(range(len(found))) and 0.4 * COUNT <= len(found) <= 0.5 * COUNT
    assert bag.topics["/front/image_raw"].messages == len(found)
    assert any("read from the front" in text for text in bag.lost)
    assert any("the file ends within the record" in text for text in bag.lost)


def test_a_recorder_that_died_left_no_metadata_either(tmp_path):
    folder = write_ros2(tmp_path / "bag", recording())
    cut(storage_file(folder), 0.7)
    (folder / "metadata.yaml").unlink()
    bag = Bag([folder])
    assert len(numbers(bag)) >= 0.6 * COUNT
    assert any("metadata.yaml is missing" in text for text in bag.lost)


def test_a_damaged_chunk_costs_only_itself(tmp_path):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), compression=CompressionMode.STORAGE))
    damage_a_chunk(file)
    bag = Bag([file])
    assert bag.lost == []  # the index is whole: nothing is known until it is read
    found = numbers(bag)
    assert found == sorted(set(found)) and found[0] == 0 and found[-1] == COUNT - 1
    assert 0.7 * COUNT < len(found) < COUNT
    assert any("its index is of no use" in text for text in bag.lost) and any("a chunk of" in text for text in bag.lost)


def test_a_cut_off_or_damaged_sqlite_file(tmp_path):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), StoragePlugin.SQLITE3))
    whole = file.read_bytes()
    cut(file, 0.6)
    bag = Bag([file])
    found = numbers(bag)
    assert found == list(range(len(found))) and 0.4 * COUNT <= len(found) <= 0.65 * COUNT
    assert any("rows" in text for text in bag.lost)
    file.write_bytes(whole[:100])
    with pytest.raises(InputError, match="list of topics"):
        Bag([file])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_damaged_pages_of_a_sqlite_file_cost_only_the_rows_on_them(tmp_path, share):
    """Pages that were overwritten, as by a bad sector: the rows before and behind them are whole."""
    file = storage_file(write_ros2(tmp_path / "bag", recording(), StoragePlugin.SQLITE3))
    data = bytearray(file.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    start = int(len(data) * share) // page * page
    data[start : start + 4 * page] = b"\xff" * (4 * page)
    file.write_bytes(data)
    bag = Bag([file])
    found = numbers(bag)
    missing = COUNT - len(found)
    assert found == sorted(set(found)) and found[0] == 0 and found[-1] == COUNT - 1 and missing in (1, 2)
    index, rows = bag.lost
    assert "its index is of no use (database disk image is malformed)" in index
    assert rows == f"{file.name}: {missing} rows (database disk image is malformed)"
    # The last page of a picture is pixels alone: that those were changed nobody can see, which is said.
    whole = {at: message.data for _, at, message in recording()}
    changed = [each for each in bag.messages() if not np.array_equal(each.message.data, whole[each.receive_ns])]
    assert len(changed) <= 1 and "values that were changed on the disk would go unnoticed" in bag.unchecked
    scanned = [item for item in scan_sqlite(file, lambda _: None) if isinstance(item, RawMessage)]
    assert [(item.receive_ns - START_NS) // STEP_NS for item in scanned] == found  # also the row before the damage


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_messages_that_are_compressed_each_and_cut_off(tmp_path, storage):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), storage, CompressionMode.MESSAGE))
    cut(file, 0.6)
    bag = Bag([file])
    found = numbers(bag)
    assert found == list(range(len(found))) and 0.4 * COUNT <= len(found) <= 0.65 * COUNT
    assert any("the file ends within" in text or "rows" in text for text in bag.lost)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_damaged_one_of_messages_that_are_compressed_each_costs_only_itself(tmp_path, storage):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), storage, CompressionMode.MESSAGE))
    data = bytearray(file.read_bytes())
    place = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)
    data[place + 4 : place + 8] = b"gone"
    file.write_bytes(data)
    bag = Bag([file])
    found = numbers(bag)
    assert len(found) == COUNT - 1 and found == sorted(set(found)) and found[-1] == COUNT - 1
    assert any("1 messages of /front/image_raw cannot be unpacked" in text for text in bag.lost), bag.lost


@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_a_ros1_bag_that_was_cut_off_or_never_closed(tmp_path, compression):
    file = write_ros1(tmp_path / "old.bag", recording(ROS1), compression)
    cut(file, 0.5)
    active = file.rename(tmp_path / "old.bag.active")
    bag = Bag([active])
    found = numbers(bag)
    assert found == list(range(len(found))) and 0.3 * COUNT <= len(found) <= 0.5 * COUNT
    assert any("read from the front" in text for text in bag.lost)


def test_a_compressed_file_that_was_cut_off(tmp_path):
    file = storage_file(write_ros2(tmp_path / "bag", recording(), compression=CompressionMode.FILE))
    assert file.suffix == ".zstd"
    cut(file, 0.5)
    bag = Bag([file])
    assert 0.3 * COUNT <= len(numbers(bag)) <= 0.5 * COUNT
    assert any("cannot be unpacked to its end" in text for text in bag.lost)


def test_bytes_that_are_no_message_of_their_type_are_counted(tmp_path):
    from rosbags.rosbag2 import Writer

    good = recording()[0][2]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/front/image_raw", good.__msgtype__, typestore=ROS2)
        writer.write(connection, START_NS, bytes(ROS2.serialize_cdr(good, good.__msgtype__)))
        writer.write(connection, START_NS + STEP_NS, b"\x00\x01\x00\x00nothing")
    bag = Bag([tmp_path / "bag"])
    assert numbers(bag) == [0]
    assert bag.lost == ["1 messages of /front/image_raw cannot be deserialized"]


def checked_recording(path):
    """As ours are."""
    with BagWriter(path) as writer:
        for topic, receive_ns, message in recording():
            kind = message.__msgtype__
            writer.write_raw(topic, kind, receive_ns, ROS2.serialize_cdr(message, kind), ROS2)
    return writer.file


def flip(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 0x10
    file.write_bytes(data)


def test_a_changed_pixel_in_a_recording_of_ours_is_noticed(tmp_path):
    file = checked_recording(tmp_path / "bag")
    assert numbers(Bag([file])) == list(range(COUNT)) and Bag([file]).unchecked is None
    flip(file, file.stat().st_size // 2)
    bag = Bag([file])
    found = numbers(bag)
    assert found == sorted(set(found)) and found[-1] == COUNT - 1 and COUNT - 12 <= len(found) < COUNT
    assert any("checksum" in text and "a chunk of" in text for text in bag.lost)
    assert bag.unchecked is None


def test_a_changed_byte_in_the_index_is_noticed(tmp_path):
    """Its times would leave chunks out."""
    file = checked_recording(tmp_path / "bag")
    flip(file, file.stat().st_size - 300)
    bag = Bag([file])
    assert numbers(bag) == list(range(COUNT))
    (text,) = bag.lost
    assert text == f"{file.name}: its index cannot be used (its checksum does not fit), so it is read from the front"


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (StoragePlugin.MCAP, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
    ],
)
def test_recordings_without_checksums_are_named(tmp_path, storage, compression):
    folder = write_ros2(tmp_path / "bag", recording(), storage, compression)
    bag = Bag([folder])
    name = storage_file(folder).name
    assert bag.unchecked == f"{name} has no checksums: values that were changed on the disk would go unnoticed"
    write_ros2(tmp_path / "other", recording())
    assert "and 1 more have no checksums" in Bag([folder, tmp_path / "other"]).unchecked


@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_checksums_of_ros1_bags(tmp_path, compression):
    """Those that are said to be there do find a changed byte."""
    file = write_ros1(tmp_path / "old.bag", recording(ROS1), compression)
    bag = Bag([file])
    assert (bag.unchecked is None) == (compression == Ros1Writer.CompressionFormat.BZ2)
    if bag.unchecked is None:
        flip(file, file.stat().st_size // 2)
        bag = Bag([file])
        assert len(numbers(bag)) < COUNT and bag.lost


def test_damaged_messages_count_once_however_the_recording_is_read(tmp_path):
    """Read twice, in overlapping parts by two readers, and by one that stops before the end."""
    from rosbags.rosbag2 import Writer

    good = recording()[0][2]
    topic = "/front/image_raw"
    stored = bytes(ROS2.serialize_cdr(good, good.__msgtype__))
    # Two were recorded at one time, of which both are no message; 5 in all.
    damaged = [(2, b"\x00\x01\x00\x00no"), (2, b"\x00\x01\x00\x00none"), (5, b"\x00\x01\x00\x00nothing")]
    unpackable = [(3, zstd.compress(stored)[:-40]), (6, zstd.compress(stored)[:-40])]
    with Writer(tmp_path / "bag {}", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(topic, good.__msgtype__, typestore=ROS2)
        for number, data in sorted([*((n, stored) for n in (0, 1, 4, 7)), *damaged, *unpackable]):
            writer.write(connection, START_NS + number * STEP_NS, data)
    name = storage_file(tmp_path / "bag {}").name
    wanted = [f"{name}: 2 messages of {topic} cannot be unpacked", f"3 messages of {topic} cannot be deserialized"]
    whole, first, second = (Bag([tmp_path / "bag {}"]) for _ in range(3))
    assert numbers(whole) == numbers(whole) == [0, 1, 4, 7]
    assert sorted(whole.lost) == sorted(wanted)
    assert len(list(first.messages([topic], 0, START_NS + 4 * STEP_NS))) == 2
    assert f"2 messages of {topic} cannot be deserialized" in first.lost
    stopped = second.messages([topic], START_NS + 3 * STEP_NS)
    assert [next(stopped).receive_ns, next(stopped).receive_ns] == [START_NS + n * STEP_NS for n in (4, 7)]
    joined = first.losses()
    joined.merge(second.losses())
    assert sorted(joined.texts()) == sorted(wanted)
