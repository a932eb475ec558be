"""A process around one node: signals, the executor's thread, a clean end within two seconds, and the exit code."""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn, Protocol

import rclpy
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions

from da3_ros.errors import Da3Error
from da3_ros.turns import shorten_turns

# Seconds between two looks for signals that have come.
_LOOK_S = 0.2
# Out of the two seconds that a clean end may take: for the callback in work, and for the step in work.
_CALLBACK_TIMEOUT_S = 0.5
_CLOSE_TIMEOUT_S = 1.0
# When the middleware hangs while it closes, which Fast DDS over TCP has been seen to do, a signal ends the process.
_HANG_TIMEOUT_S = 4.0


class RunnableNode(Protocol):
    """A rclpy Node that can be started and closed."""

    def start(self) -> bool:
        """Do what the parameters ask for at start-up; False ends the process with exit code 1."""

    def close(self, timeout_s: float) -> bool:
        """Release everything; False when a thread is still busy after ``timeout_s``."""

    def destroy_node(self) -> None:
        """As Node."""


def run(make_node: Callable[[], RunnableNode], args: list[str] | None = None) -> int:
    """Spin the node until SIGINT or SIGTERM (exit code 0) or until it fails (1); returns the exit code.

    ``args``: command line with ROS arguments; None for ``sys.argv``. Does not return while a model is loading: the
    process then ends at once, with the same exit code. To be called once, in the main thread, and followed by
    ``end_process``.
    """
    # A SimpleQueue because its put is safe in a signal handler. None: end without an error.
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    shorten_turns()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.put(None))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        print(f"da3_node: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = _Spinner(executor, ends)

    def start() -> None:
        if not node.start():
            ends.put(StartFailed())

    executor.create_task(start)
    spinner.start()

    code = _report(_wait(ends))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _HANG_TIMEOUT_S)
    if not spinner.stop(_CALLBACK_TIMEOUT_S):
        _exit_now(code)  # a model that is loading cannot be interrupted, and is using the node
    node.close(_CLOSE_TIMEOUT_S)  # nor can a step on the device; that ends with the process
    executor.remove_node(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return code


def end_process(code: int) -> NoReturn:
    """End with ``code``, without the interpreter's own teardown, which takes a second once torch is loaded."""
    gc.collect()  # ends the DDS participant, so that everybody else sees the node go
    _exit_now(code)


class StartFailed(Da3Error):
    """The node said in its log why it could not start."""


class _Spinner:
    """Runs the executor in a thread, so that the main thread is free for signals."""

    def __init__(self, executor: SingleThreadedExecutor, ends: queue.SimpleQueue[BaseException | None]):
        self._executor = executor
        self._ends = ends
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="executor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish the callback in work; False when it takes longer than ``timeout_s``."""
        self._stopping.set()
        self._executor.create_task(lambda: None)  # wakes spin_once
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _spin(self) -> None:
        try:
            while not self._stopping.is_set():
                self._executor.spin_once()
        except (ExternalShutdownException, ROSInterruptException):
            self._ends.put(None)
        except BaseException as error:
            self._ends.put(error)


def _wait(ends: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    """What ends the process. Handlers run in this thread, and a signal that the kernel gave to another thread does not
    wake this one: with CUDA's and the compiler's threads in the process it has happened again and again."""
    while True:
        try:
            return ends.get(timeout=_LOOK_S)
        except queue.Empty:
            continue


def _report(reason: BaseException | None) -> int:
    """Say what ended the process, where nobody has said it yet; returns the exit code."""
    if reason is None:
        return 0
    if not isinstance(reason, StartFailed):
        traceback.print_exception(reason, file=sys.stderr)
    return 1


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
