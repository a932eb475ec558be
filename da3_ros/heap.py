"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 << 20  # bytes of one block; glibc takes no more
_MOST_KEPT = 256 << 20  # at the end of a heap


def keep_freed_memory() -> None:
    """For the whole process, for good: freed blocks of up to 32 MiB are used again, instead of given back at once.

    Arrays and messages of some megabytes that come and go with each set of images are otherwise made of pages that
    the kernel clears first, which takes longer than filling them. Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
