"""mcap files: the bytes of the mcap library's own writer, whatever is written in which order, and by which CRC."""

import io
import zlib
from random import Random

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import CRCValidationError, StreamReader
from mcap.writer import CompressionType, Writer

from da3_ros import crc32
from da3_ros.egress import mcap_file
from da3_ros.egress.bag import BagWriter
from da3_ros.egress.mcap_file import CHUNK_BYTES, McapFile
from da3_ros.egress.message_types import message_builder
from da3_ros.ingest.bag import Bag

START_NS = 10**18


@pytest.fixture(params=["installed", "not installed"])
def _crc(request, monkeypatch):
    """The faster library of checksums, and what stands in for it."""
    if request.param == "not installed":
        monkeypatch.setattr(mcap_file, "crc32", zlib.crc32)
        monkeypatch.setattr(mcap_file, "crc32_combine", crc32._combine)


def message(random: Random, size: int) -> tuple[int, bytes]:
    """Times out of order, some before the others of a chunk."""
    return START_NS + random.randrange(10**9), random.randbytes(size)


def steps(seed: int) -> list[tuple]:
    random = Random(seed)
    sizes = [0, 1, 30, 4000, CHUNK_BYTES // 3, CHUNK_BYTES - 31, CHUNK_BYTES - 30, 3 * CHUNK_BYTES]
    made: list[tuple] = [("schema", "a/msg/A", b"int32 x"), ("channel", "/a", 1)]
    for number in range(60):
        kind = random.choices(["message", "flush", "channel", "schema", "metadata"], [20, 2, 1, 1, 1])[0]
        if kind == "message":
            channels = sum(step[0] == "channel" for step in made)
            made.append((kind, random.randint(1, channels), *message(random, random.choice(sizes))))
        elif kind == "channel":
            made.append((kind, f"/{number}", random.randint(1, sum(step[0] == "schema" for step in made))))
        else:
            made.append((kind, f"{number}", random.randbytes(50)))
    return made


def by_library(made) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream, CHUNK_BYTES, CompressionType.NONE, enable_crcs=True, enable_data_crcs=True)
    writer.start("ros2", "us")
    _write(writer, made, lambda channel, log_ns, data: writer.add_message(channel, log_ns, data, log_ns))
    return stream.getvalue()


def by_us(made) -> bytes:
    """Messages in three pieces, one of them empty where the message is short."""
    stream = io.BytesIO()
    writer = McapFile(stream, "ros2", "us")

    def add(channel, log_ns, data):
        writer.add_message(channel, log_ns, [data[:7], memoryview(data)[7:-1], data[7:][-1:]])

    _write(writer, made, add, lambda size: size == len(stream.getvalue()))
    return stream.getvalue()


def _write(writer, made, add_message, right_size=lambda size: True):
    for kind, *what in made:
        if kind == "message":
            add_message(*what)
        elif kind == "channel":
            writer.register_channel(what[0], "cdr", what[1], {"qos": "none"})
        elif kind == "schema":
            writer.register_schema(what[0], "ros2msg", what[1])
        elif kind == "metadata":
            writer.add_metadata(what[0], {"data": what[1].hex()})
        else:
            assert right_size(writer.flush())
    writer.finish()


@pytest.mark.usefixtures("_crc")
@pytest.mark.parametrize("seed", range(2))
def test_the_bytes_are_those_of_the_library(seed):
    made = steps(seed)
    assert by_us(made) == by_library(made)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_files_without_messages(count):
    made = [("schema", "a/msg/A", b"int32 x"), ("channel", "/a", 1)][:count] + [("flush",), ("metadata", "m", b"1")]
    assert by_us(made) == by_library(made)


def test_the_library_reads_it_and_notices_a_changed_byte():
    made = [step for step in steps(7) if step[0] != "metadata"]
    written = by_us(made)
    messages = sorted((step[2], step[3]) for step in made if step[0] == "message")

    def read(data: bytes) -> list[tuple[int, bytes]]:
        list(StreamReader(io.BytesIO(data), validate_crcs=True).records)  # the whole data section's checksum, too
        found = make_reader(io.BytesIO(data), validate_crcs=True).iter_messages()
        return sorted((one.log_time, bytes(one.data)) for _, _, one in found)

    assert read(written) == messages
    changed = bytearray(written)
    changed[len(written) // 2] ^= 1
    with pytest.raises(CRCValidationError):
        read(bytes(changed))


def cloud(number: int):
    values = np.random.default_rng(number).random((60, 50, 4), np.float32)
    return message_builder().image(values[..., 0], START_NS + number, "camera")


def test_pixels_are_written_from_where_they_are(tmp_path):
    """And what was cut off is read as far as it goes."""
    written = [cloud(number) for number in range(300)]
    with BagWriter(tmp_path / "bag") as writer:
        for number, image in enumerate(written):
            writer.write("/camera/depth", START_NS + number, image)
        held = [piece for piece in writer._writer._pieces if len(piece) == image.data.nbytes]
        assert held and np.shares_memory(np.frombuffer(held[-1], np.uint8), written[-1].data)
    file = writer.file
    bag = Bag([file])
    assert bag.unchecked is None
    assert [bytes(one.message.data) for one in bag.messages(["/camera/depth"])] == [bytes(i.data) for i in written]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 2 // 3])
    bag = Bag([file])
    found = [bytes(one.message.data) for one in bag.messages(["/camera/depth"])]
    assert found == [bytes(image.data) for image in written[: len(found)]] and 190 <= len(found) <= 200
    assert any("the file ends within the record" in text for text in bag.lost)
