"""What a step of tracking asks of the device, checked without one: where its tensors are, and how many operations."""

import pytest
import torch
import window_simulation as sim
from torch.utils._python_dispatch import TorchDispatchMode

from da3_ros.evaluation.operations import Operations
from da3_ros.streaming.programs import Programs
from da3_ros.tracking import ScaleFilter, Tracker
from da3_ros.tracking.dynamic import DynamicFilter
from da3_ros.tracking.scale_sources import SOURCES

CPU, META = torch.device("cpu"), torch.device("meta")


class NoUpload(TorchDispatchMode):
    """Within it nothing is brought from the host to a device: capturing that is refused, and otherwise it waits.

    A number that is assigned to a single entry of a tensor is brought there, too; one for several entries is filled in.
    """

    def __init__(self):
        super().__init__()
        self._numbers = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.scalar_tensor.default:
            self._numbers.append(result)
        elif func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default):
            source = args[-1]
            assert source.device == result.device, f"{func} from {source.device} to {result.device}"
            assert result.dim() or not any(source is number for number in self._numbers), "a number for one entry"
        return result


@pytest.fixture
def no_upload(monkeypatch):
    """In programs, once everything has been there."""

    def run(programs, name, program, *inputs):
        inputs = programs._upload(inputs)
        program(*(one.clone() for one in inputs))  # makes tables
        with NoUpload():
            return program(*inputs)

    monkeypatch.setattr(Programs, "run", run)


@pytest.mark.usefixtures("no_upload")
@pytest.mark.parametrize("rig", [sim.FRONT, sim.RING], ids=["one camera", "ring"])
def test_a_step_keeps_to_its_device_and_asks_for_no_value(rig):
    """Tensors without data stand for those on a GPU: to ask for one's value, or to mix it with one on the host, is an
    error."""
    tracker = Tracker(ScaleFilter(5.0, 5), META, 12)
    for window in sim.windows(sim.circle(5), rig, 3):
        tensors = window.T_cam_world, window.K, window.depth, torch.full_like(window.depth, 2.0), sim.colours(window)
        tracked = tracker.step(window.views, *(one.to(META) for one in tensors), rig, SOURCES, torch.empty(2).to(META))
        assert tracked.T_odom_cam.device == tracked.report.device == META
        tracker.exclude(tracked.weight > 0)


@pytest.mark.usefixtures("no_upload")
def test_the_search_for_what_moves_keeps_to_its_device_and_asks_for_no_value():
    moving, numbers = DynamicFilter(0.15, Programs(META, "eager", 0)), {"dtype": torch.float64, "device": META}
    for step in range(8):
        depth, K = torch.empty(2, 24, 32, device=META), torch.empty(2, 3, 3, device=META)
        poses, growth, centre = (torch.empty(shape, **numbers) for shape in ((2, 4, 4), (), (3,)))
        found = moving.step(step * 10**9, depth, K, poses, growth, centre)
        assert found.device == META and found.shape == depth.shape


@pytest.mark.parametrize(("rig", "most"), [(sim.FRONT, 1119), (sim.RING, 1123)], ids=["one camera", "ring"])
def test_a_step_is_few_operations(monkeypatch, rig, most):
    """On CUDA each costs one or two microseconds, whatever it does; a step has 3 ms (docs/tracking.md).

    In turn: without those that run beside others, which are more.
    """
    counted, beside = Operations(), []

    def counting(self, main, small):
        start = counted.total
        second = small()
        middle = counted.total
        first = main()
        beside.append(min(middle - start, counted.total - middle))
        return first, second

    monkeypatch.setattr(Programs, "beside", counting)
    tracker = Tracker(ScaleFilter(5.0, 5), CPU, 8)
    for window in list(sim.windows(sim.circle(10), rig, 8 // len(rig))):
        counted = Operations()
        beside.clear()
        with counted:
            sim.step(tracker, window, rig)
    assert len(window.views) == 8
    assert 0 < counted.total <= most, counted.total
    assert 0 < counted.total - sum(beside) <= 815, counted.total - sum(beside)
