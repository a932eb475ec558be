"""Checksums: the values of zlib, with the faster library and without it."""

import importlib
import sys
import zlib
from random import Random

import pytest

from da3_ros import crc32


@pytest.fixture(params=["as it is", "not there"])
def module(request, monkeypatch):
    if request.param == "not there":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
        yield importlib.reload(crc32)
        monkeypatch.undo()
        importlib.reload(crc32)
    else:
        pytest.importorskip("isal")
        yield crc32


def test_it_is_zlibs(module):
    assert (module.crc32 is zlib.crc32) == (sys.modules["isal.isal_zlib"] is None)
    for size in (0, 1, 15, 64, 1000, 70_001):
        data = Random(size).randbytes(size)
        assert module.crc32(memoryview(data)) == zlib.crc32(data)
        assert module.crc32(data, 12345) == zlib.crc32(data, 12345)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 9), (9, 0), (1, 1), (1000, 3), (3, 1 << 20), (77, 1_234_567)])
def test_of_two_parts_it_is_that_of_both(module, sizes):
    first, second = (Random(size).randbytes(size) for size in sizes)
    assert module.crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
