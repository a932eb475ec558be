"""Serialized messages straight to and from rcl, without the interpreter's lock.

rclpy copies a serialized message several times on its way, and a large one costs it several times what the middleware
needs, all of it with the lock of the interpreter held (docs/performance.md, "Through ROS"). Foreign functions are
called without that lock. The structures are those of rcutils (``rcutils/types/uint8_array.h``), which have been the
same since the first release of ROS 2.
"""

from __future__ import annotations

import ctypes
from collections import deque
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from da3_ros.errors import UnavailableError

_OK, _NOTHING_TAKEN = 0, 401  # RCL_RET_OK, RCL_RET_SUBSCRIPTION_TAKE_FAILED (rcl/types.h)
# Of one Taker: of that many cameras, what one set holds while the next one comes.
_MOST_FREE = 16


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Bytes(ctypes.Structure):
    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _Info(ctypes.Structure):
    """rmw_message_info_t (``rmw/types.h``), whose end differs between distributions."""

    _fields_ = [
        ("source_timestamp", ctypes.c_int64),
        ("received_timestamp", ctypes.c_int64),
        ("rest", ctypes.c_char * 240),
    ]


class _Text(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 1024)]


def publish(publisher: Any, data: np.ndarray) -> None:
    """Have an rclpy publisher send the serialized message ``data`` (n,) uint8, contiguous; it may change afterwards.

    Raises RuntimeError with what rcl says when it refuses.
    """
    message = _Bytes(data.ctypes.data, data.size, data.size)
    with publisher.handle:  # not destroyed meanwhile
        code = _rcl().rcl_publish_serialized_message(publisher.handle.pointer, ctypes.byref(message), None)
    _check(code, "publishing on", publisher)


class Taken(NamedTuple):
    """A serialized message (n,) uint8, and when (nanoseconds since 1970) it was published and received."""

    data: np.ndarray
    published_ns: int
    received_ns: int


class Taker:
    """Takes serialized messages into memory that is used again once the last array in it is gone.

    New memory for every image would cost more than the middleware's copy into it. Callable from one thread; arrays may
    be released in any.
    """

    def __init__(self) -> None:
        self._free: deque[_Block] = deque()

    def take(self, subscription: Any) -> Taken | None:
        """The oldest message that waits at an rclpy subscription; None when there is none.

        Raises RuntimeError with what rcl says when it fails.
        """
        loan, info = _Loan(self._free), _Info()
        with subscription.handle:
            code = _rcl().rcl_take_serialized_message(
                subscription.handle.pointer, ctypes.byref(loan.block.bytes), ctypes.byref(info), None
            )
        if code == _NOTHING_TAKEN:
            _rcutils().rcutils_reset_error()
            return None
        _check(code, "taking from", subscription)
        return Taken(loan.array(), info.source_timestamp, info.received_timestamp)


class _Block:
    """Memory that the middleware enlarges as it needs."""

    def __init__(self) -> None:
        self._library = _rcutils()  # outlives this
        self.bytes = _Bytes()
        allocator = self._library.rcutils_get_default_allocator()
        code = self._library.rcutils_uint8_array_init(ctypes.byref(self.bytes), 0, ctypes.byref(allocator))
        _check(code, "making room for a message")

    def __del__(self) -> None:
        self._library.rcutils_uint8_array_fini(ctypes.byref(self.bytes))


class _Loan:
    """A block of ``free``, or a new one; goes back there in the end."""

    def __init__(self, free: deque[_Block]):
        self._free = free
        try:
            self.block = free.popleft()
        except IndexError:
            self.block = _Block()

    def array(self) -> np.ndarray:
        """What the middleware wrote; holds this object."""
        content = self.block.bytes
        memory = (ctypes.c_uint8 * content.length).from_address(content.buffer)
        memory.owner = self
        return np.frombuffer(memory, np.uint8)

    def __del__(self) -> None:
        if len(self._free) < _MOST_FREE:
            self._free.append(self.block)


def _check(code: int, doing: str, on: Any = None) -> None:
    """``on``: the publisher or subscription, whose name is made anew each time it is asked for."""
    if code != _OK:
        doing += "" if on is None else f" {on.topic_name}"
        said = _rcutils().rcutils_get_error_string().text.decode(errors="replace")
        _rcutils().rcutils_reset_error()
        raise RuntimeError(f"{doing} failed with code {code}: {said}")


@cache
def _rcl() -> ctypes.CDLL:
    library = _load("librcl.so")
    library.rcl_publish_serialized_message.argtypes = [ctypes.c_void_p] * 3
    library.rcl_take_serialized_message.argtypes = [ctypes.c_void_p] * 4
    return library


@cache
def _rcutils() -> ctypes.CDLL:
    library = _load("librcutils.so")
    library.rcutils_get_default_allocator.restype = _Allocator
    library.rcutils_get_error_string.restype = _Text
    library.rcutils_uint8_array_init.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    library.rcutils_uint8_array_fini.argtypes = [ctypes.c_void_p]
    return library


def _load(name: str) -> ctypes.CDLL:
    """A library that rclpy has loaded already, so that its name alone finds it."""
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise UnavailableError(f"{name}, which rclpy is built on, cannot be loaded ({error})") from error
