"""A recording larger than memory should be: reading it takes as much memory as reading a small one."""

import subprocess
import sys

import numpy as np
import pytest
from bag_helpers import ROS1, ROS2, START_NS, STEP_NS, Messages, camera_messages, storage_file, write_ros1, write_ros2
from rosbags.rosbag2 import StoragePlugin

READ = """
import resource, sys
from pathlib import Path
from da3_ros.ingest.bag import Bag
bag = Bag([Path(sys.argv[1])])
size = sum(len(found.message.data) for found in bag.messages(["/front/image_raw"]))
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
WIDTH, HEIGHT = 1280, 720


def read(bag) -> tuple[int, int]:
    """Bytes of pictures read, and the most memory that the process had."""
    done = subprocess.run([sys.executable, "-c", READ, str(bag)], capture_output=True, text=True, check=True)
    size, memory = done.stdout.split()
    return int(size), int(memory)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("storage", [*StoragePlugin, None])
def test_three_gigabytes_are_streamed(tmp_path, storage, damaged, capsys):
    """``storage`` None: a ROS 1 bag."""
    messages = Messages(ROS2 if storage else ROS1)

    def written(name, recorded):
        if storage is None:
            return write_ros1(tmp_path / f"{name}.bag", recorded)
        return write_ros2(tmp_path / name, recorded, storage)

    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    count = 3_000_000_000 // pixels.nbytes
    large = written(
        "large",
        (
            ("/front/image_raw", START_NS + n * STEP_NS, messages.image(START_NS + n * STEP_NS, pixels))
            for n in range(count)
        ),
    )
    if damaged:
        file = storage_file(large) if storage else large
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size - 1_000_000)
    small = written("small", camera_messages(messages))
    (size, memory), (_, least) = read(large), read(small)
    with capsys.disabled():
        kind = storage.name if storage else "ROS 1"
        print(f"\n{kind}, damaged {damaged}: {size / 1e9:.2f} GB in {memory / 1e6:.0f} MB of memory "
              f"(a few pictures: {least / 1e6:.0f} MB)")  # fmt: skip
    assert size > 2.9e9
    assert memory - least < 100e6
