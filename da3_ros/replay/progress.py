"""A progress bar over the time that was recorded, with the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_NS = 1_000_000_000
_BAR = "{l_bar}{bar}| {n:.1f} of {total:.1f} s recorded [{elapsed}, {remaining} left]"


@contextmanager
def recorded_time_bar(start_ns: int, stop_ns: int) -> Iterator[Callable[[int], None]]:
    """From ``start_ns`` to ``stop_ns``; what it gives is to be told the time of recording (ns) of every message.

    On terminals only. A bar within another one's work goes away at its end.
    """
    with tqdm(total=(stop_ns - start_ns) / _NS, bar_format=_BAR, leave=None, disable=not sys.stderr.isatty()) as bar:

        def seen(receive_ns: int) -> None:
            bar.update(max(0.0, (min(receive_ns, stop_ns) - start_ns) / _NS - bar.n))

        yield seen
        seen(stop_ns)
