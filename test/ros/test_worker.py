"""The hand-over to the inference thread: bounded, oldest dropped, exceptions carried back, a prompt end."""

import threading
import time

import pytest
from ros_harness import wait_until

from da3_ros.worker import Worker


class Recorder:
    """A worker whose handler can be held up."""

    def __init__(self, capacity):
        self.free = threading.Event()
        self.busy = threading.Event()
        self.handled, self.dropped, self.failures = [], [], []
        self.worker = Worker("test", self._handle, capacity, self.dropped.append, self.failures.append)

    def _handle(self, item):
        if isinstance(item, BaseException):
            raise item
        self.busy.set()
        assert self.free.wait(5.0)
        self.handled.append(item)


@pytest.fixture
def recorder():
    made = Recorder(2)
    yield made
    made.free.set()
    made.worker.stop(5.0)


def test_the_oldest_items_are_dropped_and_submitting_never_waits(recorder):
    recorder.worker.submit(0)
    assert recorder.busy.wait(5.0)
    start = time.monotonic()
    for item in range(1, 6):
        recorder.worker.submit(item)
    assert time.monotonic() - start < 1.0
    assert recorder.dropped == [1, 2, 3]
    recorder.free.set()
    wait_until(lambda: recorder.handled == [0, 4, 5])


def test_calls_go_before_items_and_carry_results_and_exceptions(recorder):
    recorder.worker.submit("first")
    assert recorder.busy.wait(5.0)
    recorder.worker.submit("second")
    seen = recorder.worker.call(lambda: list(recorder.handled))
    broken = recorder.worker.call(lambda: 1 / 0)
    recorder.free.set()
    assert seen.result(5.0) == ["first"]
    with pytest.raises(ZeroDivisionError):
        broken.result(5.0)
    wait_until(lambda: recorder.handled == ["first", "second"])


@pytest.mark.parametrize("how", ["item", "post"])
def test_an_exception_ends_the_thread_and_is_handed_over(recorder, how):
    error = RuntimeError("CUDA error")

    def fail():
        raise error

    if how == "item":
        recorder.worker.submit(error)
    else:
        recorder.worker.post(fail)
    wait_until(lambda: recorder.failures == [error])
    assert recorder.worker.stop(5.0)
    assert recorder.worker.call(lambda: 1).cancelled()


def test_stop_forgets_what_waits_and_tells_those_who_wait(recorder):
    recorder.worker.submit("in work")
    assert recorder.busy.wait(5.0)
    recorder.worker.submit("forgotten")
    waiting = recorder.worker.call(lambda: 1)
    assert not recorder.worker.stop(0.05)
    assert waiting.cancelled()
    recorder.free.set()
    assert recorder.worker.stop(5.0)
    assert recorder.handled == ["in work"]
    recorder.worker.submit("after the end")
