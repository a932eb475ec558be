"""Sizes of chunks."""


def divided(total: int, most: int) -> int:
    """The largest divisor of ``total`` that is at most ``most``: equal chunks, for which one compiled kernel does."""
    return next(size for size in range(min(total, max(most, 1)), 0, -1) if total % size == 0)
