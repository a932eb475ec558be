"""Child processes: started together, told to end together, never left behind."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from da3_ros.bringup import Process

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

# The node promises to end within two seconds; this leaves room for a busy machine.
END_TIMEOUT_S = 10.0


def run_until_first_ends(processes: Sequence[Process]) -> int:
    """Run ``processes`` in the foreground; returns the exit code of the one that ends first.

    SIGINT and SIGTERM are passed on to all; when one process ends the others are told to end too. Raises
    UnavailableError when an executable is not installed.
    """
    commands = [process.command() for process in processes]
    ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def interrupt(number: int, frame: FrameType | None) -> None:
        ended.put(None)

    children = []
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for process, command in zip(processes, commands, strict=True):
            child = start(command, process.environment)
            children.append(child)
            threading.Thread(target=lambda child=child: ended.put(child.wait()), daemon=True).start()
        first = ended.get()
    finally:
        codes = [end(child) for child in children]
        for number, handler in previous.items():
            signal.signal(number, handler)
    return next((code for code in codes if code), 0) if first is None else first


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdout: IO | int | None = None,
    stderr: IO | int | None = None,
) -> subprocess.Popen:
    """Start a child in a process group of its own, so that a Ctrl-C at the terminal reaches it through us alone.

    On Linux it is told to end when we are killed. To be called from the main thread: the kernel takes the end of the
    thread that starts a child for ours.
    """
    parent = os.getpid()

    def end_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # killed before the line above
                os._exit(1)

    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def end(child: subprocess.Popen, timeout_s: float = END_TIMEOUT_S, number: signal.Signals = signal.SIGINT) -> int:
    """Tell a child to end and wait for it; killed when it does not. Returns its exit code, negative for a signal."""
    if child.poll() is None:
        child.send_signal(number)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as SIGINT does, so that children are ended with us."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def background(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A child that writes everything to ``log`` and is ended when the block is left."""
    with log.open("wb") as file:
        child = start(command, environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield child
        finally:
            end(child)
