"""Progress bars with the time that is left, on terminals only. One within another one's work goes away at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from da3_ros.ingest.bag import Bag, BagMessage

_NS = 1_000_000_000
_BAR = "{l_bar}{bar}| {n:.1f} of {total:.1f} s recorded [{elapsed}, {remaining} left]"


@contextmanager
def recorded_time_bar(start_ns: int, stop_ns: int, what: str = "") -> Iterator[Callable[[int], None]]:
    """Over the time that was recorded, for ``what``; what it gives is to be told when every message was (ns)."""
    total, shown = max(0, stop_ns - start_ns) / _NS, sys.stderr.isatty()
    with tqdm(desc=what or None, total=total, bar_format=_BAR, leave=None, disable=not shown) as bar:

        def seen(receive_ns: int) -> None:
            bar.update(max(0.0, (min(receive_ns, stop_ns) - start_ns) / _NS - bar.n))

        yield seen
        seen(stop_ns)


def watched_messages(
    bag: Bag, topics: Collection[str], what: str = "", start_ns: int = 0, stop_ns: int = 2**63 - 1
) -> Iterator[BagMessage]:
    """As ``Bag.messages``, with a bar."""
    with recorded_time_bar(max(start_ns, bag.start_ns), min(stop_ns, bag.end_ns), what) as seen:
        for found in bag.messages(topics, start_ns, stop_ns):
            seen(found.receive_ns)
            yield found
