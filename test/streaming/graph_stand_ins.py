"""CUDA graphs and the compiler as stand-ins that count, so that what runs on a GPU can be followed on a CPU."""

from dataclasses import dataclass, field, fields, is_dataclass

import pytest
import torch

from da3_ros.model.regions import compiled_regions
from da3_ros.streaming import engine, memory, networks, programs


@dataclass
class Made:
    """What was compiled and captured so far."""

    compiled: list = field(default_factory=list)  # the source of each artefact
    captured: list = field(default_factory=list)


class _Stream:
    def __init__(self, device=None, priority=0):
        pass

    def wait_stream(self, other):
        pass


class _Graph:
    """Replays a program by running it, into the tensors that its capture returned."""

    def __init__(self, program, outputs):
        self._program, self._outputs = program, outputs

    def replay(self):
        _overwrite(self._outputs, self._program())


def _overwrite(old, new):
    if isinstance(old, torch.Tensor):
        old.copy_(new)
    elif is_dataclass(old):
        for one in fields(old):
            _overwrite(getattr(old, one.name), getattr(new, one.name))
    elif isinstance(old, (tuple, list)):
        for ours, theirs in zip(old, new, strict=True):
            _overwrite(ours, theirs)


@pytest.fixture
def made(monkeypatch):
    """Streams of ``execution`` compiled run on the CPU as on CUDA; what they compile and capture is counted."""
    torch._dynamo.reset()
    found = Made()

    def compile_(graph, inputs):
        found.compiled.append(graph.code)
        return graph.forward

    def capture(program, stream, pool):
        outputs = program()
        graph = _Graph(program, outputs)
        found.captured.append(graph)
        return graph, outputs

    monkeypatch.setattr(engine, "choose_execution", lambda name, device: name)
    monkeypatch.setattr(networks, "choose_execution", lambda name, device: name)
    monkeypatch.setattr(memory, "choose_execution", lambda name, device: name)
    monkeypatch.setattr(programs, "capture", capture)
    monkeypatch.setattr(programs, "compiled_regions", lambda new: compiled_regions(new=new, backend=compile_))
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    yield found
    torch._dynamo.reset()
