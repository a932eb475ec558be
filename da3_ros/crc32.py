"""CRC-32 as zlib and mcap have it, by the fastest library that is installed: the values are the same."""

from __future__ import annotations

from functools import lru_cache

try:
    from isal.isal_zlib import crc32
except ImportError:  # zlib takes three times as long
    from zlib import crc32

__all__ = ["crc32", "crc32_of_both"]

# Polynomials over GF(2) modulo that of the CRC, whose bits are reversed: the highest one stands for x^0.
_MODULUS, _ONE, _X = 0xEDB88320, 1 << 31, 1 << 30


def crc32_of_both(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of some bytes with the CRC ``first`` and ``second_bytes`` more behind them with the CRC ``second``.

    It is first * x^(8 * second_bytes) + second, as in zlib's crc32_combine, which Python's zlib does not hand on.
    """
    return _product(first, _power_of_x(8 * second_bytes)) ^ second


@lru_cache(1024)
def _power_of_x(exponent: int) -> int:
    result, square = _ONE, _X
    while exponent:
        if exponent & 1:
            result = _product(result, square)
        square, exponent = _product(square, square), exponent >> 1
    return result


def _product(a: int, b: int) -> int:
    result = 0
    while a:
        if a & _ONE:
            result ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_MODULUS if b & 1 else 0)
    return result
