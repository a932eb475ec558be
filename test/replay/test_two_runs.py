"""Two replays of one recording, each in a process of its own as users run them, are equal to the byte.

Within one process the second would take over which kernels the first had found fastest, and prove nothing.
"""

import subprocess
import sys

import pytest
import torch

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_sequence import procedural_sequence
from da3_ros.ingest.bag import Bag
from da3_ros.share import share_folder

STEPS = 16
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
# The bundled network with its weights; tracking, loops and map are on. Voxels: sums of many points on the device.
PARAMETERS = ["model.variant=da3-nano", "model.process_res=168", "window.sets=2", "points.voxel_m=0.05",
              "loops.interval=2"]  # fmt: skip


@pytest.fixture(scope="module")
def bag(request, tmp_path_factory):
    """Two cameras that turn in a rendered room; the pictures raw, or compressed: a GPU unpacks JPEG by itself."""
    threads = torch.get_num_threads()
    path = tmp_path_factory.mktemp("bags") / "turn.mcap"
    write_sequence(procedural_sequence(2, STEPS, seed=3, motion="turn"), path, request.param)
    torch.set_num_threads(threads)
    return path


def replay(bag, output, *parameters) -> bytes:
    command = [sys.executable, "-m", "da3_ros.cli.main", "replay", str(bag), "--output", str(output), "--set"]
    done = subprocess.run(
        [*command, *PARAMETERS, *parameters], capture_output=True, text=True, cwd=share_folder(), check=False
    )
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("bag", "device", "execution"),
    [
        pytest.param("compressed", "cpu", "auto", marks=pytest.mark.slow),
        # Graphs of torch's own kernels: nothing is compiled for a short recording, unless it is asked for.
        pytest.param("compressed", "cuda", "auto", marks=ON_CUDA),
        pytest.param("raw", "cuda", "eager", marks=ON_CUDA),
        pytest.param("raw", "cuda", "compiled", marks=ON_CUDA),
    ],
    indirect=["bag"],
)
def test_two_runs_give_the_same_bytes(bag, tmp_path, device, execution):
    run = [f"model.device={device}", f"model.execution={execution}"]
    first, second = (replay(bag, tmp_path / name, *run) for name in ("first.mcap", "second.mcap"))
    if first != second:
        assert not differing(tmp_path / "first.mcap", tmp_path / "second.mcap")  # says where
    assert first == second
    recording = Bag([tmp_path / "first.mcap"])
    counts = {name: topic.messages for name, topic in recording.topics.items()}
    cameras = [name for name in counts if name.endswith("/depth/image_rect")]
    assert len(cameras) == 2 and all(counts[name] == STEPS for name in (*cameras, "/points", "/odometry", "/window"))
    assert counts["/da3_node/map_points"] > 0


def differing(a, b) -> dict[str, int]:
    """How many messages of each topic differ, or are only in one."""
    both = []
    for path in (a, b):
        both.append([(raw.topic, raw.receive_ns, bytes(raw.data)) for raw in Bag([path]).raw()])
    found: dict[str, int] = {}
    for topic in {topic for topic, *_ in both[0] + both[1]}:
        left, right = ([entry for entry in messages if entry[0] == topic] for messages in both)
        count = sum(one != other for one, other in zip(left, right, strict=False)) + abs(len(left) - len(right))
        found |= {topic: count} if count else {}
    return found
