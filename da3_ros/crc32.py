"""CRC-32 as zlib and mcap have it, by the fastest library that is installed: the values are the same."""

from __future__ import annotations

import zlib
from functools import cache

__all__ = ["crc32", "crc32_combine"]

# Polynomials over GF(2) modulo that of the CRC, whose bits are reversed: the highest one stands for x^0.
_MODULUS, _ONE, _X = 0xEDB88320, 1 << 31, 1 << 30


def _combine(first: int, second: int, second_bytes: int, /) -> int:
    """The CRC-32 of some bytes with the CRC ``first`` and ``second_bytes`` more behind them with the CRC ``second``.

    It is first * x^(8 * second_bytes) + second, as in zlib's own crc32_combine, which Python's zlib does not hand on.
    """
    return _product(first, _power_of_x(8 * second_bytes)) ^ second


def _power_of_x(exponent: int) -> int:
    result, bit = _ONE, 0
    while exponent >> bit:
        if exponent >> bit & 1:
            result = _product(result, _x_squared(bit))
        bit += 1
    return result


@cache
def _x_squared(times: int) -> int:
    return _product(_x_squared(times - 1), _x_squared(times - 1)) if times else _X


def _product(a: int, b: int) -> int:
    result = 0
    while a:
        if a & _ONE:
            result ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_MODULUS if b & 1 else 0)
    return result


try:
    from isal.isal_zlib import crc32, crc32_combine
except ImportError:  # three times as slow
    crc32, crc32_combine = zlib.crc32, _combine
