"""Programs that are replayed as graphs give what they give when they run one by one."""

import contextlib

import pytest
import torch

from da3_ros import cuda_graphs
from da3_ros.cuda_graphs import Replay

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]


@pytest.mark.parametrize("device", DEVICES)
def test_the_values_are_those_of_now_wherever_they_lie(device):
    replay = Replay(torch.device(device), limit=2)
    places = [torch.zeros(5, device=device) for _ in range(3)]
    for number in range(24):
        place = places[number % 3 if number > 12 else 0]
        place.fill_(number)
        found = replay.run("sum", (place, None), lambda place=place: (place * 2).sum())
        assert found.item() == number * 10
    assert len(replay._graphs) == (2 if device == "cuda" else 0)


@pytest.mark.gpu
@needs_cuda
def test_what_cannot_be_captured_runs_one_by_one():
    replay, value = Replay(torch.device("cuda"), limit=2), torch.ones(3, device="cuda")
    for _ in range(4):
        assert replay.run("item", (value,), lambda: value.sum().item()) == 3.0
    assert not replay._graphs
    # What it left behind would break random numbers and keep memory that another stream has used.
    assert torch.rand(3, device="cuda").isfinite().all()
    before, other = torch.cuda.memory_allocated(), torch.cuda.Stream()
    for _ in range(3):
        torch.empty(1 << 20, device="cuda").record_stream(other)
        torch.cuda.synchronize()
    torch.empty(1, device="cuda")  # memory comes back when the next is asked for
    assert torch.cuda.memory_allocated() <= before + (4 << 20)


def test_memory_that_runs_out_is_told_even_if_the_capture_cannot_end(monkeypatch):
    """Else a step that does not fit would be taken for one that cannot be captured, and tried again eagerly."""

    class BrokenGraph:
        def capture_begin(self, pool, capture_error_mode):
            pass

        def capture_end(self):
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", BrokenGraph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: _Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(cuda_graphs, "_tidy_up", lambda device, pool: None)
    for raised, told in ((torch.cuda.OutOfMemoryError("full"), "full"), (ValueError("other"), "previous error")):

        def program(raised=raised):
            raise raised

        with pytest.raises(RuntimeError, match=told) as found:
            cuda_graphs.capture(program, _Stream(), pool=1)
        assert isinstance(found.value, torch.cuda.OutOfMemoryError) == (told == "full")


class _Stream:
    device = torch.device("cpu")

    def wait_stream(self, other):
        pass


@pytest.mark.gpu
@needs_cuda
def test_a_replay_waits_for_the_reader_of_the_last_one():
    replay, value = Replay(torch.device("cuda"), limit=2), torch.zeros(1 << 20, device="cuda")
    reader, read, seen = torch.cuda.Stream(), None, []
    for number in range(12):
        value.fill_(number)
        found = replay.run("copy", (value,), value.clone, after=read)
        reader.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(reader):
            torch.cuda._sleep(1_000_000)
            seen.append(found.clone())
            read = torch.cuda.Event()
            read.record()
        found.record_stream(reader)
    torch.cuda.synchronize()
    assert [int(one[0]) for one in seen] == list(range(12))
    assert all(bool((one == one[0]).all()) for one in seen)
