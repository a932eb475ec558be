"""The hand-over of steps to the device and of their results to the publishing thread, with a device that is told when
it is done."""

import threading

import numpy as np
import pytest
from ros_harness import wait_until

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import Estimate, Frame, FrameSet, OutputRequest, ScaleEstimate
from da3_ros.errors import FrameError
from da3_ros.ros.engine import Engine, EngineHooks, ImageSet
from da3_ros.ros.stats import Stats


class Step:
    """A step on a device that is done when it is told."""

    def __init__(self, frame_set, number):
        self.frame_set = frame_set
        self.done = threading.Event()
        self.error = None
        self._estimate = Estimate(
            frame_set.stamp_ns, number, (), (), None, ScaleEstimate(), None, {}, {"network": 1.0, "download": 0.5}
        )

    def wait(self):
        assert self.done.wait(5.0)
        if self.error is not None:
            raise self.error

    def result(self):
        self.wait()
        return self._estimate


class Device:
    """The pipeline: submitting returns at once."""

    description = {"device": "fake"}
    skipped = 0

    def __init__(self):
        self.steps = []
        self.refused = ()
        self.resets = 0

    def submit(self, frame_set, request):
        for frame in frame_set.frames:
            if frame.camera in self.refused:
                raise FrameError(frame.camera, "size", "it is too small")
        self.steps.append(Step(frame_set, len(self.steps) + 1))
        return self.steps[-1]

    def reset(self):
        self.resets += 1

    def close(self):
        pass


class Running:
    """An engine on a Device; what it publishes, drops and fails with."""

    def __init__(self):
        self.device, self.stats = Device(), Stats(("left", "right"))
        self.published, self.dropped, self.failures = [], [], []
        hooks = EngineHooks(
            decode=lambda image_set: FrameSet(image_set.stamp_ns, tuple(image_set.images.values())),
            request=OutputRequest,
            rig=lambda frames: None,
            publish=lambda estimate, description: self.published.append(estimate.stamp_ns),
            dropped=self.dropped.append,
            failed=self.failures.append,
        )
        config = from_flat({"cameras": ("left", "right"), "sync.pending_sets": 1}, Config)
        self.engine = Engine(config, lambda _: self.device, hooks, self.stats)

    def send(self, stamp_ns):
        images = {name: Frame(name, stamp_ns, np.zeros((2, 2, 3), np.uint8)) for name in ("left", "right")}
        self.engine.submit(ImageSet(stamp_ns, images, 0.0, 0.0))


@pytest.fixture
def running():
    made = Running()
    yield made
    for step in made.device.steps:
        step.done.set()
    assert made.engine.close(5.0)


def submitted(running):
    return [step.frame_set.stamp_ns for step in running.device.steps]


def test_the_next_step_is_submitted_while_the_device_is_at_work_and_no_more(running):
    running.send(1)
    wait_until(lambda: submitted(running) == [1])
    running.send(2)
    wait_until(lambda: submitted(running) == [1, 2])
    # Two are under way: what comes now waits, and only the newest is kept.
    with pytest.raises(TimeoutError):
        running.engine._inference.call(lambda: None).result(0.2)
    for stamp in (3, 4, 5):
        running.send(stamp)
    assert running.stats.counts()["sets dropped before the network"] == 2
    assert submitted(running) == [1, 2]
    running.device.steps[0].done.set()
    wait_until(lambda: submitted(running) == [1, 2, 5])
    assert running.published == [1]


def test_a_result_is_published_when_it_is_there_and_not_with_the_next_set(running):
    running.send(1)
    wait_until(lambda: submitted(running) == [1])
    assert running.published == []
    running.device.steps[0].done.set()
    wait_until(lambda: running.published == [1])
    stages = running.stats.stages()
    assert stages["network"].p50 == 1.0 and stages["download"].p50 == 0.5 and "step" in stages
    assert running.stats.counts()["steps"] == 1


def test_results_are_published_in_order(running):
    for stamp in (1, 2):
        running.send(stamp)
        wait_until(lambda stamp=stamp: submitted(running)[-1:] == [stamp])
    running.device.steps[1].done.set()
    running.device.steps[0].done.set()
    wait_until(lambda: running.published == [1, 2])


def test_a_failure_on_the_device_ends_the_engine(running):
    running.send(1)
    wait_until(lambda: submitted(running) == [1])
    step = running.device.steps[0]
    step.error = RuntimeError("CUDA error")
    step.done.set()
    wait_until(lambda: running.failures)
    assert running.failures[0] is step.error and running.published == []


def test_a_refused_frame_is_left_out_of_the_set(running):
    running.device.refused = ("left",)
    running.send(1)
    wait_until(lambda: submitted(running) == [1])
    assert running.device.steps[0].frame_set.cameras == ("right",)
    assert [(error.camera, error.reason) for error in running.dropped] == [("left", "size")]
    running.device.steps[0].done.set()
    wait_until(lambda: running.published == [1])


def test_nothing_of_before_a_reset_comes_after_what_it_forgets(running, monkeypatch):
    """Not even of the step that was being submitted: its pose would begin the new path."""
    begun, go_on, said = threading.Event(), threading.Event(), running.published
    submit = running.device.submit

    def slow(*arguments):
        begun.set()
        assert go_on.wait(5.0)
        step = submit(*arguments)
        step.done.set()
        return step

    monkeypatch.setattr(running.device, "submit", slow)
    running.send(1)
    assert begun.wait(5.0)
    running.engine.reset(lambda: said.append("forgotten"))
    go_on.set()
    wait_until(lambda: running.device.resets == 1 and "forgotten" in said)
    running.send(2)
    wait_until(lambda: 2 in said)
    assert said in (["forgotten", 2], [1, "forgotten", 2])


def test_a_step_that_was_accepted_is_published_though_a_reset_comes(running):
    running.send(1)
    wait_until(lambda: submitted(running) == [1])
    forgotten = threading.Event()
    wait_until(lambda: not running.engine._publishing._items)  # the publishing thread waits for it
    running.engine.reset(forgotten.set)
    wait_until(lambda: running.device.resets == 1)
    running.device.steps[0].done.set()
    wait_until(forgotten.is_set)
    assert running.published == [1]
